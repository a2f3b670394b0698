"""How do we reach the broker, and what may happen to a message on its way there?

Publishing is confirmed, mandatory and bounded in time, on a connection of its own: a broker that blocks publishers must
not keep us from acknowledging. A publish that was not confirmed in time is not a failed publish: it may have arrived, and
whoever tries again must reckon with two.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

import aio_pika
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection, HeadersType
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelClosed, DeliveryError, PublishError
from yarl import URL

from contracts import wire
from contracts.settings import BrokerUser, Settings

CONNECT_TIMEOUT_SECONDS = 10.0
RECONNECT_SECONDS = 1.0
# Confirms take milliseconds; a broker that needs this long is blocked or down.
PUBLISH_TIMEOUT_SECONDS = 5.0


class PublishProblem(Exception):
    """The broker has not taken responsibility for the message."""


class QueueFull(PublishProblem):
    """A queue is at its limit and said no (basic.nack): nothing was stored, try again when it has been worked off."""


class Unroutable(PublishProblem):
    """No queue is bound for this key (basic.return): nothing was stored, and trying again helps only if that changes."""


class Refused(PublishProblem):
    """The broker closed the channel over this message or one published at the same time: no such exchange, no permission,
    too large. Alone on the channel, the message is to blame."""


class BrokerBusy(PublishProblem):
    """No confirm in time, or the connection went away: the message may or may not have arrived."""


def url_for(settings: Settings, user: BrokerUser, *, name: str) -> str:
    """The broker's address for this user; `name` is what the management UI shows for the connection."""
    query = {"heartbeat": str(settings.heartbeat_seconds), "name": name, "reconnect_interval": str(RECONNECT_SECONDS)}
    return str(URL(settings.rabbitmq_url_for(user)).update_query(query))


async def connect(settings: Settings, user: BrokerUser, *, name: str) -> AbstractRobustConnection:
    """A connection that comes back by itself once it has been made; raises OSError or AMQPError when it cannot be made."""
    return await aio_pika.connect_robust(url_for(settings, user, name=name), timeout=CONNECT_TIMEOUT_SECONDS)


def persistent_message(
    body: bytes,
    *,
    type: str,  # noqa: A002 -- AMQP's own name for it
    message_id: str | None = None,
    correlation_id: str | None = None,
    headers: Mapping[str, str | int] | None = None,
) -> aio_pika.Message:
    """A message that survives a restart of the broker."""
    fields: HeadersType = dict(headers or {})
    if wire.REASON_HEADER in fields:  # on its way to the parking lot
        fields[wire.PARKED_AT_HEADER] = int(time.time() * 1000)
    return aio_pika.Message(
        body,
        type=type,
        message_id=message_id,
        correlation_id=correlation_id,
        headers=fields,
        content_type=wire.CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


class ConfirmedPublisher:
    """One connection and one channel for publishing, with confirms; safe to share between tasks."""

    def __init__(self, settings: Settings, user: BrokerUser, *, name: str) -> None:
        self._settings = settings
        self._user = user
        self._name = name
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        self._in_flight: dict[str, asyncio.Event] = {}
        self._replacing = asyncio.Lock()

    async def open(self) -> Self:
        """Connect; raises OSError or AMQPError when the broker is not there."""
        self._connection = await connect(self._settings, self._user, name=self._name)
        self._channel = await self._new_channel(self._connection)
        return self

    async def close(self) -> None:
        """Disconnect; whoever still waits for a confirm gets BrokerBusy."""
        if self._connection is not None:
            await self._connection.close()
        self._connection = self._channel = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(
        self,
        message: aio_pika.Message,
        *,
        exchange: str,
        routing_key: str,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        """Return once the broker has confirmed it; raises QueueFull, Unroutable, Refused or BrokerBusy."""
        channel = self._channel
        if channel is None:
            raise BrokerBusy("the publisher is closed")
        # RabbitMQ checks this against the connection's user, and the engine checks who may send which command.
        message.user_id = None if "@" in self._settings.rabbitmq_url else self._user
        try:
            async with asyncio.timeout(timeout_seconds), self._alone_with(message.message_id):
                to = await channel.get_exchange(exchange, ensure=False)
                await to.publish(message, routing_key, mandatory=True)
        except PublishError as returned:  # before DeliveryError, whose subclass it is
            raise Unroutable(f"no queue is bound to {exchange} for {routing_key}") from returned
        except DeliveryError as refused:
            raise QueueFull(f"a queue behind {exchange} for {routing_key} is full") from refused
        except ChannelClosed as closed:
            await self._replace(channel)
            raise Refused(f"{exchange} {routing_key}: {closed}") from closed
        except TimeoutError as late:
            raise BrokerBusy(f"no confirm within {timeout_seconds} s") from late
        except CONNECTION_EXCEPTIONS as gone:
            raise BrokerBusy(f"the connection is gone: {gone!r}") from gone
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # aiormq cancels what waits for a confirm when it gives up a connection; nobody has cancelled us.
            raise BrokerBusy("the connection is gone") from None

    async def _new_channel(self, connection: AbstractRobustConnection) -> AbstractRobustChannel:
        # Without on_return_raises, a message that went nowhere would look like one that arrived.
        channel = connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize(timeout=CONNECT_TIMEOUT_SECONDS)
        return channel

    async def _replace(self, closed: AbstractRobustChannel) -> None:
        """Publish on another channel from now on: this one comes back by itself, but does not say when."""
        async with self._replacing:
            if self._channel is not closed or self._connection is None:
                return  # somebody else, whose message was on its way at the same time, has done it
            with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
                self._channel = await self._new_channel(self._connection)
                await closed.close()

    @asynccontextmanager
    async def _alone_with(self, message_id: str | None) -> AsyncIterator[None]:
        # The client matches returned messages by message id: of two with one id on the way at once, the wrong one would be
        # told that it went nowhere.
        if message_id is None:
            yield
            return
        while other := self._in_flight.get(message_id):
            await other.wait()
        self._in_flight[message_id] = confirmed = asyncio.Event()
        try:
            yield
        finally:
            del self._in_flight[message_id]
            confirmed.set()
