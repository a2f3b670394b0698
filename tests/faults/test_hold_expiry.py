"""Does an abandoned seat come back by itself, in time, and not a moment before?"""

import time
from uuid import UUID

from consumers.lifecycle import declare_topology
from tests.builders import settings_of
from tests.eventually import eventually
from tests.faults.world import World

HOLD_SECONDS = 3
BACK_WITHIN_SECONDS = 2.0
NO_SWEEP = {"sweep_seconds": "600"}


async def test_an_abandoned_seat_is_back_on_sale_within_two_seconds_of_its_expiry(world: World) -> None:
    """Through the wait queue alone: the sweep is as good as switched off. The record itself says "available" again, so
    nothing depends on the next buyer finding out that the hold is over."""
    await declare_topology(settings_of(world.stack, hold_seconds=HOLD_SECONDS))
    event = await world.an_event(seats=4)
    world.start_consumers(hold_seconds=str(HOLD_SECONDS), **NO_SWEEP)
    buyer = await world.a_buyer(event)
    held_at = time.monotonic()
    await buyer.hold(event.seats[:2])

    async def is_free_again() -> bool:
        return set((await event.sale.statuses()).values()) == {"available"}

    assert not await is_free_again()
    await eventually(is_free_again, within_seconds=HOLD_SECONDS + BACK_WITHIN_SECONDS + 1)
    took = time.monotonic() - held_at
    assert HOLD_SECONDS - 0.5 <= took <= HOLD_SECONDS + BACK_WITHIN_SECONDS, f"free again after {took:.1f} s"
    await event.sale.ledger_agrees_with_seats()


async def test_a_hold_whose_message_was_lost_is_found_by_the_sweep(world: World) -> None:
    event = await world.an_event(seats=4)
    world.start_consumers(sweep_seconds="0.5")
    buyer = await world.a_buyer(event)
    hold = await buyer.hold(event.seats[:2])
    await event.sale.end_holds_now(UUID(hold.id))

    async def is_free_again() -> bool:
        return set((await event.sale.statuses()).values()) == {"available"}

    await eventually(is_free_again, within_seconds=10)
    await event.sale.ledger_agrees_with_seats()
