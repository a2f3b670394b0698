"""How does a message that we owe reach the broker?

The relay takes the oldest messages from the outbox, publishes them, and deletes those the broker has confirmed, in one
transaction: a crash in between leaves them owed, so each arrives at least once. NOTIFY wakes it, a poll makes sure. A message
that cannot be delivered steps aside, is tried again ever more rarely, and ends in the parking lot with its reason.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

import aio_pika
import asyncpg
from prometheus_client import Counter, Gauge

from consumers.broker import (
    BrokerBusy,
    ConfirmedPublisher,
    PublishProblem,
    QueueFull,
    Refused,
    Unroutable,
    persistent_message,
)
from contracts import topology, wire
from contracts.settings import Settings
from db.failpoints import failpoint
from db.outbox import OUTBOX_CHANNEL, OwedMessage, delete_messages, find_backlog, take_messages
from db.postgres import TRANSIENT_ERRORS, Pool, open_pool, transaction
from db.telemetry.traces import Span, about_messages, span

log = logging.getLogger(__name__)

BACK_OFF_FIRST_SECONDS = 1.0
BACK_OFF_MAX_SECONDS = 60.0
# With the back-off above: about four minutes, in which a missing queue can be declared.
PARK_AFTER_FAILURES = 9
# Messages that step aside are named in the query that takes the others.
STEPPED_ASIDE_MAX = 1000
# One at a time is slow, so only as many as it takes to find the one to blame.
SINGLE_FILE_MAX = 20
BACKLOG_EVERY_SECONDS = 5.0
ORIGIN_EXCHANGE_HEADER = "x-origin-exchange"
ORIGIN_KEY_HEADER = "x-origin-routing-key"

RELAYED = Counter("boxoffice_relayed_total", "Outbox messages by what became of them", ["outcome"])
OWED = Gauge("boxoffice_outbox_messages", "Messages in the outbox (counting stops at 10,000)")
OWED_SECONDS = Gauge("boxoffice_outbox_oldest_seconds", "How long the oldest message in the outbox has been waiting")


@dataclass
class Setback:
    """How often a message, or all for one destination, could not be delivered, and when to try again (monotonic)."""

    count: int = 0
    next_try_at: float = 0.0

    def again(self) -> None:
        """One more failure: twice the pause."""
        self.count += 1
        self.next_try_at = time.monotonic() + min(BACK_OFF_FIRST_SECONDS * 2 ** (self.count - 1), BACK_OFF_MAX_SECONDS)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.next_try_at


class Relay:
    """Moves messages from the outbox to the broker; several may work at the same time."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        publisher: ConfirmedPublisher,
        *,
        park_after_failures: int = PARK_AFTER_FAILURES,
    ) -> None:
        self._batch_max = settings.relay_batch_max
        # The transaction lies idle while we wait for confirms, and PostgreSQL ends those that do so for too long.
        self._publish_timeout_seconds = settings.idle_transaction_timeout_seconds / 2
        self._pool = pool
        self._publisher = publisher
        self._park_after_failures = park_after_failures
        self._undeliverable: dict[int, Setback] = {}
        self._full: dict[str, Setback] = {}
        self._single_file = False

    async def run_once(self) -> int:
        """Publish one batch; returns how many messages are owed no longer. Raises PostgreSQL's errors."""
        if len(self._undeliverable) >= STEPPED_ASIDE_MAX and not any(s.is_over for s in self._undeliverable.values()):
            return 0
        async with transaction(self._pool) as tx:
            messages = await take_messages(
                tx,
                limit=SINGLE_FILE_MAX if self._single_file else self._batch_max,
                except_ids=[id_ for id_, setback in self._undeliverable.items() if not setback.is_over],
                except_destinations=[name for name, setback in self._full.items() if not setback.is_over],
            )
            if not messages:
                return 0
            await failpoint("relay.after_select")
            outcomes = await self._publish_all(messages)
            await failpoint("relay.after_publish")
            done = [
                message.id
                for message, problem in zip(messages, outcomes, strict=True)
                if await self._is_settled(message, problem)
            ]
            await delete_messages(tx, done)
        for id_ in done:
            self._undeliverable.pop(id_, None)
        return len(done)

    async def _publish_all(self, messages: Sequence[OwedMessage]) -> list[PublishProblem | None]:
        """What went wrong with each, None where the broker has confirmed it."""
        if self._single_file:
            outcomes = [await self._publish(message) for message in messages]
            self._single_file = False
            return outcomes
        outcomes = await asyncio.gather(*(self._publish(message) for message in messages))
        # The broker closed the channel over one of them and so refused them all. One after the other shows which.
        self._single_file = len(messages) > 1 and any(isinstance(problem, Refused) for problem in outcomes)
        if self._single_file:
            return [BrokerBusy(str(problem)) if isinstance(problem, Refused) else problem for problem in outcomes]
        return outcomes

    async def _publish(self, message: OwedMessage) -> PublishProblem | None:
        try:
            with _traced(message):
                await self._publisher.publish(
                    _as_published(message),
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    timeout_seconds=self._publish_timeout_seconds,
                )
        except PublishProblem as problem:
            return problem
        return None

    async def _is_settled(self, message: OwedMessage, problem: PublishProblem | None) -> bool:
        """True when the message is owed no longer."""
        match problem:
            case None:
                self._full.pop(_destination(message), None)
                RELAYED.labels("published").inc()
                return True
            case QueueFull():
                # Nothing is wrong with the message: its queue is busy, and the others need not wait for it.
                if (setback := self._full.setdefault(_destination(message), Setback())).is_over:
                    setback.again()
                    log.warning("outbox_destination_full", extra={"reason": str(problem)})
                RELAYED.labels("queue_full").inc()
                return False
            case Unroutable() | Refused():
                return await self._step_aside(message, problem)
            case _:
                RELAYED.labels("unconfirmed").inc()
                return False

    async def _step_aside(self, message: OwedMessage, problem: PublishProblem) -> bool:
        setback = self._undeliverable.setdefault(message.id, Setback())
        setback.again()
        told = {
            "outbox_id": message.id,
            "message_type": message.type,
            "reason": str(problem),
            "failures": setback.count,
        }
        RELAYED.labels("undeliverable").inc()
        if setback.count < self._park_after_failures:
            log.warning("outbox_message_undeliverable", extra=told)
            return False
        try:
            await self._publisher.publish(
                _as_parked(message, problem),
                exchange=topology.PARKING_EXCHANGE,
                routing_key=f"outbox.{message.type}",
                timeout_seconds=self._publish_timeout_seconds,
            )
        except PublishProblem as parking_problem:
            log.error("outbox_message_not_parked", extra={**told, "parking": str(parking_problem)})  # noqa: TRY400 -- expected
            return False
        log.error("outbox_message_parked", extra=told)
        RELAYED.labels("parked").inc()
        return True


class Wakeup:
    """Set when somebody has recorded messages. Its own connection: a pooled one would forget that it listens."""

    def __init__(self, settings: Settings, channel: str) -> None:
        self._url = settings.postgres_url
        self._channel = channel
        self._connection: asyncpg.Connection | None = None
        self.happened = asyncio.Event()

    async def listen(self) -> None:
        """Make sure we listen; without a connection the poll alone has to do."""
        if self._connection is not None and not self._connection.is_closed():
            return
        try:
            self._connection = await asyncpg.connect(self._url, timeout=5.0, command_timeout=5.0)
            await self._connection.add_listener(self._channel, self._heard)
        except TRANSIENT_ERRORS as problem:
            log.warning("not_listening", extra={"channel": self._channel, "reason": repr(problem)})

    async def wait(self, stopping: asyncio.Event, timeout_seconds: float) -> None:
        """Return when woken, told to stop, or after the timeout."""
        waits = {asyncio.create_task(self.happened.wait()), asyncio.create_task(stopping.wait())}
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        self.happened.clear()

    async def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            with suppress(*TRANSIENT_ERRORS):
                await self._connection.close(timeout=5.0)

    def _heard(self, *_: object) -> None:
        self.happened.set()


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Relay until told to stop; a batch that has been taken is finished."""
    pool = await open_pool(settings, application_name="boxoffice relay", size=2)
    wakeup = Wakeup(settings, OUTBOX_CHANNEL)
    try:
        async with ConfirmedPublisher(settings, "courier", name="relay publishes") as publisher:
            relay = Relay(settings, pool, publisher)
            while not stopping.is_set():
                await wakeup.listen()
                if await _relayed_something(relay):
                    continue
                await _report_backlog(pool)
                await wakeup.wait(stopping, settings.relay_poll_seconds)
    finally:
        await wakeup.close()
        await pool.close()


async def _relayed_something(relay: Relay) -> bool:
    try:
        return await relay.run_once() > 0
    except TRANSIENT_ERRORS as problem:
        log.warning("relay_round_failed", extra={"reason": repr(problem)})
        return False


_backlog_seen_at = 0.0


async def _report_backlog(pool: Pool) -> None:
    global _backlog_seen_at
    if time.monotonic() - _backlog_seen_at < BACKLOG_EVERY_SECONDS:
        return
    _backlog_seen_at = time.monotonic()
    with suppress(*TRANSIENT_ERRORS):
        async with transaction(pool) as tx:
            backlog = await find_backlog(tx)
        OWED.set(backlog.message_count)
        OWED_SECONDS.set(backlog.oldest_seconds)


def _traced(message: OwedMessage) -> AbstractContextManager[Span | None]:
    about = about_messages(exchange=message.exchange, routing_key=message.routing_key, operation="send")
    return span(f"publish {message.exchange}", kind="producer", parent=message.traceparent, attributes=about)


def _destination(message: OwedMessage) -> str:
    return f"{message.exchange} {message.routing_key}"


def _as_published(message: OwedMessage) -> aio_pika.Message:
    trace = {wire.TRACEPARENT_HEADER: message.traceparent} if message.traceparent else {}
    return persistent_message(message.body, type=message.type, message_id=str(message.message_id), headers=trace)


def _as_parked(message: OwedMessage, problem: PublishProblem) -> aio_pika.Message:
    headers: dict[str, str | int] = {
        wire.REASON_HEADER: str(problem),
        ORIGIN_EXCHANGE_HEADER: message.exchange,
        ORIGIN_KEY_HEADER: message.routing_key,
    }
    return persistent_message(message.body, type=message.type, message_id=str(message.message_id), headers=headers)
