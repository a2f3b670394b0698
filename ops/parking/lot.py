"""How does one look into the parking lot without losing anything, and take a message out of it?

To look at a message is to take it: RabbitMQ has no other way. It is not acknowledged, so it goes back to its place when the
channel closes, with a higher delivery count and nothing else changed; the policy of the parking lot allows a thousand million
of them. While somebody looks, nobody else sees those messages. One that leaves is published first and acknowledged only when
the broker has confirmed that: a crash in between leaves it in both places, and who handles it knows what he has handled.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from consumers.broker import CONNECT_TIMEOUT_SECONDS, ConfirmedPublisher, url_for
from contracts import topology
from contracts.settings import BrokerUser, Settings
from db.failpoints import failpoint
from ops.parking.parked import Parked, read_parked
from ops.parking.way_back import WayBack

# The broker sends what is there at once, but what somebody has just looked at comes back a moment after he has gone.
SILENT_SECONDS = 0.2
# After so many silences in a row what is missing is in somebody else's hands.
SILENCES_MAX = 10
# RabbitMQ forgets acknowledgements that it has not passed on to a quorum queue when the channel closes.
LET_GO_ATTEMPTS = 5
# A consumer's prefetch is a 16-bit number.
TAKEN_AT_ONCE_MAX = 65_535


# Copies of a message that were parked at different times are two.
Identity = tuple[str, datetime | None, bytes]


@dataclass(frozen=True)
class Taken:
    """A message out of the lot for as long as the lot is open."""

    parked: Parked
    message: AbstractIncomingMessage


class ParkingLot:
    """The messages in it, over a channel of the user `operator`, who may read and nothing else."""

    def __init__(self, settings: Settings, channel: AbstractChannel, open_: AsyncExitStack, queue: str) -> None:
        self._settings = settings
        self._channel = channel
        self._open = open_
        # Acknowledged, which does not mean that the queue has heard of it.
        self.let_go: set[Identity] = set()
        self._publishers: dict[BrokerUser, ConfirmedPublisher] = {}
        self._queue = queue

    async def count(self) -> int:
        """How many are there, those not counted that somebody else is looking at."""
        underlay = await self._channel.get_underlay_channel()
        return (
            await underlay.queue_declare(self._queue, passive=True, timeout=CONNECT_TIMEOUT_SECONDS)
        ).message_count or 0

    async def take(self, *, limit: int, wanted: Callable[[Parked], bool] = lambda _: True) -> list[Taken]:
        """Look at the first `limit` messages, oldest first, and keep those that are wanted. Once."""
        limit = min(limit, TAKEN_AT_ONCE_MAX)
        await self._channel.set_qos(prefetch_count=limit)
        expected = min(limit, await self.count())
        arriving: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        queue = await self._channel.get_queue(self._queue, ensure=False)
        await queue.consume(arriving.put, consumer_tag="boxoffice parking")
        kept: list[Taken] = []
        seen_count = silences = 0
        while seen_count < limit and silences < SILENCES_MAX:
            try:
                message = await asyncio.wait_for(arriving.get(), SILENT_SECONDS)
            except TimeoutError:
                silences += 1
                if seen_count >= expected and await self.count() == 0:
                    break
                continue
            seen_count, silences = seen_count + 1, 0
            parked = read_parked(message)
            if wanted(parked):
                kept.append(Taken(parked, message))
        return kept

    async def send_back(self, taken: Taken, way: WayBack) -> None:
        """Publish it, and only then let it go; raises PublishProblem, and then it is still here."""
        publisher = await self._publisher(way.user)
        await publisher.publish(way.message, exchange=way.exchange, routing_key=way.routing_key)
        await failpoint("parking.after_publish")
        await self.drop(taken)

    async def drop(self, taken: Taken) -> None:
        """Let it go."""
        await taken.message.ack()
        self.let_go.add(_identity(taken.parked))

    async def let_go_of(self, identities: Set[Identity]) -> int:
        """Acknowledge those of them that have come back; returns how many have."""
        returned = await self.take(limit=TAKEN_AT_ONCE_MAX, wanted=lambda parked: _identity(parked) in identities)
        for taken in returned:
            await taken.message.ack()
        return len(returned)

    async def _publisher(self, user: BrokerUser) -> ConfirmedPublisher:
        publisher = self._publishers.get(user)
        if publisher is None:
            publisher = ConfirmedPublisher(self._settings, user, name="boxoffice parking replays")
            self._publishers[user] = await self._open.enter_async_context(publisher)
        return publisher


def _identity(parked: Parked) -> Identity:
    return parked.id, parked.parked_at, parked.body


@asynccontextmanager
async def parking_lot(settings: Settings, *, queue: str = topology.PARKING_QUEUE) -> AsyncIterator[ParkingLot]:
    """The lot, open; what is not taken out of it is back in its place afterwards. Raises OSError or AMQPError."""
    connection = await aio_pika.connect(
        url_for(settings, "operator", name="boxoffice parking"), timeout=CONNECT_TIMEOUT_SECONDS
    )
    async with connection, AsyncExitStack() as open_:
        async with connection.channel(publisher_confirms=False) as channel:
            lot = ParkingLot(settings, channel, open_, queue)
            yield lot
        for _ in range(LET_GO_ATTEMPTS if lot.let_go else 0):
            async with connection.channel(publisher_confirms=False) as channel:
                again = ParkingLot(settings, channel, open_, queue)
                if not await again.let_go_of(lot.let_go):
                    break
