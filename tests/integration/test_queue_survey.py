"""Is a queue that does not move found on a real broker, with its event's name?"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection

from consumers import stuck_queues
from consumers.broker import connect
from consumers.stuck_queues import (
    EVENT_QUEUE_MESSAGES,
    PARKED_MESSAGES,
    QueueSurvey,
    StuckQueue,
    queues_not_moving,
    read_acknowledgements,
    show_not_moving,
)
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings
from db.postgres import Pool
from tests.broker_probe import BrokerProbe
from tests.eventually import eventually
from tests.written_events import write_event

NO_MANAGEMENT = "http://127.0.0.1:1"


@dataclass
class World:
    """An event's queue on the shared broker, and somebody who looks at it very often."""

    settings: Settings
    pool: Pool
    broker: BrokerProbe
    connection: AbstractRobustConnection
    event_id: EventId

    def __post_init__(self) -> None:
        self.queue = topology.event_queue(self.event_id)
        self.on_sale = [self.event_id]
        self.survey = self.a_survey()

    def a_survey(self, **changes: Any) -> QueueSurvey:
        settings = self.settings.model_copy(update={"stuck_queue_seconds": 0.2, **changes})
        return QueueSurvey(settings, self.pool, self.connection)

    async def stuck(self) -> StuckQueue | None:
        """Of this test's queue: the broker is shared, and others leave messages in lanes."""
        await self.survey.run_once(on_sale=self.on_sale, ended=())
        return next((one for one in queues_not_moving()[0] if one.queue == self.queue), None)

    async def is_stuck(self) -> bool:
        return await self.stuck() is not None

    async def never_stuck_in(self, looks: int) -> bool:
        found = []
        for _ in range(looks):
            self.survey._look_at = 0.0
            found.append(await self.is_stuck())
            await asyncio.sleep(0.05)
        return not any(found)

    async def put(self, count: int = 1) -> None:
        for _ in range(count):
            await self.broker.put(self.queue, b"{}")


@pytest.fixture
async def world(settings: Settings, pool: Pool) -> AsyncIterator[World]:
    event_id = await write_event(pool)
    connection = await connect(settings, "lifecycle", name="test survey")
    async with BrokerProbe(settings) as broker:
        await broker.make_queue(topology.event_queue(event_id), arguments={"x-queue-type": "quorum"})
        yield World(settings, pool, broker, connection, event_id)
    show_not_moving([], [])
    await connection.close()


async def test_an_event_whose_commands_nobody_takes_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.put(2)
    await eventually(world.is_stuck)
    stuck = await world.stuck()
    assert stuck is not None
    assert (stuck.event_id, stuck.messages, stuck.consumers) == (str(world.event_id), 2, 0)
    (line,) = [
        vars(record)
        for record in caplog.records
        if record.message == "queue_stuck" and vars(record)["queue"] == world.queue
    ]
    assert (line["event_id"], line["messages"], line["levelno"]) == (str(world.event_id), 2, logging.ERROR)


async def test_a_queue_that_is_worked_off_is_never_named(world: World) -> None:
    # Without this, the test above would pass as well if every queue with messages were named.
    queue = await world.broker.channel.get_queue(world.queue)

    async def work(message: AbstractIncomingMessage) -> None:
        await message.ack()

    await queue.consume(work)
    for _ in range(5):
        await world.put(3)
        assert await world.never_stuck_in(2)


async def test_it_moves_again_when_somebody_takes_its_messages(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await world.put()
    await eventually(world.is_stuck)
    await world.broker.wait_for(world.queue)
    await eventually(lambda: _is_false(world.is_stuck))
    assert [record.message for record in caplog.records if vars(record).get("queue") == world.queue] == [
        "queue_stuck",
        "queue_moves_again",
    ]


async def test_one_that_an_operator_has_paused_is_named_as_paused_instead(world: World) -> None:
    await world.pool.execute("INSERT INTO paused_event_queues (event_id) VALUES ($1)", world.event_id)
    await world.put()
    assert await world.never_stuck_in(8)
    assert world.queue in queues_not_moving()[1]
    await world.pool.execute("DELETE FROM paused_event_queues WHERE event_id = $1", world.event_id)
    await eventually(world.is_stuck)
    assert world.queue not in queues_not_moving()[1]


@pytest.mark.parametrize("management", ["there", "away"])
async def test_a_consumer_that_acknowledges_nothing_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch, management: str
) -> None:
    monkeypatch.setattr(stuck_queues, "CONSUMED_PATIENCE_SECONDS", 0.5)
    if management == "away":
        world.survey = world.a_survey(rabbitmq_management_url=NO_MANAGEMENT)
    channel = await world.broker.fresh_channel()
    await channel.set_qos(prefetch_count=1)
    taken = asyncio.Event()

    async def hang(_: AbstractIncomingMessage) -> None:
        taken.set()

    await (await channel.get_queue(world.queue)).consume(hang)
    await world.put(3)
    await taken.wait()
    stuck = await eventually(world.stuck)
    assert stuck.consumers == 1


async def test_the_management_api_tells_what_is_acknowledged_and_may_be_away(world: World) -> None:
    async def known() -> tuple[int, int] | None:
        return (await read_acknowledgements(world.settings)).get(world.queue)

    assert await eventually(known) == (0, 0)
    away = world.settings.model_copy(update={"rabbitmq_management_url": NO_MANAGEMENT})
    assert await read_acknowledgements(away) == {}


async def test_each_event_on_sale_shows_its_messages_and_the_parking_lot_its_own(world: World) -> None:
    await world.put(2)

    async def shown() -> float | None:
        await world.stuck()
        return series().get(str(world.event_id))

    await eventually(lambda: _is_equal(shown, 2.0))
    assert PARKED_MESSAGES._value.get() >= 0
    world.on_sale = []
    world.survey._look_at = 0.0
    assert await shown() is None, "an event whose sale is over has no series"


async def test_of_too_many_events_each_has_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck_queues, "EVENT_QUEUES_AT_ONCE_MAX", 2)
    names = {f"queue {number}": world.event_id for number in range(5)}
    counted = [world.survey._in_turn(names) for _ in range(5)]
    assert sorted(name for turn in counted for name in turn) == sorted(2 * list(names))


async def test_a_queue_that_is_not_there_is_no_trouble(world: World) -> None:
    world.on_sale.append(await write_event(world.pool))
    await world.put()
    await eventually(world.is_stuck)


def series() -> dict[str, float]:
    samples = (sample for metric in EVENT_QUEUE_MESSAGES.collect() for sample in metric.samples)
    return {sample.labels["event_id"]: sample.value for sample in samples}


async def _is_false(condition: Any) -> bool:
    return not await condition()


async def _is_equal(read: Any, expected: float) -> bool:
    return bool(await read() == expected)
