"""How does a request become a command, and the reply find its way back?

`ask` puts a command on its event's queue and waits for the reply with its correlation id. Commands for one event that are
asked while a publish is under way travel together in the next message. Publishing and replies have a connection each,
because a broker that blocks publishers must still be able to answer. What is not known is never guessed: a wait that ends
without a reply is `OutcomeUnknown`, and the reply is kept for `/api/commands/<id>` should it come later.
"""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError, ChannelNotFoundEntity, DeliveryError, PublishError
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis

from contracts import topology, wire
from contracts.commands import AnyCommand, ChangePrices, ReturnSeats, WithholdSeats
from contracts.ids import CommandId, EventId, UserId
from contracts.replies import AnyReply
from contracts.settings import Settings
from db import command_outcomes
from db.coalescer import Coalescer, CoalescerFull
from db.redis import REDIS_AWAY
from db.telemetry.traces import Span, about_messages, begin_span, is_tracing, span

log = logging.getLogger(__name__)

BROKER_AWAY = (*CONNECTION_EXCEPTIONS, AMQPError, OSError, TimeoutError)
CONNECT_TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 0.5
DEPTH_TIMEOUT_SECONDS = 0.25
# A broker that has not confirmed in time so often in a row is left alone for this long: every request would wait in turn.
LATE_CONFIRMS_MAX = 3
PAUSE_SECONDS = 0.5
# How often those whose wait is over are told so; a timer for each request would cost more than the wait is worth.
LOOK_EVERY_SECONDS = 0.05
# Each of these may name thousands of seats, so it travels alone: five in one message would make it too large to be read, and
# the buyers' commands in it with them.
LARGE_COMMANDS = (WithholdSeats, ReturnSeats, ChangePrices)
# Asks whose asker has gone and whose late reply we would still store.
GONE_MAX = 20_000

COMMANDS_PER_MESSAGE = Histogram(
    "boxoffice_commands_per_message",
    "Commands that travelled together to their event's queue",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
REFUSED = Counter(
    "boxoffice_asks_refused_total",
    "Commands that no reply came to: the queue is full (busy), no broker (unavailable), no queue (not_on_sale), or the outcome"
    " is not known (unknown: no confirm, no reply in time)",
    ["because"],
)
REPLY_TIMEOUTS = Counter("boxoffice_reply_timeouts_total", "Commands whose reply did not come in time")
LATE_REPLIES = Counter("boxoffice_late_replies_total", "Replies that came after their asker had given up")


class NotAsked(Exception):
    """The command is on no queue, so nothing will come of it."""


class NotOnSale(NotAsked):
    """No queue takes commands for this event (basic.return)."""


class Busy(NotAsked):
    """The event's queue is full, or too many are waiting here already: try again in a moment."""


class Unavailable(NotAsked):
    """There is no connection to the broker, or it is not taking messages."""


class OutcomeUnknown(Exception):
    """The command may be carried out, or not; look again under its id."""


BECAUSE: dict[type[Exception], str] = {
    Busy: "busy",
    NotOnSale: "not_on_sale",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
}
for _word in BECAUSE.values():
    REFUSED.labels(_word)  # so that a rate is there before the first of them


class Waiting(NamedTuple):
    """Somebody who waits for a reply, and until when by the loop's clock."""

    reply: asyncio.Future[AnyReply]
    user_id: UserId
    until: float
    asked_at_ms: int


class Gone(NamedTuple):
    """Somebody who does not wait for a reply; `is_late` if he did."""

    user_id: UserId
    is_late: bool


class CommandBus:
    """One per ingress process. Open it with `await CommandBus.open(settings, redis)`."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings = settings
        self._redis = redis
        self._waiting: dict[CommandId, Waiting] = {}
        self._gone: OrderedDict[CommandId, Gone] = OrderedDict()
        self._publishing: dict[tuple[EventId, bool], Coalescer[AnyCommand, None]] = {}
        # Of commands that are traced and on their way.
        self._spans: dict[CommandId, Span] = {}
        self._exchange: AbstractExchange | None = None
        self._listening: AbstractConnection | None = None
        self._reply_queue: str | None = None
        self._late_confirms = 0
        self._paused_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._storing: set[asyncio.Task[None]] = set()
        self._connected = asyncio.Condition()

    @classmethod
    async def open(cls, settings: Settings, redis: Redis) -> Self:
        """Connect; raises Unavailable when the broker is not there within a few seconds."""
        bus = cls(settings, redis)
        bus._tasks = [
            asyncio.create_task(bus._stay_connected(bus._publish_until_lost), name="commands out"),
            asyncio.create_task(bus._stay_connected(bus._listen_until_lost), name="replies in"),
            asyncio.create_task(bus._end_waits(), name="waits"),
        ]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS), bus._connected:
                await bus._connected.wait_for(lambda: bus.is_connected)
        except TimeoutError:
            await bus.close()
            raise Unavailable(f"RabbitMQ did not answer within {CONNECT_TIMEOUT_SECONDS} s") from None
        return bus

    @property
    def is_connected(self) -> bool:
        """Whether a command could be published and its reply received now."""
        return self._exchange is not None and self._reply_queue is not None

    @property
    def waiting_count(self) -> int:
        """How many wait for a reply."""
        return len(self._waiting)

    async def close(self) -> None:
        """Disconnect; whoever still waits is told that the outcome is unknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._storing, return_exceptions=True)
        self._fail_all(OutcomeUnknown("the ingress is closing"))

    async def ask(self, command: AnyCommand, *, user_id: UserId, wait_seconds: float) -> AnyReply:
        """The sale's answer. Raises NotAsked when nothing will come of it, OutcomeUnknown when that cannot be said."""
        try:
            with span(command.type, kind="client"):
                return await self._ask(self._traced(command), user_id, wait_seconds)
        except (NotAsked, OutcomeUnknown) as problem:
            REFUSED.labels(_because(problem)).inc()
            self._end_spans([command], problem)
            raise

    async def _ask(self, command: AnyCommand, user_id: UserId, wait_seconds: float) -> AnyReply:
        self._refuse_if_not_able()
        correlation_id = command.correlation_id
        if correlation_id is None:
            raise ValueError("an ask needs a correlation id")
        if correlation_id in self._waiting:
            raise ValueError("two who wait under one correlation id would get each other's replies")
        loop = asyncio.get_running_loop()
        waiting = Waiting(loop.create_future(), user_id, loop.time() + wait_seconds, _now_ms())
        self._waiting[correlation_id] = waiting
        try:
            # Nobody waits for the confirm: a publish that fails fails the reply.
            self._publisher(command).add(command)
            return await waiting.reply
        except CoalescerFull as full:
            raise Busy(str(full)) from None
        except OutcomeUnknown:
            self._remember_gone(correlation_id, Gone(user_id, is_late=True))
            raise
        finally:
            self._waiting.pop(correlation_id, None)

    async def tell(self, command: AnyCommand, *, user_id: UserId) -> None:
        """Ask without waiting: the reply is kept for `/api/commands/<id>`. Raises NotAsked or OutcomeUnknown."""
        try:
            await self._tell(self._traced(command), user_id)
        except (NotAsked, OutcomeUnknown) as problem:
            REFUSED.labels(_because(problem)).inc()
            self._end_spans([command], problem)
            raise

    async def _tell(self, command: AnyCommand, user_id: UserId) -> None:
        self._refuse_if_not_able()
        if command.correlation_id is not None:
            self._remember_gone(command.correlation_id, Gone(user_id, is_late=False))
        try:
            await self._publisher(command).ask(command)
        except CoalescerFull as full:
            raise Busy(str(full)) from None

    async def find_depth(self, event_id: EventId) -> int | None:
        """Messages of commands that wait in the event's queue, or in the lane it shares with others; None when the broker
        does not say."""
        connection = self._listening
        if connection is None:
            return None
        try:
            async with asyncio.timeout(DEPTH_TIMEOUT_SECONDS):
                for name in (topology.event_queue(event_id), topology.lane_queue(topology.lane_of(event_id))):
                    with suppress(ChannelNotFoundEntity):
                        return await _message_count(connection, name)
        except BROKER_AWAY as problem:
            log.warning("command_depth_unknown", extra={"event_id": str(event_id), "error": repr(problem)})
        return None

    async def ask_broker(self) -> None:
        """Whether it answers, and commands could be published now: raises when not."""
        connection = self._listening
        if connection is None or not self.is_connected:
            raise ConnectionError("not connected to the broker")
        await _message_count(connection, topology.lane_queue(0))

    def _refuse_if_not_able(self) -> None:
        if len(self._waiting) >= self._settings.commands_in_flight_max:
            raise Busy("too many commands are waited for")
        if not self.is_connected or time.monotonic() < self._paused_until:
            raise Unavailable("the broker is not taking commands")

    def _remember_gone(self, correlation_id: CommandId, gone: Gone) -> None:
        self._gone[correlation_id] = gone
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)

    # ---- commands out

    def _publisher(self, command: AnyCommand) -> Coalescer[AnyCommand, None]:
        is_large = isinstance(command, LARGE_COMMANDS)
        publisher = self._publishing.get((command.event_id, is_large))
        if publisher is None:
            self._forget_idle_publishers()
            publisher = self._publishing[command.event_id, is_large] = Coalescer(
                self._publish, batch_max=1 if is_large else self._settings.command_batch_max
            )
        return publisher

    def _forget_idle_publishers(self) -> None:
        if len(self._publishing) > 1000:
            self._publishing = {key: one for key, one in self._publishing.items() if not one.is_idle}

    async def _publish(self, commands: Sequence[AnyCommand]) -> Sequence[None]:
        """Raises what has become of them, and tells those who wait for a reply."""
        try:
            await self._publish_confirmed(commands)
            self._end_spans(commands)
        except (NotAsked, OutcomeUnknown) as problem:
            for command in commands:
                self._fail(self._waiting.get(command.correlation_id or command.command_id), problem)
            self._end_spans(commands, problem)
            raise
        return [None] * len(commands)

    async def _publish_confirmed(self, commands: Sequence[AnyCommand]) -> None:
        exchange, reply_queue = self._exchange, self._reply_queue
        if exchange is None or reply_queue is None:
            raise Unavailable("the broker went away")
        routing_key = topology.command_routing_key(commands[0].event_id)
        COMMANDS_PER_MESSAGE.observe(len(commands))
        try:
            async with asyncio.timeout(self._settings.publish_timeout_seconds):
                await exchange.publish(self._message(commands, reply_queue), routing_key, mandatory=True)
        except PublishError as returned:  # before DeliveryError, whose subclass it is
            raise NotOnSale(f"no queue for {routing_key}") from returned
        except DeliveryError as refused:
            raise Busy(f"the queue for {routing_key} is full") from refused
        except TimeoutError as late:
            # It may still arrive. Its deadline bounds what can come of it.
            self._late_confirms += 1
            if self._late_confirms >= LATE_CONFIRMS_MAX:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise OutcomeUnknown("the broker did not confirm in time") from late
        except (*CONNECTION_EXCEPTIONS, AMQPError) as gone:
            raise OutcomeUnknown(f"the broker went away: {gone!r}") from gone
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The client cancels what waits for a confirm when it gives up a connection; nobody has cancelled us.
            raise OutcomeUnknown("the broker went away") from None
        self._late_confirms = 0

    def _message(self, commands: Sequence[AnyCommand], reply_queue: str) -> aio_pika.Message:
        return aio_pika.Message(
            wire.encode_commands(commands),
            type=wire.COMMANDS_TYPE,
            content_type=wire.CONTENT_TYPE,
            message_id=str(uuid4()),
            correlation_id=str(commands[0].correlation_id),
            reply_to=reply_queue,
            user_id=_user_id(self._settings),
            expiration=_seconds_until_last_deadline(commands),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            headers={wire.COUNT_HEADER: len(commands), wire.ASKED_AT_HEADER: self._asked_at_ms(commands[0])},
        )

    def _asked_at_ms(self, oldest: AnyCommand) -> int:
        """Of one for which nobody waits: now."""
        waiting = self._waiting.get(oldest.correlation_id or oldest.command_id)
        return _now_ms() if waiting is None else waiting.asked_at_ms

    def _traced(self, command: AnyCommand) -> AnyCommand:
        """The command as it is; where the request is traced, with the span of its way to the queue."""
        if not is_tracing():
            return command
        about = about_messages(
            exchange=topology.COMMANDS, routing_key=topology.command_routing_key(command.event_id), operation="send"
        )
        begun = begin_span(f"publish {topology.COMMANDS}", kind="producer", attributes=about)
        if begun is None:
            return command
        self._spans[command.correlation_id or command.command_id] = begun
        return command.model_copy(update={"traceparent": begun.traceparent})

    def _end_spans(self, commands: Sequence[AnyCommand], problem: Exception | None = None) -> None:
        if not self._spans:
            return
        for command in commands:
            begun = self._spans.pop(command.correlation_id or command.command_id, None)
            if begun is not None:
                begun.note({"messaging.batch.message_count": len(commands)})
                begun.end(problem)

    async def _publish_until_lost(self) -> None:
        connection = await self._connect("ingress asks")
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            lost = lost_event(connection, channel)
            try:
                self._exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
                await self._say_connected()
                await lost.wait()
            finally:
                self._exchange = None

    # ---- replies in

    async def _listen_until_lost(self) -> None:
        connection = await self._connect("ingress listens")
        async with connection:
            channel = await connection.channel(publisher_confirms=False)
            lost = lost_event(connection, channel)
            # A new name each time: the broker may still believe that the last connection has the old queue.
            name = f"{topology.REPLIES}.{os.getpid()}.{uuid4().hex}"
            queue = await channel.declare_queue(
                name, durable=False, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"}
            )
            await queue.bind(topology.REPLIES, routing_key=name)
            await queue.consume(self._take_replies, no_ack=True)
            try:
                self._reply_queue, self._listening = name, connection
                await self._say_connected()
                await lost.wait()
            finally:
                self._reply_queue = self._listening = None
                self._fail_all(OutcomeUnknown("the connection that replies come on was lost"))

    async def _take_replies(self, delivery: AbstractIncomingMessage) -> None:
        try:
            replies = wire.decode_replies(delivery.body)
        except wire.UnreadableMessage as problem:
            log.exception("unreadable_reply", extra={"error": str(problem)})
            return
        for addressed in replies:
            waiting = self._waiting.get(addressed.correlation_id)
            if waiting is not None and not waiting.reply.done():
                waiting.reply.set_result(addressed.reply)
                continue
            gone = self._gone.pop(addressed.correlation_id, None)
            if gone is not None:
                LATE_REPLIES.inc(gone.is_late)
                self._store_late(gone.user_id, addressed.command_id, addressed.reply)

    def _store_late(self, user_id: UserId, command_id: CommandId, reply: AnyReply) -> None:
        async def store() -> None:
            with suppress(*REDIS_AWAY):
                await command_outcomes.record_reply(self._redis, user_id, command_id, reply)

        task = asyncio.create_task(store())
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    # ---- connections

    async def _connect(self, name: str) -> AbstractConnection:
        url = f"{self._settings.rabbitmq_url_for('ingress')}&name={name.replace(' ', '%20')}"
        return await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)

    async def _stay_connected(self, work_until_lost: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work_until_lost()
            except BROKER_AWAY as problem:
                log.warning("broker_away", extra={"error": repr(problem)})
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _say_connected(self) -> None:
        async with self._connected:
            self._connected.notify_all()

    async def _end_waits(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            now = loop.time()
            for waiting in list(self._waiting.values()):
                if waiting.until <= now and not waiting.reply.done():
                    REPLY_TIMEOUTS.inc()
                    self._fail(waiting, OutcomeUnknown("no reply in time"))

    def _fail_all(self, problem: Exception) -> None:
        for waiting in self._waiting.values():
            self._fail(waiting, problem)

    def _fail(self, waiting: Waiting | None, problem: Exception) -> None:
        if waiting is not None and not waiting.reply.done():
            waiting.reply.set_exception(problem)


async def _message_count(connection: AbstractConnection, queue: str) -> int:
    # A channel for each question: the broker closes it when there is no such queue.
    async with connection.channel(publisher_confirms=False) as channel:
        underlay = await channel.get_underlay_channel()
        found = await underlay.queue_declare(queue, passive=True)
        return found.message_count or 0


def lost_event(connection: AbstractConnection, channel: AbstractChannel) -> asyncio.Event:
    """Set when either is closed, by whomever."""
    lost = asyncio.Event()
    connection.close_callbacks.add(lambda *_: lost.set())
    channel.close_callbacks.add(lambda *_: lost.set())
    return lost


def _because(problem: Exception) -> str:
    return next(word for kind, word in BECAUSE.items() if isinstance(problem, kind))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _user_id(settings: Settings) -> str | None:
    """RabbitMQ checks it against the connection's user, and the consumers against who may ask for what."""
    return None if "@" in settings.rabbitmq_url else "ingress"


def _seconds_until_last_deadline(commands: Sequence[AnyCommand]) -> timedelta | None:
    deadlines = [command.deadline_at for command in commands if command.deadline_at is not None]
    if len(deadlines) < len(commands):
        return None
    return max(timedelta(milliseconds=1), max(deadlines) - datetime.now(UTC))
