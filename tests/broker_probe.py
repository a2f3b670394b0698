"""What is in the broker, and what happens when a message is put there? Asked and done as the `lifecycle` user."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from consumers.broker import url_for
from contracts import topology
from contracts.settings import BrokerUser, Settings
from tests.eventually import eventually


class BrokerProbe:
    """A connection of a test's own; the queues it has made are gone when it is closed."""

    def __init__(self, settings: Settings, user: BrokerUser = "lifecycle") -> None:
        self._settings = settings
        self._user = user
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._made: list[str] = []

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(url_for(self._settings, self._user, name="test"), timeout=10)
        self._channel = await self._connection.channel(on_return_raises=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        async with self._connection:
            channel = await self._connection.channel()
            for name in self._made:
                await channel.queue_delete(name)

    @property
    def channel(self) -> AbstractChannel:
        assert self._channel is not None
        return self._channel

    async def fresh_channel(self) -> AbstractChannel:
        """A channel for what may fail: the broker closes a channel over an error."""
        assert self._connection is not None
        return await self._connection.channel()

    async def make_queue(
        self, name: str, *, arguments: Mapping[str, Any] | None = None, bound_to: tuple[str, str] | None = None
    ) -> str:
        """A durable queue, classic unless the arguments say otherwise, bound to (exchange, key) if wanted."""
        queue = await self.channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "classic", **(arguments or {})}
        )
        if bound_to is not None:
            await queue.bind(bound_to[0], bound_to[1])
        self._made.append(name)
        return name

    async def make_work_queue(self) -> str:
        """A queue like an event's, with its policy, that the `worker` user may consume and nobody else knows."""
        return await self.make_queue(
            topology.event_queue(uuid4()),  # type: ignore[arg-type]
            arguments={"x-queue-type": "quorum"},
        )

    async def make_parking_copy(self, origin_queue: str) -> str:
        """A queue that gets what is parked from this queue, beside the parking lot that all tests share."""
        return await self.make_queue(f"tk.test.parked.{uuid4()}", bound_to=(topology.PARKING_EXCHANGE, origin_queue))

    async def make_ladder(self, delay_seconds: int) -> None:
        """A rung of the retry ladder that the fixed topology does not have; it stays."""
        name = topology.retry_exchange(delay_seconds)
        exchange = await self.channel.declare_exchange(name, type="fanout", durable=True)
        queue = await self.channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum", "x-message-ttl": delay_seconds * 1000}
        )
        await queue.bind(exchange)

    async def put(self, queue: str, body: bytes, *, headers: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Put a message straight into a queue; returns when the broker has it."""
        message = aio_pika.Message(body, headers=dict(headers or {}), delivery_mode=2, **fields)
        await self.channel.default_exchange.publish(message, queue, timeout=5)

    async def take(self, queue: str) -> AbstractIncomingMessage | None:
        """The first message, acknowledged; None when there is none."""
        found = await self.channel.get_queue(queue, ensure=False)
        return await found.get(no_ack=True, fail=False, timeout=5)

    async def wait_for(self, queue: str, *, within_seconds: float = 5.0) -> AbstractIncomingMessage:
        """The first message, acknowledged, as soon as there is one."""
        found = await eventually(lambda: self.take(queue), within_seconds=within_seconds)
        assert found is not None
        return found

    async def ready_count(self, queue: str) -> int:
        """How many messages nobody has taken."""
        underlay = await self.channel.get_underlay_channel()
        return (await underlay.queue_declare(queue, passive=True, timeout=5)).message_count or 0

    async def consumer_count(self, queue: str) -> int:
        """How many consume it."""
        underlay = await self.channel.get_underlay_channel()
        return (await underlay.queue_declare(queue, passive=True, timeout=5)).consumer_count or 0
