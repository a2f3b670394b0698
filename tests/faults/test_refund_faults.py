"""Is everybody refunded exactly once when an event is cancelled in the middle of everything, whatever dies and whatever the
payment provider does?

Well means: whoever was charged has all of it back, whoever was not has nothing to get, nobody has a valid ticket, and nothing
was sold after the cancellation.
"""

import asyncio
from contextlib import suppress
from uuid import UUID, uuid4

import aiohttp
import pytest

from contracts.commands import CancelEvent
from contracts.ids import CommandId, SeatId, UserId
from ops.verify import simulator_log_path, verify_event
from tests.eventually import eventually
from tests.faults.test_crash_matrix import tell
from tests.faults.world import Buyer, Event, World

NOT_BROKEN = {"payment_breaker_failures": "1000"}
BUYERS, SEATS_EACH = 8, 2
# Shorter than the read timeout of these tests: the provider is slow, and answers.
SLOW_MS = 200


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_cancellation_among_checkouts_and_captures_refunds_everybody_once(world: World, killed: bool) -> None:
    event = await world.an_event(seats=2 * BUYERS * SEATS_EACH, ticket_limit=6)
    world.start_consumers(**NOT_BROKEN)
    sold = [await world.a_buyer(event) for _ in range(BUYERS)]
    await asyncio.gather(*(buys(buyer, event.seats, place) for place, buyer in enumerate(sold)))
    await world.script("confirm", "delay", ms=SLOW_MS, times=BUYERS)
    await world.script("capture", "drop_reply", times=3)
    await world.script("refund", "500_after_effect", times=2)
    await world.script("refund", "drop_reply", times=2)
    paying = [await world.a_buyer(event) for _ in range(BUYERS)]
    buying = [asyncio.create_task(buys(buyer, event.seats, BUYERS + place)) for place, buyer in enumerate(paying)]
    try:
        await eventually(lambda: are_ordered(world, event, BUYERS + 2), 20)
        await is_cancelled(world, event)
        if killed:
            await eventually(lambda: world.fetch("SELECT 1 FROM refunds WHERE event_id = $1", event.id), 20)
            await world.kill_consumers()
            world.start_consumers(**NOT_BROKEN)
        await eventually(lambda: is_finished(world, event), 60)
    finally:
        for one in buying:
            one.cancel()
        await asyncio.gather(*buying, return_exceptions=True)
    await world.at_rest(event)
    await world.books_agree(event)
    assert sum(await world.fired()) >= 4
    await nobody_is_out_of_pocket(world, event)


async def test_money_that_went_back_behind_our_back_is_seen(world: World) -> None:
    """The negative control: as if a refund had been asked for twice, under two keys."""
    event = await world.an_event()
    world.start_consumers(**NOT_BROKEN)
    buyer = await world.a_buyer(event)
    await buys(buyer, event.seats, 0)
    await world.at_rest(event)
    await world.books_agree(event)
    (order,) = await world.fetch("SELECT id FROM orders WHERE event_id = $1", event.id)
    (intent,) = world.intents(str(order["id"]))
    for _ in range(2):
        form = {"payment_intent": intent.intent_id, "amount": "4500"}
        headers = {"Authorization": "Bearer sk_test_of_the_tests", "Idempotency-Key": uuid4().hex}
        async with aiohttp.ClientSession(raise_for_status=True) as http:
            await http.post(f"{world.settings.payment_api_url}/v1/refunds", data=form, headers=headers)
    report = await verify_event(world.pool, event.sale.event_id, simulator_log_path(world.stack))
    assert report.result("refunds agree").differences


async def buys(buyer: Buyer, seats: list[SeatId], place: int) -> None:
    """Two seats, if they can be had; whatever comes of it."""
    with suppress(AssertionError):
        hold = await buyer.hold(seats[place * SEATS_EACH : (place + 1) * SEATS_EACH])
        await buyer.check_out(hold)


async def are_ordered(world: World, event: Event, count: int) -> bool:
    return len(await world.fetch("SELECT 1 FROM orders WHERE event_id = $1", event.id)) >= count


async def is_cancelled(world: World, event: Event) -> None:
    command = CancelEvent(command_id=CommandId(uuid4()), event_id=event.sale.event_id, user_id=UserId(uuid4()))
    await tell(world, command)
    await eventually(lambda: world.fetch("SELECT 1 FROM cancellations WHERE event_id = $1", event.id), 20)


async def is_finished(world: World, event: Event) -> bool:
    sql = "SELECT 1 FROM cancellations WHERE event_id = $1 AND finished_at IS NOT NULL"
    return bool(await world.fetch(sql, event.id))


async def nobody_is_out_of_pocket(world: World, event: Event) -> None:
    orders = await world.fetch("SELECT id, status FROM orders WHERE event_id = $1", event.id)
    assert {order["status"] for order in orders} <= {"refunded", "cancelled", "declined"}
    assert sum(order["status"] == "refunded" for order in orders) >= BUYERS
    for order in orders:
        for intent in world.intents(str(UUID(str(order["id"])))):
            assert (intent.kept_minor, intent.is_authorized_only) == (0, False), (order, intent)
            assert intent.refund_count == intent.capture_count, (order, intent)
    assert await world.fetch("SELECT 1 FROM tickets WHERE event_id = $1 AND status = 'valid'", event.id) == []
    assert not {"sold"} & set((await event.sale.statuses()).values())
