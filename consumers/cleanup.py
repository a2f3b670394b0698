"""Which holds and offers are over, and who is told?

Each hold comes out of the wait queue when it should be over. Cleanup asks the database which of them still are active and
really over, and tells the event's engine, which decides under its fence and frees the seats. A sweep finds what was missed,
and the offers of tickets whose time has passed: nobody can accept those any more, and whoever made them is told.
Cleanup itself never writes a seat, a hold or an offer.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from prometheus_client import Counter

from consumers import cancellations
from consumers.broker import ConfirmedPublisher, PublishProblem, persistent_message
from consumers.runtime import Handler, Stage, run_stage
from contracts import topology, wire
from contracts.commands import ExpireHolds, ExpireResales, ExpireTransfers
from contracts.domain_events import AnyDomainEvent, HoldsArmed
from contracts.ids import CommandId, EventId, HoldId
from contracts.settings import Settings
from db.expired_holds import find_ends, find_overdue
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool
from db.transfers import find_resales_unsold, find_transfers_over

log = logging.getLogger(__name__)

# The broker's clock and the database's may differ by this; a hold that ends later than that was extended, and the
# extension has armed it again.
CLOCKS_DIFFER_SECONDS = 2.0
HOLDS_PER_COMMAND_MAX = 5000  # what ExpireHolds takes
OFFERS_PER_COMMAND_MAX = 5000  # what ExpireTransfers and ExpireResales take
SWEEP_MAX = 20_000

HINTED = Counter("boxoffice_holds_hinted_total", "Holds whose end was announced to their event", ["found_by"])


@dataclass(frozen=True)
class Resources:
    """What cleanup works with."""

    settings: Settings
    pool: Pool
    publisher: ConfirmedPublisher


async def announce_ended_holds(armed: HoldsArmed, resources: Resources) -> None:
    """Tell the event's engine about those of these holds that are over; raises what may be tried again."""
    hold_ids = [hold.hold_id for hold in armed.holds]
    ends = await find_ends(resources.pool, event_id=armed.event_id, hold_ids=hold_ids)
    soon = [seconds for seconds in ends.values() if 0 < seconds <= CLOCKS_DIFFER_SECONDS]
    await _announce(resources.publisher, armed.event_id, _over(ends), found_by="message")
    if not soon:
        return
    # Dropping these would leave them to the sweep, half a minute late.
    waited_for = [hold_id for hold_id, seconds in ends.items() if 0 < seconds <= CLOCKS_DIFFER_SECONDS]
    await asyncio.sleep(max(soon))
    ends = await find_ends(resources.pool, event_id=armed.event_id, hold_ids=waited_for)
    await _announce(resources.publisher, armed.event_id, _over(ends), found_by="message")


async def sweep_once(resources: Resources) -> int:
    """Announce what nobody has announced; returns how many holds. Several copies may do it: a hint twice is still a hint."""
    announced = 0
    for overdue in await find_overdue(resources.pool, limit=SWEEP_MAX):
        try:
            await _announce(resources.publisher, overdue.event_id, overdue.hold_ids, found_by="sweep")
        except PublishProblem as problem:
            # This event's queue is full; the others' may not be.
            log.warning("sweep_not_announced", extra={"event_id": overdue.event_id, "reason": str(problem)})
            continue
        announced += len(overdue.hold_ids)
    return announced


async def sweep_offers_once(resources: Resources) -> int:
    """Announce offers of tickets that are over, and take seats off sale that nobody can buy any more; returns how many."""
    announced = 0
    for command in await _due_to_offers(resources.pool):
        try:
            await _tell(resources.publisher, command)
        except PublishProblem as problem:
            log.warning("sweep_not_announced", extra={"event_id": command.event_id, "reason": str(problem)})
            continue
        announced += len(command.transfer_ids if isinstance(command, ExpireTransfers) else command.resale_ids)
    return announced


async def _due_to_offers(pool: Pool) -> list[ExpireTransfers | ExpireResales]:
    over = await find_transfers_over(pool, limit=OFFERS_PER_COMMAND_MAX)
    unsold = await find_resales_unsold(pool, limit=OFFERS_PER_COMMAND_MAX)
    return [
        *(ExpireTransfers(command_id=_new_id(), event_id=o.event_id, transfer_ids=o.transfer_ids) for o in over),
        *(ExpireResales(command_id=_new_id(), event_id=u.event_id, resale_ids=u.resale_ids) for u in unsold),
    ]


async def _announce(
    publisher: ConfirmedPublisher, event_id: EventId, hold_ids: Sequence[HoldId], *, found_by: str
) -> None:
    for start in range(0, len(hold_ids), HOLDS_PER_COMMAND_MAX):
        some = hold_ids[start : start + HOLDS_PER_COMMAND_MAX]
        await _tell(publisher, ExpireHolds(command_id=_new_id(), event_id=event_id, hold_ids=tuple(some)))
        HINTED.labels(found_by).inc(len(some))


async def _tell(publisher: ConfirmedPublisher, command: ExpireHolds | ExpireTransfers | ExpireResales) -> None:
    await publisher.publish(
        persistent_message(
            wire.encode_commands([command]), type=wire.COMMANDS_TYPE, message_id=str(command.command_id)
        ),
        exchange=topology.COMMANDS,
        routing_key=topology.command_routing_key(command.event_id),
    )


def _new_id() -> CommandId:
    """A new id every time: the engine answers a known command id from its records, and what was not over when it was last
    announced must be looked at again."""
    return CommandId(uuid4())


def _over(ends: dict[HoldId, float]) -> list[HoldId]:
    return [hold_id for hold_id, seconds in ends.items() if seconds <= 0]


HANDLERS: dict[type[AnyDomainEvent], Handler[Resources]] = {HoldsArmed: announce_ended_holds}


def stage(settings: Settings) -> Stage[Resources]:
    """The cleanup queue and what is done with its messages."""
    return Stage(
        name="cleanup",
        queue=topology.CLEANUP_QUEUE,
        user="courier",
        prefetch=settings.stage_prefetch,
        handlers=HANDLERS,
    )


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Take what comes out of the wait queue, and sweep, until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice cleanup", size=4)
    try:
        async with (
            ConfirmedPublisher(settings, "courier", name="cleanup asks") as publisher,
            asyncio.TaskGroup() as tasks,
        ):
            resources = Resources(settings, pool, publisher)
            tasks.create_task(run_stage(stage(settings), resources, stopping))
            tasks.create_task(_sweep(resources, stopping))
            tasks.create_task(cancellations.run(settings, pool, publisher, stopping))
    finally:
        await pool.close()


async def _sweep(resources: Resources, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            if announced := await sweep_once(resources):
                log.info("holds_swept", extra={"hold_count": announced})
            if announced := await sweep_offers_once(resources):
                log.info("offers_swept", extra={"offer_count": announced})
        except TRANSIENT_ERRORS as problem:
            log.warning("sweep_failed", extra={"reason": repr(problem)})
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), resources.settings.sweep_seconds)
