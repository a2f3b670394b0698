"""Which queues does this process drain, and what becomes of each delivery?

One channel and one drain loop per queue, so that an event's commands stay in order. The callback only enqueues; the loop
takes one delivery, then whatever else is there, runs the batch, replies, and acknowledges everything up to the last.
The connection is a plain one on purpose: a robust client would declare a deleted event queue again.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError

from consumers.broker import CONNECT_TIMEOUT_SECONDS, ConfirmedPublisher, persistent_message, url_for
from consumers.event_commands.door import Door
from consumers.event_commands.engine import Answered, Asked, Engine, NotProcessed, Outcome
from consumers.event_commands.replies import Replies
from contracts import topology, wire
from contracts.commands import PEOPLES_COMMANDS, AnyCommand
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.replies import Rejected
from contracts.settings import Settings
from db import sale_clock
from db.failpoints import failpoint
from db.postgres import BY_INDEX, TRANSIENT_ERRORS, Pool, open_pool
from db.seat_locks import SeatLocks
from db.waiting_room import WaitingRooms

log = logging.getLogger(__name__)

# How often the list of events on sale is read when nobody has told us that it changed.
LOOK_AGAIN_SECONDS = 1.0
# A queue that is well is consumed within milliseconds. One without a leader never is, and the broker does not say so.
START_TIMEOUT_SECONDS = 5.0
# After a restart there may be two thousand to begin with; more at once would only make each of them slower.
STARTED_AT_ONCE_MAX = 64
# What lifecycle opens at most; each queue costs a channel here.
EVENT_QUEUES_MAX = 2000
# Lifecycle removes the queue of an ended sale once it is empty; after a day nothing can be left in it.
ENDED_SECONDS = 24 * 3600
BROKER_AWAY = (*CONNECTION_EXCEPTIONS, AMQPError, OSError, TimeoutError)


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """The `commands` role: drain every event's queue and every lane until told to stop."""
    pool = await open_pool(settings, application_name="boxoffice commands", planner=BY_INDEX)
    seat_locks, door = SeatLocks(settings), Door(settings, WaitingRooms(settings))
    try:
        async with ConfirmedPublisher(settings, "worker", name="commands parks") as parking:
            engine = Engine(settings, pool, seat_locks, door)
            while not stopping.is_set():
                try:
                    await _drain_while_connected(settings, engine, parking, stopping)
                except BROKER_AWAY as problem:
                    log.warning("broker_away", extra={"error": repr(problem)})
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), timeout=LOOK_AGAIN_SECONDS)
    finally:
        await door.close()
        await seat_locks.close()
        await pool.close()


async def _drain_while_connected(
    settings: Settings, engine: Engine, parking: ConfirmedPublisher, stopping: asyncio.Event
) -> None:
    connection = await aio_pika.connect(
        url_for(settings, "worker", name="commands takes"), timeout=CONNECT_TIMEOUT_SECONDS
    )
    lost = asyncio.Event()
    connection.close_callbacks.add(lambda *_: lost.set())
    async with connection, Replies(settings) as replies:
        queues = OpenQueues(connection, engine, replies, parking)
        try:
            while not stopping.is_set() and not lost.is_set():
                wanted = await _queues_to_drain(engine.pool, ended_too=queues.is_empty)
                if wanted is not None:
                    await queues.drain_also(wanted)
                await _first_of(stopping, lost, timeout_seconds=LOOK_AGAIN_SECONDS)
        finally:
            await queues.stop(settings.drain_seconds if not lost.is_set() else 0.0)


async def _queues_to_drain(pool: Pool, *, ended_too: bool) -> set[str] | None:
    """Every lane and the queue of every sale that is open; at the start also of those that have ended, because payments
    may still have something to say there. None while PostgreSQL is away: what is drained stays so, and waits for it."""
    try:
        event_ids = await sale_clock.find_open_sales(pool, limit=EVENT_QUEUES_MAX)
        if ended_too:
            event_ids += await sale_clock.find_ended_sales(pool, within_seconds=ENDED_SECONDS, limit=EVENT_QUEUES_MAX)
    except TRANSIENT_ERRORS as problem:
        log.warning("sales_not_read", extra={"error": repr(problem)})
        return None
    hot = {topology.event_queue(EventId(event_id)) for event_id in event_ids}
    return hot | {topology.lane_queue(lane) for lane in range(topology.LANE_COUNT)}


class OpenQueues:
    """The queues being drained over one connection."""

    def __init__(
        self, connection: AbstractConnection, engine: Engine, replies: Replies, parking: ConfirmedPublisher
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._replies = replies
        self._parking = parking
        self._draining: dict[str, QueueDrain] = {}
        self._beginning: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(STARTED_AT_ONCE_MAX)
        self._not_answering: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being drained yet."""
        return not self._draining

    async def drain_also(self, names: set[str]) -> None:
        """Begin with those that are new, and again with those that broke; returns before they have begun, because one that
        does not answer must hold up no other. A queue is drained until the broker says that it is gone: when a sale ends,
        what is still in its queue has to be carried out."""
        for name in [name for name, drain in self._draining.items() if drain.is_broken]:
            await self._draining.pop(name).stop()
        for name in sorted(names - self._draining.keys() - self._beginning.keys()):
            self._beginning[name] = asyncio.create_task(self._begin(name), name=f"begin {name}")

    async def _begin(self, name: str) -> None:
        drain = QueueDrain(name, self._engine, self._replies, self._parking)
        try:
            async with self._at_once, asyncio.timeout(START_TIMEOUT_SECONDS):
                await drain.start(self._connection)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return  # lifecycle has not declared it yet; we look again
        except TimeoutError:
            # We look again, too, and say it once. Lifecycle takes an event's queue that stays like this out of the way.
            if name not in self._not_answering:
                log.warning("queue_not_answering", extra={"queue": name, "within_seconds": START_TIMEOUT_SECONDS})
            self._not_answering.add(name)
            return
        except BROKER_AWAY as problem:
            if not self._connection.is_closed:  # else all of them end like this, and all begin again on the next one
                log.warning("queue_not_drained", extra={"queue": name, "error": repr(problem)})
            return
        finally:
            del self._beginning[name]
        if name in self._not_answering:
            self._not_answering.remove(name)
            log.info("queue_answers_again", extra={"queue": name})
        self._draining[name] = drain

    async def stop(self, within_seconds: float) -> None:
        """Take nothing more, finish what was taken."""
        beginning = list(self._beginning.values())
        for task in beginning:
            task.cancel()
        drains = list(self._draining.values())
        self._draining.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await asyncio.gather(*beginning, return_exceptions=True)
                await asyncio.gather(*(drain.stop() for drain in drains))
        for drain in drains:
            drain.abandon()


@dataclass(slots=True)
class Delivery:
    """A message and what it asks; `problem` says why it could not be read."""

    message: AbstractIncomingMessage
    asked: list[Asked]
    problem: str = ""


class QueueDrain:
    """One queue: deliveries in, batches through the engine, answers out."""

    def __init__(self, name: str, engine: Engine, replies: Replies, parking: ConfirmedPublisher) -> None:
        self.name = name
        self._engine = engine
        self._replies = replies
        self._parking = parking
        self._deliveries: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._unread: Delivery | None = None
        self._channel: AbstractChannel | None = None
        self._loop: asyncio.Task[None] | None = None
        self._cancel_consuming: Callable[[], Awaitable[object]] = _nothing
        self.is_broken = False

    async def start(self, connection: AbstractConnection) -> None:
        """Consume; raises ChannelNotFoundEntity when the queue does not exist (yet)."""
        channel = await connection.channel(publisher_confirms=False)
        # Twice a batch: one is being worked on, the next is here already when it is done.
        await channel.set_qos(prefetch_count=2 * self._engine.settings.engine_batch_max)
        queue = await channel.get_queue(self.name, ensure=True)
        channel.close_callbacks.add(self._on_end)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._on_end)
        tag = await queue.consume(self._enqueue)
        self._cancel_consuming = lambda: queue.cancel(tag, timeout=START_TIMEOUT_SECONDS)
        self._channel = channel
        self._loop = asyncio.create_task(self._drain(), name=self.name)
        self._loop.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Take nothing more, finish what is being worked on; the rest is delivered to somebody else."""
        with suppress(*BROKER_AWAY):
            await self._cancel_consuming()
        self._deliveries.put_nowait(None)
        if self._loop is not None:
            await asyncio.wait({self._loop})
            if not self._loop.cancelled() and self._loop.exception() is not None:
                log.error("queue_drain_failed", extra={"queue": self.name, "error": repr(self._loop.exception())})
        if self._channel is not None:
            with suppress(*BROKER_AWAY):
                await self._channel.close()

    def abandon(self) -> None:
        """There is no time left: what is under way will be delivered again."""
        if self._loop is not None:
            self._loop.cancel()

    async def _enqueue(self, delivery: AbstractIncomingMessage) -> None:
        # Read here, while the batch before waits for PostgreSQL, and not when its turn has come.
        self._deliveries.put_nowait(self._read(delivery))

    def _on_end(self, *_: object) -> None:
        self.is_broken = True
        self._deliveries.put_nowait(None)

    async def _drain(self) -> None:
        telling: asyncio.Task[None] | None = None
        try:
            while (deliveries := await self._take()) is not None:
                await failpoint("engine.after_receive")
                outcomes = [
                    (event_id, await self._engine.run_batch(event_id, asked))
                    for event_id, asked in _by_event([one for delivery in deliveries for one in delivery.asked])
                ]
                if telling is not None:
                    await telling
                # The next batch begins while this one's askers are told.
                telling = asyncio.create_task(self._tell(outcomes, deliveries))
        finally:
            if telling is not None:
                await telling

    async def _take(self) -> list["Delivery"] | None:
        """One delivery and whatever else is there, up to a batch; None when it is time to stop."""
        first = self._unread or await self._deliveries.get()
        self._unread = None
        if first is None:
            return None
        taken, size = [first], len(first.asked)
        while size < self._engine.settings.engine_batch_max and not self._deliveries.empty():
            following = self._deliveries.get_nowait()
            if following is None:
                self._deliveries.put_nowait(None)
                break
            size += len(following.asked)
            if size > self._engine.settings.engine_batch_max:
                self._unread = following
                break
            taken.append(following)
        return taken

    def _read(self, message: AbstractIncomingMessage) -> "Delivery":
        try:
            commands = wire.decode_commands(message.body)
            _check_sender(self._engine.settings, message, commands)
        except wire.UnreadableMessage as problem:
            return Delivery(message, [], str(problem))
        return Delivery(message, [Asked(command, message.reply_to) for command in commands])

    async def _tell(self, outcomes: Sequence[tuple[EventId, Outcome]], deliveries: Sequence["Delivery"]) -> None:
        """After the commit: put aside what cannot be done, settle the locks and the turns, answer, acknowledge. Locks before
        answers, because whoever hears that seats are free again may ask for them at once."""
        for delivery in deliveries:
            if delivery.problem:
                await self._park(delivery.message.body, delivery.problem, sender=delivery.message.user_id)
        for event_id, outcome in outcomes:
            for one in outcome.not_processed:
                await self._park(wire.encode_commands([one.asked.command]), one.reason)
            outcome.answered += _told_of_failure(outcome.not_processed)
            await self._engine.settle(event_id, outcome)
            await self._replies.send(event_id, outcome)
        await failpoint("engine.after_reply")
        await deliveries[-1].message.ack(multiple=True)

    async def _park(self, body: bytes, reason: str, *, sender: str | None = None) -> None:
        log.error("message_parked", extra={"queue": self.name, "reason": reason})
        headers = {wire.REASON_HEADER: reason[:500], wire.ORIGIN_QUEUE_HEADER: self.name}
        if sender:
            headers["x-sender"] = sender
        message = persistent_message(body, type=wire.COMMANDS_TYPE, message_id=str(uuid4()), headers=headers)
        await self._parking.publish(message, exchange=topology.PARKING_EXCHANGE, routing_key=self.name)


def _check_sender(settings: Settings, delivery: AbstractIncomingMessage, commands: Iterable[AnyCommand]) -> None:
    """RabbitMQ vouches for the sender's user id. People's commands come from the ingress, all others from our couriers: a
    process that can be reached from outside must not be able to say that something has been paid."""
    if "@" in settings.rabbitmq_url:
        return  # the operator runs everything under one user of their own
    for command in commands:
        expected = "ingress" if isinstance(command, PEOPLES_COMMANDS) else "courier"
        if delivery.user_id != expected:
            raise wire.UnreadableMessage(f"{command.type} sent by {delivery.user_id or 'nobody'}, not by {expected}")


def _told_of_failure(not_processed: Sequence[NotProcessed]) -> list[Answered]:
    return [Answered(one.asked, Rejected(code=RejectionCode.NOT_PROCESSED)) for one in not_processed]


def _by_event(asked: Sequence[Asked]) -> list[tuple[EventId, list[Asked]]]:
    """A lane carries many events: each one's commands, in the order they came."""
    events: defaultdict[EventId, list[Asked]] = defaultdict(list)
    for one in asked:
        events[one.command.event_id].append(one)
    return list(events.items())


async def _first_of(*events: asyncio.Event, timeout_seconds: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _nothing() -> None:
    return None
