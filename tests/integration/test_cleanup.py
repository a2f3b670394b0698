"""Is the event told of every hold that is over, in time, and of no other?"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aio_pika.abc import AbstractIncomingMessage

from consumers.broker import ConfirmedPublisher, persistent_message
from consumers.cleanup import Resources, announce_ended_holds, stage, sweep_once
from consumers.lifecycle import declare_everything, open_event_queue
from consumers.runtime import run_stage
from contracts import topology, wire
from contracts.commands import ExpireHolds
from contracts.domain_events import DueHold, HoldsArmed
from contracts.ids import EventId, HoldId
from contracts.settings import Settings
from db.postgres import Pool
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.written_events import write_event, write_hold

OVER = timedelta(seconds=-1)
HOLD_SECONDS = 2  # the wait queue of this test; the fixed topology has the one of ten minutes


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        yield probe


@pytest.fixture
async def resources(settings: Settings, pool: Pool) -> AsyncIterator[Resources]:
    async with ConfirmedPublisher(settings, "courier", name="test asks") as publisher:
        yield Resources(settings, pool, publisher)


@pytest.fixture
async def event_id(settings: Settings, pool: Pool, broker: BrokerProbe) -> AsyncIterator[EventId]:
    """An event with a queue of its own that nobody consumes."""
    event_id = await write_event(pool)
    # A queue with a single active consumer does not let a test look into it.
    await open_event_queue(broker.channel, event_id, settings.model_copy(update={"single_active_consumer": False}))
    yield event_id
    await broker.channel.queue_delete(topology.event_queue(event_id))


def armed(event_id: EventId, *hold_ids: HoldId) -> HoldsArmed:
    due_at = datetime.now(UTC)
    return HoldsArmed(event_id=event_id, holds=tuple(DueHold(hold_id=id_, held_until=due_at) for id_ in hold_ids))


async def told(broker: BrokerProbe, event_id: EventId) -> set[UUID]:
    """The holds the event's engine has been told of since the last look."""
    found: set[UUID] = set()
    while message := await broker.take(topology.event_queue(event_id)):
        found |= set(hold_ids_in(message))
    return found


def hold_ids_in(message: AbstractIncomingMessage) -> tuple[HoldId, ...]:
    (command,) = wire.decode_commands(message.body)
    assert isinstance(command, ExpireHolds)
    assert message.type == wire.COMMANDS_TYPE
    assert command.deadline_at is None, "it would be dropped in a rush, when it is needed most"
    return command.hold_ids


async def test_only_what_is_active_and_over_is_announced(
    pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    over = await write_hold(pool, event_id, ends_in=OVER)
    extended = await write_hold(pool, event_id, ends_in=timedelta(minutes=5))
    others = [
        await write_hold(pool, event_id, ends_in=OVER, status=status)
        for status in ("paying", "converted", "released", "expired")
    ]
    await announce_ended_holds(armed(event_id, over, extended, *others), resources)
    assert await told(broker, event_id) == {over}


async def test_a_hold_that_ends_in_a_moment_is_waited_for(
    pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    nearly_over = await write_hold(pool, event_id, ends_in=timedelta(seconds=0.7))
    await announce_ended_holds(armed(event_id, nearly_over), resources)
    assert await told(broker, event_id) == {nearly_over}


async def test_a_sale_that_cost_nothing_costs_the_engine_nothing(
    pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    converted = await write_hold(pool, event_id, ends_in=OVER, status="converted")
    await announce_ended_holds(armed(event_id, converted), resources)
    assert await broker.ready_count(topology.event_queue(event_id)) == 0


async def test_the_sweep_finds_what_no_message_told_of(
    pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    missed = {await write_hold(pool, event_id, ends_in=OVER) for _ in range(3)}
    await write_hold(pool, event_id, ends_in=timedelta(minutes=5))
    await write_hold(pool, event_id, ends_in=OVER, status="paying")
    assert await sweep_once(resources) >= 3
    assert await told(broker, event_id) == missed


async def test_two_sweeps_at_once_ask_twice_and_harm_nobody(
    pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    missed = await write_hold(pool, event_id, ends_in=OVER)
    await asyncio.gather(sweep_once(resources), sweep_once(resources))
    assert await told(broker, event_id) == {missed}


async def test_an_event_without_a_queue_of_its_own_is_told_through_its_lane(
    pool: Pool, settings: Settings, resources: Resources, broker: BrokerProbe
) -> None:
    event_id = await write_event(pool)
    over = await write_hold(pool, event_id, ends_in=OVER)
    copy = await broker.make_queue(
        f"tk.test.lane.{event_id}", bound_to=(topology.COMMANDS_COLD, topology.command_routing_key(event_id))
    )
    await announce_ended_holds(armed(event_id, over), resources)
    found = await broker.wait_for(copy)
    assert hold_ids_in(found) == (over,)


async def test_an_armed_hold_is_announced_within_two_seconds_of_its_end(
    settings: Settings, pool: Pool, broker: BrokerProbe, resources: Resources, event_id: EventId
) -> None:
    await declare_everything(broker.channel, settings.model_copy(update={"hold_seconds": HOLD_SECONDS}))
    hold_id = await write_hold(pool, event_id, ends_in=timedelta(seconds=HOLD_SECONDS))
    stopping = asyncio.Event()
    work = asyncio.create_task(run_stage(stage(settings), resources, stopping))
    await resources.publisher.publish(
        persistent_message(wire.encode_domain_event(armed(event_id, hold_id)), type="cleanup_expired_holds"),
        exchange=topology.HOLDS,
        routing_key=topology.hold_arm_key(HOLD_SECONDS),
    )

    async def announced() -> bool:
        return hold_id in await told(broker, event_id)

    await eventually(announced, within_seconds=HOLD_SECONDS + 2)
    assert await pool.fetchval("SELECT held_until <= now() FROM holds WHERE id = $1", hold_id), "not before its end"
    stopping.set()
    await work
