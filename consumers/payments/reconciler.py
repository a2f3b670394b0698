"""Which payments were left half-way, and do the provider's books agree with ours?

Two duties. What has been silent for half a minute is looked up and brought to its end: authorised is settled, declined is
declined, dead is freed, sold is captured; what was never confirmed is voided. And once an hour the provider's whole list
is compared with ours: every difference is written to `breaks`, and repaired where that moves money only towards the
buyer. Several copies may run: payments are claimed, and every step may be repeated.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prometheus_client import Gauge

from consumers.payments.breaks import write_down
from consumers.payments.gateway import ListingInterrupted
from consumers.payments.outcomes import (
    ActionNeeded,
    Authorized,
    Canceled,
    Captured,
    IntentCreated,
    ProviderPayment,
    Refunded,
    Unavailable,
    Unknown,
)
from consumers.payments.stage import Resources, authorize, capture, give_back, refund, tell_of, void
from consumers.runtime import TRANSIENT
from contracts.commands import VoidPayment
from contracts.domain_events import PaymentDue, PaymentRequested, RefundDue
from contracts.ids import CommandId
from db import payments as records
from db.backups import find_open_restore
from db.payments import KnownPayment, SilentPayment, SilentRefund
from db.telemetry.logs import bind_correlation_id

log = logging.getLogger(__name__)

PASSING: tuple[type[BaseException], ...] = (*TRANSIENT, ListingInterrupted)

# Orders whose seats were sold, and of which money is therefore to be there.
SOLD = frozenset({"completed", "refunding", "refunded"})

TAKEN_AT_ONCE = 200
# After so many times payment_unknown_seconds (two minutes) a payment whose intent could not even be made is given up: the
# buyer has long heard 202 and looks at the order.
GIVE_UP_AFTER_ROUNDS = 4
# A bank's own page may take a buyer a while, but seats are not kept for ever.
ACTION_WITHIN_SECONDS = 900.0
# Young differences are payments under way.
SETTLED_AFTER = timedelta(minutes=10)
AUDITED_WINDOW = timedelta(days=2)
PAGE = 100

UNKNOWN = Gauge("boxoffice_payments_unknown", "Orders of which it is not known whether they have been paid")
UNKNOWN_OLDEST_SECONDS = Gauge(
    "boxoffice_payments_unknown_oldest_seconds", "Age of the oldest of them; 0: there is none"
)


async def run(resources: Resources, stopping: asyncio.Event) -> None:
    """Reconcile until told to stop."""
    settings = resources.settings
    next_audit_at = asyncio.get_running_loop().time() + settings.payment_audit_seconds
    while not stopping.is_set():
        try:
            await count_unknown(resources)
            if await _may_ask(resources):
                await finish_silent(resources)
                if asyncio.get_running_loop().time() >= next_audit_at:
                    next_audit_at += settings.payment_audit_seconds
                    await audit(resources)
        except PASSING as problem:
            log.warning("reconciler_failed", extra={"error": repr(problem)})
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), settings.payment_unknown_seconds / 3)


async def _may_ask(resources: Resources) -> bool:
    """Not while these books have come back from a backup and nobody has looked yet: to them, every order made since is money
    without an order. In a copy of the shop that would give real buyers' money back."""
    ends_at = await find_open_restore(resources.pool)
    if ends_at is not None:
        log.error("restore_not_reconciled", extra={"booksEndAt": ends_at.isoformat()})
    return ends_at is None


async def count_unknown(resources: Resources) -> None:
    """Show how much is not known; of several reconcilers each shows all of it."""
    unknown = await records.count_unknown(resources.pool, silent_seconds=resources.settings.payment_unknown_seconds)
    UNKNOWN.set(unknown.order_count)
    UNKNOWN_OLDEST_SECONDS.set(unknown.oldest_seconds)


async def finish_silent(resources: Resources) -> int:
    """Bring silent payments and refunds to their end; returns how many were looked at."""
    silent = await records.take_silent(
        resources.pool, silent_seconds=resources.settings.payment_unknown_seconds, limit=TAKEN_AT_ONCE
    )
    refunds = await records.take_silent_refunds(
        resources.pool, silent_seconds=resources.settings.payment_unknown_seconds, limit=TAKEN_AT_ONCE
    )
    steps = [*(_finish(payment, resources) for payment in silent), *(_refund(one, resources) for one in refunds)]
    ends = await asyncio.gather(*steps, return_exceptions=True)
    order_ids = [*(payment.order_id for payment in silent), *(one.order_id for one in refunds)]
    for order_id, end in zip(order_ids, ends, strict=True):
        if isinstance(end, BaseException):
            log.warning("payment_not_finished", extra={"orderId": str(order_id), "error": repr(end)})
    return len(steps)


async def _finish(payment: SilentPayment, resources: Resources) -> None:
    bind_correlation_id(payment.correlation_id)
    async with resources.slots:
        due = _due(payment)
        match payment.order_status:
            case "completed" | "refunding" | "refunded":
                await capture(payment.event_id, due, resources)
            case "voiding":
                await void(payment.event_id, due, resources)
            case _:
                await _finish_pending(payment, resources)


async def _refund(silent: SilentRefund, resources: Resources) -> None:
    due = RefundDue(
        order_id=silent.order_id,
        intent_id=silent.intent_id or "",
        provider_key=silent.provider_key,
        amount=silent.amount,
        currency=silent.currency,
        refund_id=silent.refund_id,
    )
    async with resources.refund_slots:
        await refund(silent.event_id, due, resources)


async def _finish_pending(payment: SilentPayment, resources: Resources) -> None:
    if payment.intent_id is None:
        if payment.age_seconds > GIVE_UP_AFTER_ROUNDS * resources.settings.payment_unknown_seconds:
            await _give_up(payment, "the payment provider did not answer", resources)
        else:
            await authorize(payment.event_id, _requested(payment), resources)
        return
    said = await resources.gateway.read(payment.intent_id)
    if isinstance(said, Unknown | Unavailable):
        return
    if isinstance(said, ActionNeeded):
        if payment.age_seconds > ACTION_WITHIN_SECONDS:
            await _give_up(payment, "the buyer did not finish the payment", resources)
    elif isinstance(said, IntentCreated):
        # Never confirmed. If the confirmation still arrives, it finds the intent cancelled.
        await _give_up(payment, "the payment was never confirmed", resources)
    else:
        await tell_of(payment.event_id, payment.order_id, payment.intent_id, said, resources)


async def _give_up(payment: SilentPayment, reason: str, resources: Resources) -> None:
    await resources.sender.send(
        VoidPayment(command_id=CommandId(uuid4()), event_id=payment.event_id, order_id=payment.order_id, reason=reason)
    )


async def audit(resources: Resources) -> int:
    """Compare what the provider lists with our books; returns how many differences were found."""
    until = datetime.now(UTC) - SETTLED_AFTER
    found = 0
    page: list[ProviderPayment] = []
    async for listed in resources.gateway.list_between(until - AUDITED_WINDOW, until):
        page.append(listed)
        if len(page) == PAGE:
            found += await compare(page, resources)
            page = []
    return found + await compare(page, resources)


async def compare(listed: Sequence[ProviderPayment], resources: Resources) -> int:
    """Find, write down and where it is safe repair the differences in a page of the provider's list."""
    known = await records.find_by_intents(
        resources.pool, [payment.intent_id for payment in listed], settled_seconds=SETTLED_AFTER.total_seconds()
    )
    found = 0
    for payment in listed:
        ours = known.get(payment.intent_id)
        kind = difference_between(payment, ours)
        if kind is None:
            continue
        found += 1
        log.error("payment_break", extra={"kind": kind, "intentId": payment.intent_id})
        await write_down(
            resources.pool,
            kind,
            event_id=ours.event_id if ours else None,
            order_id=ours.order_id if ours else None,
            intent_id=payment.intent_id,
            detail=f"provider: {payment.state} {payment.captured}-{payment.refunded} of {payment.amount}; ours: {ours}",
        )
        if await repair(kind, payment, resources):
            await records.close_break(resources.pool, kind, payment.intent_id)
    return found


def difference_between(payment: ProviderPayment, ours: KnownPayment | None) -> str | None:
    """What is wrong between the two books, if anything is."""
    kept = payment.captured - payment.refunded
    if ours is not None and (payment.amount, payment.currency) != (ours.amount, ours.currency):
        return "amount_differs"
    if ours is None or ours.order_status in ("declined", "cancelled"):
        if kept > 0:
            return "captured_without_order"
        return "authorized_without_order" if isinstance(payment.state, Authorized) else None
    if ours.order_status not in SOLD or ours.status not in ("captured", "refunded"):
        return None
    # What is going back may have arrived or not.
    most = ours.amount - ours.refunded
    if kept > most:
        return "refund_missing"
    return "order_not_paid" if kept < most - ours.going_back else None


async def repair(kind: str, payment: ProviderPayment, resources: Resources) -> bool:
    """Money may be moved towards the buyer without asking anybody; anything else waits for a person. True when it is there."""
    key = f"{payment.intent_id}:repair"
    if kind == "captured_without_order" and isinstance(payment.state, Captured):
        said = await give_back(
            payment.intent_id,
            resources,
            amount=payment.captured - payment.refunded,
            currency=payment.currency,
            key=f"{key}:refund",
            mark=f"{key}:refund",
        )
        return isinstance(said, Refunded)
    if kind == "authorized_without_order":
        return isinstance(await resources.gateway.cancel(payment.intent_id, key=f"{key}:cancel"), Canceled)
    return False


def _due(payment: SilentPayment) -> PaymentDue:
    return PaymentDue(
        order_id=payment.order_id,
        intent_id=payment.intent_id or "",
        provider_key=payment.provider_key,
        amount=payment.amount,
        currency=payment.currency,
        correlation_id=payment.correlation_id,
    )


def _requested(payment: SilentPayment) -> PaymentRequested:
    return PaymentRequested(
        order_id=payment.order_id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method=payment.payment_method,
        provider_key=payment.provider_key,
        correlation_id=payment.correlation_id,
    )
