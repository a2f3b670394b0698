"""Does an event have its queue while it is on sale, and lose it, empty, when the sale is over?"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import ChannelNotFoundEntity

from consumers.broker import ConfirmedPublisher, connect, persistent_message
from consumers.lifecycle import (
    Lifecycle,
    close_event_queue,
    declare_everything,
    declare_topology,
    open_event_queue,
    queues_without_policy,
)
from consumers.outbox_relay import Wakeup
from consumers.silent_queues import find_silent_queues
from contracts import topology, wire
from contracts.commands import ExpireHolds
from contracts.domain_events import HoldsArmed
from contracts.ids import CommandId, EventId
from contracts.settings import Settings
from db import sale_clock
from db.postgres import Pool
from ops.stack import Stack
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.silent_queue import pause
from tests.written_events import write_event

PAST, FUTURE = timedelta(hours=-1), timedelta(hours=1)


class Events:
    """The events of one test: the lifecycle under test sees no others."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.mine: list[EventId] = []

    async def write(self, **fields: Any) -> EventId:
        event_id = await write_event(self._pool, **fields)
        self.mine.append(event_id)
        return event_id

    async def status(self, event_id: EventId) -> str:
        status: str = await self._pool.fetchval("SELECT status FROM events WHERE id = $1", event_id)
        return status

    async def end_sale(self, event_id: EventId) -> None:
        await self._pool.execute(
            "UPDATE events SET on_sale_date = now() - interval '2 h', off_sale_date = now() - interval '1 s' WHERE id = $1",
            event_id,
        )


@pytest.fixture
def events(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Events:
    events = Events(pool)
    open_sales, ended_sales = sale_clock.find_open_sales, sale_clock.find_ended_sales

    async def mine_open(pool: Pool, *, limit: int) -> list[EventId]:
        return [event_id for event_id in await open_sales(pool, limit=100_000) if event_id in events.mine][:limit]

    async def mine_ended(pool: Pool, *, within_seconds: float, limit: int) -> list[EventId]:
        ended = await ended_sales(pool, within_seconds=within_seconds, limit=100_000)
        return [event_id for event_id in ended if event_id in events.mine][:limit]

    monkeypatch.setattr(sale_clock, "find_open_sales", mine_open)
    monkeypatch.setattr(sale_clock, "find_ended_sales", mine_ended)
    return events


@pytest.fixture
async def broker(settings: Settings, events: Events) -> AsyncIterator[BrokerProbe]:
    async with BrokerProbe(settings) as probe:
        yield probe
        for event_id in events.mine:
            await (await probe.fresh_channel()).queue_delete(topology.event_queue(event_id))


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AbstractRobustConnection]:
    opened = await connect(settings, "lifecycle", name="test lifecycle")
    yield opened
    await opened.close()


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[ConfirmedPublisher]:
    async with ConfirmedPublisher(settings, "courier", name="test asks") as opened:
        yield opened


def lifecycle_of(settings: Settings, pool: Pool, connection: AbstractRobustConnection, **changes: Any) -> Lifecycle:
    return Lifecycle(settings.model_copy(update=changes), pool, connection)


async def has_queue(broker: BrokerProbe, event_id: EventId) -> bool:
    channel = await broker.fresh_channel()
    try:
        await channel.declare_queue(topology.event_queue(event_id), passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


async def ask(publisher: ConfirmedPublisher, event_id: EventId) -> str:
    """Send the event a command that changes nothing; returns its message id."""
    command = ExpireHolds(command_id=CommandId(uuid4()), event_id=event_id, hold_ids=())
    message = persistent_message(
        wire.encode_commands([command]), type=wire.COMMANDS_TYPE, message_id=str(command.command_id)
    )
    await publisher.publish(message, exchange=topology.COMMANDS, routing_key=topology.command_routing_key(event_id))
    return str(command.command_id)


async def copy_of_lane(broker: BrokerProbe, event_id: EventId) -> str:
    """A queue that gets what goes to this event's lane."""
    return await broker.make_queue(
        f"tk.test.lane.{event_id}", bound_to=(topology.COMMANDS_COLD, topology.command_routing_key(event_id))
    )


async def test_a_sale_that_opens_gets_its_queue_and_its_status(
    settings: Settings,
    pool: Pool,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    publisher: ConfirmedPublisher,
) -> None:
    opens_now = await events.write(status="upcoming", on_sale_in=PAST, off_sale_in=FUTURE)
    opens_later = await events.write(status="upcoming", on_sale_in=FUTURE, off_sale_in=2 * FUTURE)
    cancelled = await events.write(status="cancelled", on_sale_in=PAST, off_sale_in=FUTURE)
    lifecycle = lifecycle_of(settings, pool, connection)
    await lifecycle.run_once()
    await lifecycle.run_once()
    assert [await has_queue(broker, id_) for id_ in (opens_now, opens_later, cancelled)] == [True, False, False]
    assert await events.status(opens_now) == "on_sale"
    assert await events.status(opens_later) == "upcoming"
    await ask(publisher, opens_now)
    assert await broker.ready_count(topology.event_queue(opens_now)) == 1


async def test_a_sale_that_ends_loses_its_queue_and_no_command(
    settings: Settings,
    pool: Pool,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    publisher: ConfirmedPublisher,
) -> None:
    event_id = await events.write()
    queue, lane = topology.event_queue(event_id), await copy_of_lane(broker, event_id)
    # A queue with a single active consumer does not let a test take its message.
    lifecycle = lifecycle_of(settings, pool, connection, single_active_consumer=False)
    await lifecycle.run_once()
    before = await ask(publisher, event_id)
    assert await broker.ready_count(lane) == 0
    await events.end_sale(event_id)
    for _ in range(3):
        await lifecycle.run_once()
    after = await ask(publisher, event_id)
    assert (await broker.wait_for(lane)).message_id == after, "new commands go through the lane"
    assert (await broker.wait_for(queue)).message_id == before, "somebody waits for its answer"

    async def gone() -> bool:
        await lifecycle.run_once()
        return not await has_queue(broker, event_id)

    await eventually(gone)


async def test_a_queue_that_is_still_consumed_stays_until_it_has_been_quiet(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write()
    patient = lifecycle_of(settings, pool, connection)
    await patient.run_once()
    underlay = await broker.channel.get_underlay_channel()

    async def consume(_: object) -> None:
        return None

    await underlay.basic_consume(topology.event_queue(event_id), consume)
    await events.end_sale(event_id)
    for _ in range(3):
        await patient.run_once()
    assert await has_queue(broker, event_id)
    hasty = lifecycle_of(settings, pool, connection, drain_seconds=0.05)

    async def gone() -> bool:
        await hasty.run_once()
        return not await has_queue(broker, event_id)

    await eventually(gone)


async def test_a_sale_that_ended_while_nobody_looked_loses_its_queue(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write()
    await lifecycle_of(settings, pool, connection).run_once()
    await events.end_sale(event_id)
    await lifecycle_of(settings, pool, connection).run_once()
    assert not await has_queue(broker, event_id)


async def test_a_queue_that_the_broker_has_lost_comes_back(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write()
    lifecycle = lifecycle_of(settings, pool, connection)
    await lifecycle.run_once()
    await broker.channel.queue_delete(topology.event_queue(event_id))
    lifecycle.assert_again()
    await lifecycle.run_once()
    assert await has_queue(broker, event_id)


async def test_a_deleted_queue_stays_deleted(
    settings: Settings, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write()
    async with connection.channel() as channel:
        await open_event_queue(channel, event_id, settings)
        await open_event_queue(channel, event_id, settings)
        assert await close_event_queue(channel, event_id)
        assert await close_event_queue(channel, event_id), "to close it twice is no error"
        await open_event_queue(channel, event_id, settings)
        assert await close_event_queue(channel, event_id)
    await connection.reconnect()
    assert not await has_queue(broker, event_id)


async def test_a_queue_of_another_kind_is_used_as_it_is(
    settings: Settings,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    publisher: ConfirmedPublisher,
) -> None:
    event_id = await events.write()
    await broker.make_queue(topology.event_queue(event_id), arguments={"x-queue-type": "classic"})
    async with connection.channel() as channel:
        await open_event_queue(channel, event_id, settings.model_copy(update={"event_queue_type": "quorum"}))
    await ask(publisher, event_id)
    assert await broker.ready_count(topology.event_queue(event_id)) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queues that lifecycle asked whether they answer."""
    asked: list[str] = []

    async def ask_and_note(settings: Settings, names: Sequence[str]) -> set[str]:
        asked.extend(names)
        return await find_silent_queues(settings, names)

    monkeypatch.setattr("consumers.lifecycle.find_silent_queues", ask_and_note)
    return asked


async def a_lane_of_its_own(broker: BrokerProbe, event_id: EventId, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lane that lifecycle looks at, beside those that all tests share."""
    lane = await broker.make_queue(f"tk.test.lane.{event_id}")
    monkeypatch.setattr(topology, "lane_queue", lambda _: lane)
    return lane


async def consume_nothing(broker: BrokerProbe, queue: str) -> None:
    async def ignore(_: object) -> None:
        return None

    await (await broker.channel.get_underlay_channel()).basic_consume(queue, ignore)


async def test_a_queue_that_is_only_slow_to_answer_keeps_its_commands(
    settings: Settings,
    pool: Pool,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    publisher: ConfirmedPublisher,
    stack: Stack,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event_id = await events.write()
    queue = topology.event_queue(event_id)
    lifecycle = lifecycle_of(settings, pool, connection)
    await lifecycle.run_once()
    await ask(publisher, event_id)
    await consume_nothing(broker, await a_lane_of_its_own(broker, event_id, monkeypatch))
    # Meanwhile the broker says that the queue has no message and no consumer, as of one without a leader.
    await asyncio.to_thread(pause, stack, queue, seconds=2)
    for _ in range(2):
        await lifecycle.run_once()
    assert await broker.ready_count(queue) == 1, "the command was lost with a queue that was only slow"
    assert asked == [queue], "the queue was never suspected: the test shows nothing"


async def test_a_queue_is_suspect_only_while_its_lane_is_consumed_and_it_is_not(
    settings: Settings,
    pool: Pool,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event_id = await events.write()
    queue = topology.event_queue(event_id)
    lane = await a_lane_of_its_own(broker, event_id, monkeypatch)
    lifecycle = lifecycle_of(settings, pool, connection)
    await lifecycle.run_once()
    assert asked == [], "no commands process is there: that nobody consumes the queue says nothing"
    await consume_nothing(broker, lane)
    await lifecycle.run_once()
    assert asked == [queue]
    await consume_nothing(broker, queue)
    for _ in range(2):
        await lifecycle.run_once()
    assert asked == [queue], "whoever is consumed is left in peace"


async def test_an_event_is_sold_out_when_every_seat_is_sold_and_on_sale_when_one_comes_back(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write(seat_count=2)
    lifecycle = lifecycle_of(settings, pool, connection)
    sell_first = "UPDATE seats SET status = 'sold', hold_id = id, order_id = id WHERE event_id = $1 AND seat_index = 0"
    withhold_rest = "UPDATE seats SET status = 'withheld' WHERE event_id = $1 AND seat_index > 0"
    await pool.execute(sell_first, event_id)
    await lifecycle.run_once()
    assert await events.status(event_id) == "on_sale"
    await pool.execute(withhold_rest, event_id)
    await lifecycle.run_once()
    assert await events.status(event_id) == "sold_out"
    assert await has_queue(broker, event_id), "refunds may come"
    await pool.execute("UPDATE seats SET status = 'available' WHERE event_id = $1 AND seat_index = 1", event_id)
    await lifecycle.run_once()
    assert await events.status(event_id) == "on_sale"


async def test_an_event_that_has_taken_place_is_completed(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    over = await events.write(on_sale_in=2 * PAST, off_sale_in=PAST, starts_in=PAST)
    between = await events.write(on_sale_in=2 * PAST, off_sale_in=PAST, starts_in=FUTURE)
    await lifecycle_of(settings, pool, connection).run_once()
    assert await events.status(over) == "completed"
    assert await events.status(between) == "on_sale", "the show is yet to come"


async def test_consumers_are_told_of_queues_that_open_and_close(
    settings: Settings, pool: Pool, events: Events, broker: BrokerProbe, connection: AbstractRobustConnection
) -> None:
    event_id = await events.write()
    lifecycle, wakeup = lifecycle_of(settings, pool, connection), Wakeup(settings, sale_clock.EVENT_QUEUES_CHANNEL)
    try:
        await wakeup.listen()
        await lifecycle.run_once()
        await eventually(wakeup.happened.is_set)
        wakeup.happened.clear()
        await events.end_sale(event_id)
        await lifecycle.run_once()
        await eventually(wakeup.happened.is_set)
    finally:
        await wakeup.close()


async def test_the_number_of_queues_is_bounded_and_who_has_one_keeps_it(
    settings: Settings,
    pool: Pool,
    events: Events,
    broker: BrokerProbe,
    connection: AbstractRobustConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.lifecycle.EVENT_QUEUES_MAX", 1)
    first = await events.write()
    lifecycle = lifecycle_of(settings, pool, connection)
    await lifecycle.run_once()
    second = await events.write()
    await pool.execute("UPDATE events SET high_demand = true WHERE id = $1", second)
    await lifecycle.run_once()
    assert [await has_queue(broker, id_) for id_ in (first, second)] == [True, False]
    await events.end_sale(first)
    await lifecycle.run_once()
    assert [await has_queue(broker, id_) for id_ in (first, second)] == [False, True]


async def test_declaring_twice_changes_nothing_and_adds_the_wait_queue_of_these_settings(
    settings: Settings, broker: BrokerProbe, publisher: ConfirmedPublisher
) -> None:
    short = settings.model_copy(update={"hold_seconds": 3})
    await declare_topology(short)
    await declare_everything(broker.channel, short)
    nothing = HoldsArmed(event_id=EventId(uuid4()), holds=())
    await publisher.publish(
        persistent_message(wire.encode_domain_event(nothing), type=nothing.type),
        exchange=topology.HOLDS,
        routing_key=topology.hold_arm_key(3),
    )


async def test_a_queue_without_limits_is_noticed(settings: Settings, broker: BrokerProbe) -> None:
    unlimited = await broker.make_queue(f"tk.test.{uuid4()}")
    limited = await broker.make_work_queue()

    # The management plugin shows a queue's policy a moment after the queue.
    async def noticed() -> bool:
        found = await queues_without_policy(settings)
        return unlimited in found and limited not in found

    await eventually(noticed, within_seconds=20)
