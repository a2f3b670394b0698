"""What becomes of a delivery? One of three ends: answered, tried again, parked.

A `Stage` takes messages from one queue and gives each to the handler of its type. The handler returns: answered. It
raises something transient: the message waits on the retry ladder and comes back to this queue only. It raises anything
else, or the message is unreadable or has been tried often enough: the parking lot, with the reason. In each case the
delivery is acknowledged only after the broker has confirmed where the message went; if even that fails it is put back.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from prometheus_client import Counter, Histogram

from consumers.broker import (
    CONNECT_TIMEOUT_SECONDS,
    RECONNECT_SECONDS,
    ConfirmedPublisher,
    PublishProblem,
    persistent_message,
    url_for,
)
from consumers.delivery_figures import count_parked, count_redelivery
from consumers.work_in_hand import WorkInHand
from contracts import topology, wire
from contracts.domain_events import AnyDomainEvent, only_request_of
from contracts.settings import BrokerUser, Settings
from db.postgres import TRANSIENT_ERRORS
from db.telemetry.logs import bind_correlation_id, correlated, described

log = logging.getLogger(__name__)

# Long enough for a blocked broker not to turn redeliveries into a busy loop; the queue's delivery limit ends them.
PUT_BACK_AFTER_SECONDS = 5.0
REASON_LENGTH_MAX = 500
# Headers that the broker writes or that speak of an earlier stay in the parking lot: a retried message begins without.
_HEADERS_LEFT_BEHIND = frozenset({"x-death", "x-delivery-count", "x-acquired-count", wire.REASON_HEADER})

DELIVERIES = Counter("boxoffice_deliveries_total", "Deliveries by the end they came to", ["queue", "end"])
HANDLING_SECONDS = Histogram("boxoffice_handling_seconds", "Time from delivery to acknowledgement", ["queue"])


class TryAgain(Exception):
    """It may work later. `remaining` is the part of the message that is still to do; None means all of it."""

    def __init__(self, reason: str, *, remaining: AnyDomainEvent | None = None) -> None:
        super().__init__(reason)
        self.remaining = remaining


TRANSIENT: tuple[type[BaseException], ...] = (TryAgain, PublishProblem, *TRANSIENT_ERRORS)


class HasSettings(Protocol):
    """What a stage needs of its handlers' resources."""

    @property
    def settings(self) -> Settings: ...


R = TypeVar("R", bound=HasSettings)
Handler = Callable[[Any, R], Awaitable[None]]


class Stage(Generic[R]):
    """One queue, one handler per type of message, at most `prefetch` messages in hand."""

    def __init__(
        self,
        *,
        name: str,
        queue: str,
        handlers: Mapping[type[AnyDomainEvent], Handler[R]],
        user: BrokerUser,
        prefetch: int,
        delivery: Literal["at_least_once", "at_most_once"] = "at_least_once",
        ladder: Sequence[int] = topology.RETRY_DELAYS_SECONDS,
    ) -> None:
        """`ladder` names the retry exchanges by their delay in seconds; at most once acknowledges before it handles."""
        self.name = name
        self.queue = queue
        self._handlers = handlers
        self._user = user
        self._prefetch = prefetch
        self._delivery = delivery
        self._ladder = ladder
        self._stopping = asyncio.Event()
        self._in_hand = 0
        self._work = WorkInHand(name)
        self._nothing_in_hand = asyncio.Event()
        self._nothing_in_hand.set()

    async def run(self, resources: R) -> None:
        """Work until `stop()` is called, then finish what was taken and return. Raises when the broker is not there."""
        settings = resources.settings
        async with ConfirmedPublisher(settings, self._user, name=f"{self.name} publishes") as publisher:
            broker = self._broker(settings)

            async def take(delivery: RabbitMessage) -> None:
                await self._take(delivery, resources, publisher)

            subscriber = self._subscribe(broker, take)
            await broker.start()
            log.info("stage_started", extra={"stage": self.name, "queue": self.queue})
            try:
                await self._stopping.wait()
                await self._drain(subscriber, settings.drain_seconds)
            finally:
                await broker.stop()
        log.info("stage_stopped", extra={"stage": self.name, "left_in_hand": self._in_hand})

    def stop(self) -> None:
        """Take nothing more; `run` returns when what was taken is finished or `drain_seconds` have passed."""
        self._stopping.set()

    # ---- taking

    def _broker(self, settings: Settings) -> RabbitBroker:
        return RabbitBroker(
            url_for(settings, self._user, name=f"{self.name} consumes"),
            timeout=CONNECT_TIMEOUT_SECONDS,
            reconnect_interval=RECONNECT_SECONDS,
            default_channel=Channel(prefetch_count=self._prefetch),
            graceful_timeout=1.0,  # by the time the broker is stopped we have drained
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,  # we decode by ourselves, strictly
            logger=None,
        )

    def _subscribe(self, broker: RabbitBroker, take: Callable[[RabbitMessage], Awaitable[None]]) -> RabbitSubscriber:
        # declare=False: only the lifecycle may declare, and a queue that somebody deleted must stay deleted.
        subscriber = broker.subscriber(
            RabbitQueue(self.queue, declare=False), ack_policy=AckPolicy.MANUAL, decoder=_as_it_is, no_reply=True
        )
        subscriber(take)
        return subscriber

    async def _drain(self, subscriber: RabbitSubscriber, drain_seconds: float) -> None:
        # FastStream's own stop() drops what arrives while it waits, so the consumer is cancelled at the broker first; it
        # offers no public way to do that.
        if subscriber._queue_obj is not None and subscriber._consumer_tag is not None:
            tag, subscriber._consumer_tag = subscriber._consumer_tag, None
            try:
                await subscriber._queue_obj.cancel(tag, timeout=RECONNECT_SECONDS)
            except (*CONNECTION_EXCEPTIONS, TimeoutError):
                log.warning("stage_cancel_failed", extra={"stage": self.name})
        try:
            async with asyncio.timeout(drain_seconds):
                await self._nothing_in_hand.wait()
        except TimeoutError:
            # Never acknowledged, so the broker hands them to somebody else once the connection is closed.
            log.warning("stage_drain_timed_out", extra={"stage": self.name, "left_in_hand": self._in_hand})

    async def _take(self, delivery: RabbitMessage, resources: R, publisher: ConfirmedPublisher) -> None:
        self._in_hand += 1
        self._work.take()
        count_redelivery(self.queue, delivery.raw_message)
        self._nothing_in_hand.clear()
        started_at = time.monotonic()
        try:
            with correlated(delivery.raw_message.correlation_id or delivery.raw_message.message_id):
                end = await self._end_of(delivery, resources, publisher)
            DELIVERIES.labels(self.queue, end).inc()
            HANDLING_SECONDS.labels(self.queue).observe(time.monotonic() - started_at)
        except CONNECTION_EXCEPTIONS as gone:
            # The acknowledgement did not get through: the message is delivered again, and handlers are ready for that.
            log.warning("acknowledgement_lost", extra={"stage": self.name, "reason": repr(gone)})
        finally:
            self._in_hand -= 1
            self._work.finish()
            if self._in_hand == 0:
                self._nothing_in_hand.set()

    # ---- the three ends

    async def _end_of(self, delivery: RabbitMessage, resources: R, publisher: ConfirmedPublisher) -> str:
        try:
            domain_event = wire.decode_domain_event(delivery.body)
            handler = self._handlers[type(domain_event)]
            if (part := only_request_of(domain_event)) is not None and part.correlation_id is not None:
                # Within `correlated`, which ends with the delivery.
                bind_correlation_id(str(part.correlation_id))
        except wire.UnreadableMessage as problem:
            return await self._park(delivery, publisher, reason=f"unreadable: {problem}")
        except KeyError:
            return await self._park(delivery, publisher, reason=f"{self.name} has no handler for this type")
        if self._delivery == "at_most_once":
            await delivery.ack()
            return await self._handle_once(handler, domain_event, resources)
        try:
            await handler(domain_event, resources)
        except TRANSIENT as problem:
            return await self._try_again(delivery, publisher, problem)
        except Exception as problem:
            log.exception("handler_failed", extra={"stage": self.name})
            return await self._park(delivery, publisher, reason=f"bug: {described(problem)}")
        await delivery.ack()
        return "answered"

    async def _handle_once(self, handler: Handler[R], domain_event: AnyDomainEvent, resources: R) -> str:
        try:
            await handler(domain_event, resources)
        except Exception:
            log.exception("handler_failed", extra={"stage": self.name})
            return "lost"
        return "answered"

    async def _try_again(self, delivery: RabbitMessage, publisher: ConfirmedPublisher, problem: BaseException) -> str:
        reason = str(problem) if isinstance(problem, (TryAgain, PublishProblem)) else described(problem)
        body = _body_left(delivery, problem)
        attempt = attempt_of(delivery.headers)
        if attempt >= topology.RETRY_ATTEMPTS_MAX:
            return await self._park(delivery, publisher, reason=f"tried {attempt} times: {reason}", body=body)
        delay_seconds = self._ladder[min(attempt, len(self._ladder)) - 1]
        log.warning(
            "delivery_tried_again",
            extra={"stage": self.name, "attempt": attempt, "reason": reason, "delay_seconds": delay_seconds},
        )
        return await self._pass_on(
            delivery,
            publisher,
            body=body,
            exchange=topology.retry_exchange(delay_seconds),
            headers={wire.ATTEMPT_HEADER: attempt + 1},
            end="tried again",
        )

    async def _park(
        self, delivery: RabbitMessage, publisher: ConfirmedPublisher, *, reason: str, body: bytes | None = None
    ) -> str:
        log.error("delivery_parked", extra={"stage": self.name, "queue": self.queue, "reason": reason})
        headers: dict[str, str | int] = {
            wire.REASON_HEADER: reason[:REASON_LENGTH_MAX],
            wire.ORIGIN_QUEUE_HEADER: self.queue,
            wire.ATTEMPT_HEADER: attempt_of(delivery.headers),
        }
        end = await self._pass_on(
            delivery, publisher, body=body, exchange=topology.PARKING_EXCHANGE, headers=headers, end="parked"
        )
        if end == "parked":
            count_parked(self.queue)
        return end

    async def _pass_on(
        self,
        delivery: RabbitMessage,
        publisher: ConfirmedPublisher,
        *,
        body: bytes | None,
        exchange: str,
        headers: dict[str, str | int],
        end: str,
    ) -> str:
        """Hand the message to the ladder or the parking lot; acknowledge only when the broker has confirmed it."""
        received = delivery.raw_message
        kept = {name: value for name, value in delivery.headers.items() if name not in _HEADERS_LEFT_BEHIND}
        message = persistent_message(
            delivery.body if body is None else body,
            type=received.type or "",
            message_id=received.message_id,
            correlation_id=received.correlation_id,
            headers={**kept, **headers},
        )
        try:
            await publisher.publish(message, exchange=exchange, routing_key=self.queue)
        except PublishProblem as problem:
            return await self._put_back(delivery, problem)
        await delivery.ack()
        return end

    async def _put_back(self, delivery: RabbitMessage, problem: PublishProblem) -> str:
        log.error("delivery_put_back", extra={"stage": self.name, "reason": str(problem)})
        try:
            async with asyncio.timeout(PUT_BACK_AFTER_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            pass
        # Reject, not nack: from 4.3 on only a reject counts towards the queue's delivery limit.
        await delivery.reject(requeue=True)
        return "put back"


def attempt_of(headers: Mapping[str, Any]) -> int:
    """Which attempt this delivery is, beginning with 1; a header that is no number counts as the first."""
    attempt = headers.get(wire.ATTEMPT_HEADER, 1)
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


async def run_stage(stage: Stage[R], resources: R, stopping: asyncio.Event) -> None:
    """Run a stage until `stopping` is set and it has drained; whatever it raises is raised here."""

    async def stop_when_told() -> None:
        await stopping.wait()
        stage.stop()

    watcher = asyncio.create_task(stop_when_told())
    try:
        await stage.run(resources)
    finally:
        watcher.cancel()


def _body_left(delivery: RabbitMessage, problem: BaseException) -> bytes:
    remaining = problem.remaining if isinstance(problem, TryAgain) else None
    return delivery.body if remaining is None else wire.encode_domain_event(remaining)


async def _as_it_is(delivery: RabbitMessage) -> RabbitMessage:
    return delivery
