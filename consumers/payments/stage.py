"""What is asked of the payment provider for each order, and what is the event told?

The steps N1, T2, N2 and N3 of the checkout protocol (research/reliability.md 7.2). Each is one call that may be repeated
with the same key, or one statement; never both in one transaction. No answer is not an answer: what is unknown is left as
it is, tried again from the ladder, and in the end read by the reconciler. Seats are never touched here: the event is told
by a command what the provider has said, and decides under its fence.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from consumers.broker import ConfirmedPublisher, PublishProblem, persistent_message
from consumers.command_sender import CommandSender
from consumers.payments.breaks import REFUND_IN_PART, REFUND_REFUSED, write_down
from consumers.payments.gateway import PaymentGateway
from consumers.payments.outcomes import (
    ActionNeeded,
    Authorized,
    Canceled,
    Captured,
    Declined,
    IntentCreated,
    Outcome,
    Refunded,
    Refused,
    Unavailable,
    Unknown,
)
from consumers.runtime import Handler, Stage, TryAgain
from contracts import topology, wire
from contracts.commands import PaymentCanceled, PaymentDeclined, PaymentRefunded, SettlePayment
from contracts.domain_events import (
    AnyDomainEvent,
    CapturesDue,
    PaymentDue,
    PaymentRequested,
    PaymentsRequested,
    RefundDue,
    RefundsDue,
    VoidsDue,
)
from contracts.ids import CommandId, EventId, OrderId
from contracts.replies import AddressedReply, PaymentActionNeeded
from contracts.settings import Settings
from db import payments as records
from db.coalescer import Coalescer
from db.failpoints import failpoint
from db.postgres import Pool
from db.telemetry.logs import correlated, described
from db.telemetry.traces import about_messages, span

log = logging.getLogger(__name__)

PAYMENT_UNAVAILABLE = "payment_unavailable"
# A capture may overtake a cancellation between our reading and our asking; then the refund is the way. Twice is plenty.
ROUNDS_MAX = 3
# One slot for a refund beside so many for payments.
REFUNDS_SHARE = 4
# Each was answered with an error and did nothing; more than a few, and nobody should go on today.
REFUND_KEYS_MAX = 8

_ABOUT = about_messages(exchange=topology.DOMAIN_EVENTS, routing_key=topology.PAYMENTS_QUEUE, operation="process")

Payment = TypeVar("Payment", PaymentRequested, PaymentDue, RefundDue)


@dataclass
class Resources:
    """What the payment stage works with."""

    settings: Settings
    pool: Pool
    gateway: PaymentGateway
    publisher: ConfirmedPublisher
    sender: CommandSender
    slots: asyncio.Semaphore
    # Of their own and few, so that the refunds of a stadium do not stand in front of those who are buying.
    refund_slots: asyncio.Semaphore = field(init=False)
    storing: Coalescer[tuple[EventId, OrderId, str], bool] = field(init=False)
    capturing: Coalescer[records.PaymentId, None] = field(init=False)

    def __post_init__(self) -> None:
        self.refund_slots = asyncio.Semaphore(max(1, self.settings.payment_concurrency // REFUNDS_SHARE))
        self.storing = Coalescer(self._store, batch_max=256)
        self.capturing = Coalescer(self._mark_captured, batch_max=256)

    async def _store(self, intents: Sequence[tuple[EventId, OrderId, str]]) -> Sequence[bool]:
        waiting = await records.store_intents(self.pool, intents)
        return [order_id in waiting for _, order_id, _ in intents]

    async def _mark_captured(self, payments: Sequence[records.PaymentId]) -> Sequence[None]:
        await records.mark_captured(self.pool, payments)
        return [None] * len(payments)


# ---- one payment: True when the event has been told, False when nothing is known yet


async def authorize(event_id: EventId, payment: PaymentRequested, resources: Resources) -> bool:
    """Create the intent, store its id, and only then confirm it: whatever happens next, there is an id to read."""
    created = await resources.gateway.create(
        order_id=payment.order_id,
        event_id=event_id,
        amount=payment.amount,
        currency=payment.currency,
        key=f"{payment.provider_key}:create",
    )
    await failpoint("payments.after_create")
    if isinstance(created, Unavailable):
        return await _decline_if_never_sent(event_id, payment.order_id, resources)
    if isinstance(created, Unknown):
        return False
    if isinstance(created, Refused):
        return await tell_of(event_id, payment.order_id, "", Declined(created.code, ""), resources)
    if not await resources.storing.ask((event_id, payment.order_id, created.intent_id)):
        return True  # the order no longer waits for this payment: nothing is confirmed, and the void finds the intent
    await failpoint("payments.after_store")
    said = await resources.gateway.confirm(
        created.intent_id, payment_method=payment.payment_method, key=f"{payment.provider_key}:confirm"
    )
    await failpoint("payments.after_confirm")
    if isinstance(said, Unknown):
        said = await resources.gateway.read(created.intent_id)
        if isinstance(said, IntentCreated):
            return False  # the request may still be on its way
    if isinstance(said, Refused):
        said = Declined(said.code, "")
    return await tell_of(event_id, payment.order_id, created.intent_id, said, resources)


async def capture(event_id: EventId, payment: PaymentDue, resources: Resources) -> bool:
    """Take what was set aside. When the provider says that there is nothing to take any more, the order ends."""
    said = await _collect(event_id, payment, resources)
    if isinstance(said, Canceled):
        return await tell_of(event_id, payment.order_id, payment.intent_id, said, resources)
    return isinstance(said, Captured | Refunded)


async def void(event_id: EventId, payment: PaymentDue, resources: Resources) -> bool:
    """Cancel at the provider; the seats are freed only when it says "canceled" (or has given the money back)."""
    intent_id = payment.intent_id or await _find_intent(event_id, payment, resources)
    if not intent_id:
        return await _cancel_if_never_sent(event_id, payment.order_id, resources)
    for round_ in range(ROUNDS_MAX):
        said: Outcome = await resources.gateway.cancel(intent_id, key=_key(payment, "cancel", round_))
        if isinstance(said, Refused | Unknown):
            said = await resources.gateway.read(intent_id)
        await failpoint("payments.after_cancel")
        if isinstance(said, Captured):
            key = f"{payment.provider_key}:refund"
            await records.store_refund_key(resources.pool, (event_id, payment.order_id), key)
            said = await give_back(
                intent_id, resources, amount=payment.amount, currency=payment.currency, key=key, mark=key
            )
        if isinstance(said, Canceled | Refunded):
            return await tell_of(event_id, payment.order_id, intent_id, Canceled(), resources)
        if isinstance(said, Unknown | Unavailable):
            return False
    return False


async def refund(event_id: EventId, payment: RefundDue, resources: Resources) -> bool:
    """Give the money of a refund back. What is only set aside is taken first: that is due in any case, and letting it go would
    lose what stays ours of a part. When there is nothing to take any more, the order ends."""
    said = await resources.gateway.read(payment.intent_id)
    if isinstance(said, Authorized):
        said = await _collect(event_id, payment, resources)
    if isinstance(said, Canceled):
        return await tell_of(event_id, payment.order_id, payment.intent_id, said, resources)
    if isinstance(said, Captured | Refunded):
        said = await give_back(
            payment.intent_id,
            resources,
            amount=payment.amount,
            currency=payment.currency,
            key=payment.provider_key,
            mark=str(payment.refund_id),
            may_ask=not await records.has_open_break(resources.pool, REFUND_IN_PART, payment.intent_id),
        )
    await failpoint("payments.after_refund")
    if isinstance(said, Refused):
        await _note_refusal(event_id, payment, said, resources)
    if not isinstance(said, Refunded):
        return False
    await records.close_break(resources.pool, REFUND_REFUSED, payment.intent_id)
    command = PaymentRefunded(
        command_id=_new_id(), event_id=event_id, order_id=payment.order_id, refund_id=payment.refund_id
    )
    await resources.sender.send(command)
    await failpoint("payments.after_told")
    return True


async def give_back(
    intent_id: str,
    resources: Resources,
    *,
    amount: Decimal,
    currency: str,
    key: str,
    mark: str,
    may_ask: bool = True,
) -> Refunded | Refused | Unknown | Unavailable:
    """Give this amount back once, under this key and, if the provider answers that only with an old error, the ones after it.

    Asked is only where the provider's list has nothing with this mark: the list never forgets, a key is forgotten after a day.
    """
    said: Refunded | Refused | Unknown | Unavailable = Unknown("not_asked")
    for round_ in range(REFUND_KEYS_MAX):
        given = await resources.gateway.list_refunds(intent_id)
        if not isinstance(given, tuple):
            return given
        if any(one.mark == mark and not one.is_dead for one in given):
            return Refunded()
        if not may_ask:
            return Refused(REFUND_IN_PART)
        said = await resources.gateway.refund(
            intent_id, amount=amount, currency=currency, key=f"{key}:{round_}" if round_ else key, mark=mark
        )
        if not (isinstance(said, Unknown) and said.key_is_spent):
            break
    # Somebody has given all of it back by hand.
    return Refunded() if isinstance(said, Refused) and said.code == "charge_already_refunded" else said


async def _note_refusal(event_id: EventId, payment: RefundDue, said: Refused, resources: Resources) -> None:
    """It is asked for again, but somebody should know: the buyer waits for this money."""
    await write_down(
        resources.pool,
        REFUND_REFUSED,
        event_id=event_id,
        order_id=payment.order_id,
        intent_id=payment.intent_id,
        detail=f"refund {payment.refund_id} of {payment.amount} {payment.currency}: {said.code}",
    )


async def _collect(event_id: EventId, payment: PaymentDue, resources: Resources) -> Outcome:
    """Take what was set aside, and write down that it is taken."""
    said: Outcome = Unknown("not_asked")
    for round_ in range(ROUNDS_MAX):
        said = await resources.gateway.capture(payment.intent_id, key=_key(payment, "capture", round_))
        if isinstance(said, Refused | Unknown):
            said = await resources.gateway.read(payment.intent_id)
        await failpoint("payments.after_capture")
        if not isinstance(said, Authorized):
            break
    if isinstance(said, Captured | Refunded):
        await resources.capturing.ask((event_id, payment.order_id))
    if isinstance(said, Captured):
        told = {"event_id": event_id, "order_id": payment.order_id, "amount": payment.amount}
        log.info("payment_captured", extra=told)
    return said


async def tell_of(event_id: EventId, order_id: OrderId, intent_id: str, said: Outcome, resources: Resources) -> bool:
    """Tell the event what the provider has said. False when that is nothing one could act on."""
    match said:
        case Authorized() | Captured():
            command: SettlePayment | PaymentDeclined | PaymentCanceled = SettlePayment(
                command_id=_new_id(), event_id=event_id, order_id=order_id, intent_id=intent_id
            )
        case Declined(code, message):
            command = PaymentDeclined(
                command_id=_new_id(), event_id=event_id, order_id=order_id, decline_code=code, message=message
            )
        case Canceled() | Refunded():
            command = PaymentCanceled(command_id=_new_id(), event_id=event_id, order_id=order_id)
        case ActionNeeded(client_secret):
            return await _ask_buyer_to_act((event_id, order_id), client_secret, resources)
        case _:
            return False
    await resources.sender.send(command)
    await failpoint("payments.after_told")
    return True


async def _find_intent(event_id: EventId, payment: PaymentDue, resources: Resources) -> str | None:
    """The intent of a payment whose creation was never answered: the same key gives the same intent, or makes one that
    nobody will ever confirm."""
    created = await resources.gateway.create(
        order_id=payment.order_id,
        event_id=event_id,
        amount=payment.amount,
        currency=payment.currency,
        key=f"{payment.provider_key}:create",
    )
    if isinstance(created, IntentCreated):
        return created.intent_id
    found = await resources.gateway.find_by_order(payment.order_id)
    return found[0].intent_id if isinstance(found, tuple) and found else None


async def _cancel_if_never_sent(event_id: EventId, order_id: OrderId, resources: Resources) -> bool:
    """The provider cannot say which intent it was (it keeps answering with the error of the creation), and it need not: an
    intent whose id we never stored was never confirmed, nor will it be, because the order no longer waits for it."""
    if not await records.was_never_sent(resources.pool, (event_id, order_id)):
        return False
    return await tell_of(event_id, order_id, "", Canceled(), resources)


async def _decline_if_never_sent(event_id: EventId, order_id: OrderId, resources: Resources) -> bool:
    """The provider is out and we have asked nothing of it: the buyer keeps the hold and hears so at once."""
    if not await records.was_never_sent(resources.pool, (event_id, order_id)):
        return False
    said = Declined(PAYMENT_UNAVAILABLE, "the payment provider is not available")
    return await tell_of(event_id, order_id, "", said, resources)


async def _ask_buyer_to_act(payment: records.PaymentId, client_secret: str, resources: Resources) -> bool:
    asker = await records.mark_action_needed(resources.pool, payment, client_secret)
    if asker is None:
        return True
    _, order_id = payment
    reply = AddressedReply(
        correlation_id=asker.correlation_id,
        command_id=CommandId(order_id),
        reply=PaymentActionNeeded(order_id=order_id, client_secret=client_secret),
    )
    message = persistent_message(wire.encode_replies([reply]), type=wire.REPLIES_TYPE)
    try:
        await resources.publisher.publish(message, exchange=topology.REPLIES, routing_key=asker.reply_to)
    except PublishProblem as problem:
        # Nobody waits any more; the order itself says what is to be done.
        log.info("asker_gone", extra={"orderId": str(order_id), "reason": str(problem)})
    return True


def _key(payment: PaymentDue, step: str, round_: int) -> str:
    """The provider repeats a 500 under its key for a day. Once reading the intent has shown that the step was not done, the
    next key may be used: an intent is captured or cancelled once, whatever the keys."""
    return f"{payment.provider_key}:{step}" + (f":{round_}" if round_ else "")


def _new_id() -> CommandId:
    return CommandId(uuid4())


def _each_by_itself(
    step: Callable[[EventId, Payment, Resources], Awaitable[bool]],
    slots_of: Callable[[Resources], asyncio.Semaphore] = lambda resources: resources.slots,
) -> Handler[Resources]:
    """A handler that takes this step with every payment of a message: one that is not settled, or fails, is tried again
    alone and holds nobody up."""

    async def handle(message: Any, resources: Resources) -> None:
        async def within_slots(payment: Payment) -> bool:
            with (
                correlated(payment.correlation_id),
                span(f"{step.__name__} payment", kind="consumer", parent=payment.traceparent, attributes=_ABOUT),
            ):
                async with slots_of(resources):
                    return await step(message.event_id, payment, resources)

        ends = await asyncio.gather(*map(within_slots, message.payments), return_exceptions=True)
        left = tuple(payment for payment, end in zip(message.payments, ends, strict=True) if end is not True)
        problems = [end for end in ends if isinstance(end, BaseException)]
        for problem in problems:
            log.warning("payment_failed", extra={"error": described(problem)})
        if left:
            reason = described(problems[0]) if problems else "the provider has not answered"
            raise TryAgain(reason, remaining=message.model_copy(update={"payments": left}))

    return handle


HANDLERS: dict[type[AnyDomainEvent], Handler[Resources]] = {
    PaymentsRequested: _each_by_itself(authorize),
    CapturesDue: _each_by_itself(capture),
    VoidsDue: _each_by_itself(void),
    RefundsDue: _each_by_itself(refund, lambda resources: resources.refund_slots),
}


def stage(settings: Settings) -> Stage[Resources]:
    """The payments queue and what is done with its messages."""
    return Stage(
        name="payments",
        queue=topology.PAYMENTS_QUEUE,
        user="courier",
        prefetch=settings.stage_prefetch,
        handlers=HANDLERS,
    )
