"""What has the provider done since the backup that our restored books do not know, and what becomes of that money?

Orders made after the backup are lost with their seats and tickets, but the money was taken: it goes back, all of it, under a
key that follows from the intent, so that asking twice gives back once. An order that was being paid for is brought to the end
that the provider knows. An order that was given back since is given back in our books. What would need a person's judgement is
written down and left alone; money is moved towards buyers only. ops/decisions/0022 says why.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from consumers.payments.gateway import ListingInterrupted
from consumers.payments.outcomes import Authorized, Canceled, ProviderPayment, ProviderRefund, Unknown
from consumers.payments.reconciler import PAGE, SOLD, repair
from consumers.payments.stage import Resources
from contracts.commands import RefundOrder
from contracts.ids import CommandId, OrderId, UserId
from db import payments as records
from db.payments import OrderPaid

log = logging.getLogger(__name__)

# Between the provider's clock and our database's. Looking a little too far back shows only orders that we know.
CLOCKS_APART = timedelta(minutes=10)
# Who asks for what the provider has already done; the nil id of RFC 9562, because nobody did.
NOBODY = UserId(UUID(int=0))

Kind = Literal[
    "order_lost",  # captured for an order that we no longer know: goes back
    "authorization_lost",  # set aside for one: let go
    "intent_lost",  # begun for one: ended, so that nobody can pay it any more
    "payment_unknown_to_us",  # of an order that we know as waiting: its id is written down, and it is brought to its end
    "refund_lost",  # all of an order's money went back since: so do its seats
    "refund_in_part",  # some of it did: of which tickets, the provider does not know
    "amount_differs",
    "not_understood",
]
# Nobody can put these right but a person who knows what happened.
FOR_A_PERSON: frozenset[Kind] = frozenset({"refund_in_part", "amount_differs", "not_understood"})


@dataclass(frozen=True)
class Difference:
    """One payment that the provider knows otherwise than we do. `amount` is what is, or was, the buyer's of it."""

    kind: Kind
    payment: ProviderPayment
    amount: Decimal
    ours: OrderPaid | None = None
    refund_id: UUID | None = None
    is_mended: bool = False


@dataclass(frozen=True)
class Comparison:
    """How the books stand against each other: payments looked at, and those that differ."""

    looked_at: int
    # The provider's account has payments that name no order: somebody else's, and none of our business.
    foreign_count: int
    differences: tuple[Difference, ...]


async def compare_since(snapshot_at: datetime, until: datetime, resources: Resources) -> Comparison:
    """Everything that the provider has begun or given back since the books ended; changes nothing. Raises ListingInterrupted."""
    since = snapshot_at - CLOCKS_APART
    oldest = await records.find_oldest_waiting(resources.pool)
    since = since if oldest is None else min(since, oldest - CLOCKS_APART)
    looked_at = foreign_count = 0
    found: list[Difference] = []
    seen: set[str] = set()
    async for page in _pages(resources.gateway.list_between(since, until)):
        known = await _orders_of(page, resources)
        for payment in page:
            seen.add(payment.intent_id)
            looked_at += 1
            order_id = _order_id(payment)
            foreign_count += order_id is None
            difference = None if order_id is None else _difference(payment, known.get(order_id))
            found += [difference] if difference is not None else []
    returned = await _given_back_since(snapshot_at - CLOCKS_APART, resources)
    found += returned
    extra = {difference.payment.intent_id for difference in returned} - seen
    return Comparison(looked_at + len(extra), foreign_count, tuple(found))


async def mend(differences: Sequence[Difference], resources: Resources) -> list[Difference]:
    """Put right what needs no person, and write all of it down in `breaks`; what could not be done now is not `is_mended`."""
    return list(await asyncio.gather(*(_mend(difference, resources) for difference in differences)))


async def _mend(difference: Difference, resources: Resources) -> Difference:
    payment, ours = difference.payment, difference.ours
    await records.record_break(
        resources.pool,
        difference.kind,
        event_id=ours.event_id if ours else None,
        order_id=UUID(payment.order_id) if payment.order_id else None,
        intent_id=payment.intent_id,
        detail=f"after a restore; {payment.state} {payment.captured}-{payment.refunded} of {payment.amount}; ours: {ours}",
    )
    if difference.kind in FOR_A_PERSON:
        return difference
    async with resources.refund_slots:
        is_mended = await _mended(difference, resources)
    if is_mended:
        await records.close_break(resources.pool, difference.kind, payment.intent_id)
    log.info("restore_mended", extra={"kind": difference.kind, "intentId": payment.intent_id, "mended": is_mended})
    return replace(difference, is_mended=is_mended)


async def _mended(difference: Difference, resources: Resources) -> bool:
    payment, ours = difference.payment, difference.ours
    match difference.kind:
        case "order_lost":
            return await repair("captured_without_order", payment, resources)
        case "authorization_lost" | "intent_lost":
            return await repair("authorized_without_order", payment, resources)
        case "payment_unknown_to_us" if ours is not None:
            known = await records.store_intents(resources.pool, [(ours.event_id, ours.order_id, payment.intent_id)])
            return ours.order_id in known
        case "refund_lost" if ours is not None and difference.refund_id is not None:
            # Under the provider's own name for it: the money is found there and not given a second time.
            command = RefundOrder(
                command_id=CommandId(difference.refund_id),
                event_id=ours.event_id,
                order_id=ours.order_id,
                user_id=NOBODY,
                as_organiser=True,
                reason="given back before the restore",
            )
            await resources.sender.send(command)
            return True
    return False


def _difference(payment: ProviderPayment, ours: OrderPaid | None) -> Difference | None:
    """What is wrong with a payment, as far as its own state tells; what went back is looked at apart."""
    if ours is None:
        return _lost(payment)
    if (payment.amount, payment.currency) != (ours.amount, ours.currency):
        return Difference("amount_differs", payment, payment.amount, ours)
    if ours.intent_id is None and ours.order_status == "pending":
        return Difference("payment_unknown_to_us", payment, payment.amount, ours)
    return None


def _lost(payment: ProviderPayment) -> Difference | None:
    kept = payment.captured - payment.refunded
    if kept > 0:
        return Difference("order_lost", payment, kept)
    if isinstance(payment.state, Authorized):
        return Difference("authorization_lost", payment, payment.amount)
    if isinstance(payment.state, Canceled) or payment.captured > 0:
        return None  # nothing of the buyer's is left there
    if isinstance(payment.state, Unknown):
        return Difference("not_understood", payment, payment.amount)
    return Difference("intent_lost", payment, Decimal(0))


async def _given_back_since(since: datetime, resources: Resources) -> list[Difference]:
    """Orders that are sold in our books, and whose money the provider has given back by refunds that are not in them."""
    intent_ids = [intent_id async for intent_id in resources.gateway.list_refunded_since(since)]
    known = await records.find_sold_with_refunds(resources.pool, list(dict.fromkeys(intent_ids)), sold=sorted(SOLD))
    found = []
    for ours in known:
        payment = await resources.gateway.look_at(ours.intent_id or "")
        given = await resources.gateway.list_refunds(ours.intent_id or "")
        if not isinstance(payment, ProviderPayment) or not isinstance(given, tuple):
            raise ListingInterrupted(f"{ours.intent_id}: {payment if isinstance(given, tuple) else given}")
        strange = [one for one in given if not one.is_dead and one.mark not in ours.refund_ids]
        is_all_back = ours.order_status != "completed" and payment.refunded >= payment.captured
        if strange and not is_all_back:
            found.append(_refunded(payment, ours, strange))
    return found


def _refunded(payment: ProviderPayment, ours: OrderPaid, strange: Sequence[ProviderRefund]) -> Difference:
    amount = sum((one.amount for one in strange), Decimal(0))
    if payment.refunded < payment.captured or ours.refund_ids:
        return Difference("refund_in_part", payment, amount, ours)
    only = strange[0].mark if len(strange) == 1 else None
    return Difference("refund_lost", payment, amount, ours, refund_id=_id_of(only, payment.intent_id))


def _id_of(mark: str | None, intent_id: str) -> UUID:
    """The refund's own id where the provider remembers one; else one that is the same however often we ask."""
    try:
        return UUID(mark or "")
    except ValueError:
        return uuid5(NAMESPACE_URL, f"boxoffice:refund-before-restore:{intent_id}")


async def _orders_of(page: Sequence[ProviderPayment], resources: Resources) -> Mapping[OrderId, OrderPaid]:
    order_ids = [order_id for payment in page if (order_id := _order_id(payment)) is not None]
    return {paid.order_id: paid for paid in await records.find_by_orders(resources.pool, order_ids)}


def _order_id(payment: ProviderPayment) -> OrderId | None:
    """None of a payment that is not one of ours: it names no order, or names it as nobody here does."""
    try:
        return OrderId(UUID(payment.order_id or ""))
    except ValueError:
        return None


async def _pages(listed: AsyncIterator[ProviderPayment]) -> AsyncIterator[list[ProviderPayment]]:
    page: list[ProviderPayment] = []
    async for payment in listed:
        page.append(payment)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
