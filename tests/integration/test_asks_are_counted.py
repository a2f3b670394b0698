"""What becomes of the asks of an ingress is counted, and each message says when its oldest command was asked."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from consumers.event_commands.age import observe_ages
from contracts import topology, wire
from contracts.commands import ReserveSeats
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.replies import AddressedReply, Rejected
from contracts.settings import Settings
from ingress.command_bus import Busy, CommandBus, NotAsked, OutcomeUnknown, Unavailable
from tests.broker_probe import BrokerProbe
from tests.builders import a_user, reserve
from tests.eventually import eventually


@dataclass
class Line:
    """A bus, and the queue of an event that nobody drains."""

    bus: CommandBus
    broker: BrokerProbe
    event_id: EventId
    queue: str

    def a_command(self) -> ReserveSeats:
        return reserve(self.event_id, a_user(), [uuid4()])

    async def ask(self, *, wait_seconds: float) -> object:
        command = self.a_command()
        return await self.bus.ask(command, user_id=command.user_id, wait_seconds=wait_seconds)

    async def answer(self, message: AbstractIncomingMessage) -> None:
        """To every command in it: no."""
        no = Rejected(code=RejectionCode.SEATS_UNAVAILABLE)
        replies = [
            AddressedReply(command.correlation_id or command.command_id, command.command_id, no)
            for command in wire.decode_commands(message.body)
        ]
        exchange = await self.broker.channel.get_exchange(topology.REPLIES, ensure=False)
        await exchange.publish(Message(wire.encode_replies(replies)), message.reply_to or "", timeout=5)


@pytest.fixture
async def line(settings: Settings, redis: Redis) -> AsyncIterator[Line]:
    event_id = EventId(uuid4())
    async with BrokerProbe(settings) as broker:
        queue = await broker.make_queue(
            topology.event_queue(event_id), bound_to=(topology.COMMANDS, topology.command_routing_key(event_id))
        )
        bus = await CommandBus.open(settings, redis)
        try:
            yield Line(bus, broker, event_id, queue)
        finally:
            await bus.close()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def refused(because: str) -> float:
    return counted("boxoffice_asks_refused_total", because=because)


async def test_a_reply_that_does_not_come_and_comes_late(line: Line) -> None:
    names = ("boxoffice_reply_timeouts_total", "boxoffice_late_replies_total")
    timeouts, late, unknown = *map(counted, names), refused("unknown")
    with pytest.raises(OutcomeUnknown):
        await line.ask(wait_seconds=0.05)
    assert (counted(names[0]), refused("unknown")) == (timeouts + 1, unknown + 1)
    await line.answer(await line.broker.wait_for(line.queue))
    await eventually(lambda: counted(names[1]) == late + 1)


async def test_the_reply_to_somebody_who_never_waited_is_not_late(line: Line) -> None:
    command = line.a_command()
    late = counted("boxoffice_late_replies_total")
    await line.bus.tell(command, user_id=command.user_id)
    asked = asyncio.create_task(line.ask(wait_seconds=10))
    for _ in range(2):
        await line.answer(await line.broker.wait_for(line.queue))
    await asked
    assert counted("boxoffice_late_replies_total") == late


async def test_why_nothing_was_asked(settings: Settings, redis: Redis, line: Line) -> None:
    busy, unavailable = refused("busy"), refused("unavailable")
    full = CommandBus(settings.model_copy(update={"commands_in_flight_max": 0}), redis)
    unconnected = CommandBus(settings, redis)
    command = line.a_command()
    for bus, why in ((full, Busy), (unconnected, Unavailable)):
        with pytest.raises(why):
            await bus.ask(command, user_id=command.user_id, wait_seconds=1)
        with pytest.raises(NotAsked):
            await bus.tell(command, user_id=command.user_id)
    assert (refused("busy"), refused("unavailable")) == (busy + 2, unavailable + 2)


async def test_a_message_says_how_many_travel_in_it_and_since_when(line: Line) -> None:
    commands, messages = (counted(f"boxoffice_commands_per_message_{word}") for word in ("sum", "count"))
    before_ms = time.time_ns() // 1_000_000
    asks = [asyncio.create_task(line.ask(wait_seconds=10)) for _ in range(10)]
    came = 0
    while came < len(asks):
        message = await line.broker.wait_for(line.queue)
        assert before_ms <= int(str(message.headers[wire.ASKED_AT_HEADER])) <= time.time_ns() // 1_000_000
        came += int(str(message.headers[wire.COUNT_HEADER]))
        await line.answer(message)
    await asyncio.gather(*asks)
    assert counted("boxoffice_commands_per_message_sum") - commands == len(asks)
    assert counted("boxoffice_commands_per_message_count") - messages < len(asks), "they travelled together"


class Taken:
    """A message as the engine takes it."""

    def __init__(self, **headers: object) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def test_the_age_of_a_command_is_that_of_the_oldest_in_its_message() -> None:
    now_ms = time.time_ns() // 1_000_000
    count, seconds = (counted(f"boxoffice_command_age_seconds_{word}") for word in ("count", "sum"))
    observe_ages(
        [Taken(x_asked_at_ms=now_ms - 3000), Taken(x_asked_at_ms=now_ms + 5000), Taken(), Taken(x_asked_at_ms="?")]
    )  # type: ignore[list-item]
    assert counted("boxoffice_command_age_seconds_count") == count + 2, "who does not say is not counted"
    assert 3 <= counted("boxoffice_command_age_seconds_sum") - seconds < 4, "and nothing is younger than just now"
