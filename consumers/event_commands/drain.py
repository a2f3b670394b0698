"""What becomes of the deliveries of one queue?

One channel and one drain loop, so that an event's commands stay in order. The callback only enqueues; the loop takes one
delivery, then whatever else is there, runs the batch, replies, and acknowledges everything up to the last.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError

from consumers.broker import ConfirmedPublisher, persistent_message
from consumers.delivery_figures import count_parked, count_redelivery
from consumers.event_commands.age import observe_ages
from consumers.event_commands.engine import Engine
from consumers.event_commands.news import tell_of_batch
from consumers.event_commands.outcome import Answered, Asked, NotProcessed, Outcome
from consumers.event_commands.replies import Replies
from consumers.event_commands.sharing import ACTIVE
from consumers.event_commands.tracing import run_batch
from consumers.work_in_hand import WorkInHand
from contracts import topology, wire
from contracts.commands import PEOPLES_COMMANDS, AnyCommand
from contracts.ids import EventId
from contracts.rejections import RejectionCode
from contracts.replies import Rejected
from contracts.settings import Settings
from db.failpoints import failpoint
from db.telemetry.logs import correlated

log = logging.getLogger(__name__)

# A queue that is well is consumed within milliseconds. One without a leader never is, and the broker does not say so.
START_TIMEOUT_SECONDS = 5.0
# A quorum queue throws a message away that came back more often than the policy says (5). One that came back this often is
# worked off where it is.
CAME_BACK_MAX = 3
BROKER_AWAY = (*CONNECTION_EXCEPTIONS, AMQPError, OSError, TimeoutError)


class NobodyThere(Exception):
    """Nobody consumes the queue yet that we would stand by for."""


@dataclass(slots=True)
class Delivery:
    """A message and what it asks; `problem` says why it could not be read."""

    message: AbstractIncomingMessage
    asked: list[Asked]
    problem: str = ""

    @property
    def came_back_often(self) -> bool:
        """Giving it back again could cost it its place in the queue."""
        came_back_count = self.message.headers.get("x-delivery-count", 0)
        return isinstance(came_back_count, int) and came_back_count >= CAME_BACK_MAX


class QueueDrain:
    """One queue: deliveries in, batches through the engine, answers out."""

    def __init__(
        self, name: str, engine: Engine, replies: Replies, parking: ConfirmedPublisher, *, taker: str = "somebody"
    ) -> None:
        self.name = name
        self._taker = taker
        self._engine = engine
        self._replies = replies
        self._parking = parking
        self._deliveries: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._unread: Delivery | None = None
        self._channel: AbstractChannel | None = None
        self._loop: asyncio.Task[None] | None = None
        self._work = WorkInHand("commands")
        self._cancel_consuming: Callable[[], Awaitable[object]] = _nothing
        self._is_leaving = False
        self.is_broken = False
        # The broker does not say whom it has made the single active consumer: whoever was first, or was given something.
        self.may_be_active = False
        self._out_of_turn_since: float | None = None

    async def start(self, connection: AbstractConnection, *, after_others: bool = False) -> None:
        """Consume; raises ChannelNotFoundEntity when the queue does not exist (yet), NobodyThere when we are not to be the
        only one and would be."""
        channel = await connection.channel(publisher_confirms=False)
        # Twice a batch: one is being worked on, the next is here already when it is done.
        await channel.set_qos(prefetch_count=2 * self._engine.settings.engine_batch_max)
        queue = await channel.get_queue(self.name, ensure=True)
        if after_others and not queue.declaration_result.consumer_count:
            await channel.close()
            raise NobodyThere(self.name)
        channel.close_callbacks.add(self._on_end)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._on_end)
        tag = await queue.consume(self._enqueue, consumer_tag=f"commands {self._taker}")
        self._cancel_consuming = lambda: queue.cancel(tag, timeout=START_TIMEOUT_SECONDS)
        self._channel = channel
        self._loop = asyncio.create_task(self._drain(), name=self.name)
        self._loop.add_done_callback(self._on_end)

    def note_rank(self, rank: int) -> None:
        """Since when is somebody else's turn, while we may be draining?"""
        if rank == ACTIVE:
            self.may_be_active, self._out_of_turn_since = True, None
        elif self.may_be_active and self._out_of_turn_since is None:
            self._out_of_turn_since = time.monotonic()

    def is_out_of_turn_for(self, seconds: float) -> bool:
        """It has been somebody else's turn for this long."""
        since = self._out_of_turn_since
        return since is not None and time.monotonic() - since >= seconds

    async def stop(self) -> None:
        """Take nothing more, finish what was delivered."""
        with suppress(*BROKER_AWAY):
            await self._cancel_consuming()
        await self._finish()

    async def hand_over(self) -> None:
        """Finish the batch in hand and give back whatever else was delivered. It goes to the front of the queue, in its old
        order, and the broker makes another consumer the active one only then, so nothing overtakes anything. (Had we only
        cancelled, the other one would begin while we still work.)"""
        self._is_leaving = True
        await self._finish()

    async def _finish(self) -> None:
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
        self._work.take()
        self.may_be_active = True
        count_redelivery(self.name, delivery)
        # Read here, while the batch before waits for PostgreSQL, and not when its turn has come.
        self._deliveries.put_nowait(self._read(delivery))

    def _on_end(self, *_: object) -> None:
        self.is_broken = True
        self._work.leave()
        self._deliveries.put_nowait(None)

    async def _drain(self) -> None:
        telling: asyncio.Task[None] | None = None
        try:
            while (deliveries := await self._take()) is not None:
                observe_ages(delivery.message for delivery in deliveries)
                await failpoint("engine.after_receive")
                outcomes = [
                    (event_id, await run_batch(self._engine, self.name, event_id, asked))
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
        if first is None or (self._is_leaving and not first.came_back_often):
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
                with correlated(one.asked.command.correlation_id):
                    await self._park(wire.encode_commands([one.asked.command]), one.reason)
            outcome.answered += _told_of_failure(outcome.not_processed)
            await self._engine.settle(event_id, outcome)
            await self._replies.send(event_id, outcome)
            tell_of_batch(event_id, outcome)
        await failpoint("engine.after_reply")
        await deliveries[-1].message.ack(multiple=True)
        self._work.finish(len(deliveries))

    async def _park(self, body: bytes, reason: str, *, sender: str | None = None) -> None:
        log.error("message_parked", extra={"queue": self.name, "reason": reason})
        headers = {wire.REASON_HEADER: reason[:500], wire.ORIGIN_QUEUE_HEADER: self.name}
        if sender:
            headers[wire.SENDER_HEADER] = sender
        message = persistent_message(body, type=wire.COMMANDS_TYPE, message_id=str(uuid4()), headers=headers)
        await self._parking.publish(message, exchange=topology.PARKING_EXCHANGE, routing_key=self.name)
        count_parked(self.name)


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


async def _nothing() -> None:
    return None
