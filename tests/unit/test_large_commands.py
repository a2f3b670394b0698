"""Can organisers who are busy at the same moment make a message that nobody can read?"""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from contracts.commands import ORGANISERS_SEATS_MAX, AnyCommand, ChangePrices
from contracts.ids import EventId
from contracts.settings import Settings
from contracts.wire import UnreadableMessage, decode_commands
from ingress import command_bus
from ingress.command_bus import CommandBus
from tests.builders import a_command_id, a_user, reserve

# So many fit into no message together.
ORGANISERS = 6


class Exchange:
    """Takes messages, one at a time, as a broker that is busy."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def publish(self, message: Any, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0)
        self.bodies.append(message.body)


async def published(*commands: AnyCommand) -> list[bytes]:
    """The bodies of the messages that come of these commands when all are asked at once."""
    bus = CommandBus(Settings(), redis=None)  # type: ignore[arg-type]  # nothing is stored here
    exchange = Exchange()
    bus._exchange, bus._reply_queue = exchange, "tk.reply.test"  # type: ignore[assignment]
    await asyncio.gather(*(bus.tell(command, user_id=a_user()) for command in commands))
    return exchange.bodies


def repricings(event_id: EventId) -> list[AnyCommand]:
    """As large as a command may be, from several organisers."""
    seat_ids = tuple(uuid4() for _ in range(ORGANISERS_SEATS_MAX))
    return [
        ChangePrices(
            command_id=a_command_id(), event_id=event_id, user_id=a_user(), seat_ids=seat_ids, price=Decimal("60.00")
        )
        for _ in range(ORGANISERS)
    ]


async def test_each_travels_alone_and_the_buyers_travel_together() -> None:
    event_id = EventId(uuid4())
    buyers = [reserve(event_id, a_user(), [uuid4()]) for _ in range(50)]
    batches = [decode_commands(body) for body in await published(*repricings(event_id), *buyers)]
    assert [len(batch) for batch in batches if isinstance(batch[0], ChangePrices)] == [1] * ORGANISERS
    assert sum(map(len, batches)) == ORGANISERS + len(buyers)
    assert len(batches) <= ORGANISERS + 2, "buyers' commands still gather while one is on its way"


async def test_together_they_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: nothing is large, and so all gather."""
    monkeypatch.setattr(command_bus, "LARGE_COMMANDS", ())
    event_id = EventId(uuid4())
    bodies = await published(reserve(event_id, a_user(), [uuid4()]), *repricings(event_id))
    with pytest.raises(UnreadableMessage, match="more than"):
        for body in bodies:
            decode_commands(body)
