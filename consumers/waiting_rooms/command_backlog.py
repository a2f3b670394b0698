"""How long do an event's commands wait before anybody looks at them?

AMQP tells how many messages are ready in a queue, not how old they are. So the age is an estimate: the backlog divided by the
rate at which seats have changed hands of late, which a message of the ingress does at least once. It is too high where most
commands are refused, and that is when more people are not needed.
"""

import asyncio
import logging
import time
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError, ChannelNotFoundEntity

from consumers.broker import url_for
from contracts import topology
from contracts.ids import EventId
from contracts.settings import Settings

log = logging.getLogger(__name__)

ASK_TIMEOUT_SECONDS = 2.0
# A broker that is away is not asked by every room in turn: they would wait for it instead of for each other.
AWAY_SECONDS = 5.0
# An engine that has nothing else to do takes a hundred messages a second, whatever is in them.
MESSAGES_PER_SECOND_MIN = 100.0

_BROKER_AWAY: tuple[type[BaseException], ...] = (*CONNECTION_EXCEPTIONS, AMQPError, OSError, TimeoutError)


class CommandBacklog:
    """Asks the broker, on a connection of its own that is made when it is first needed, and anew after it was lost."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: AbstractConnection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._away_until = 0.0

    async def find_depth(self, event_id: EventId) -> int | None:
        """Commands' messages that wait in the event's queue, or in the lane it shares; None when the broker is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_SECONDS), self._one_at_a_time:
                return await self._count_either(event_id)
        except _BROKER_AWAY as problem:
            log.warning("command_backlog_unknown", extra={"event_id": event_id, "reason": repr(problem)})
            self._away_until = time.monotonic() + AWAY_SECONDS
            await self.close()
            return None

    async def close(self) -> None:
        """Disconnect; the next question connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_BROKER_AWAY):
                async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
                    await connection.close()

    async def _count_either(self, event_id: EventId) -> int:
        depth = await self._count(topology.event_queue(event_id))
        if depth is None:
            depth = await self._count(topology.lane_queue(topology.lane_of(event_id)))
        return depth or 0

    async def _count(self, name: str) -> int | None:
        """Ready messages; None when there is no such queue."""
        if self._connection is None:
            url = url_for(self._settings, "worker", name="admissions looks")
            self._connection = await aio_pika.connect(url, timeout=ASK_TIMEOUT_SECONDS)
        # A channel for each question: the broker closes it when there is no such queue.
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            underlay = await channel.get_underlay_channel()
            found = await underlay.queue_declare(name, passive=True, timeout=ASK_TIMEOUT_SECONDS)
        except ChannelNotFoundEntity:
            return None
        finally:
            if not channel.is_closed:
                await channel.close()
        return found.message_count or 0


def age_ms(depth: int | None, *, changes_per_second: float) -> float | None:
    """How long the last of so many messages waits, in milliseconds, as far as can be told."""
    if depth is None:
        return None
    return depth / max(MESSAGES_PER_SECOND_MIN, changes_per_second) * 1000
