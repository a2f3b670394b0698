"""Is every payment the provider knows of matched to an order, and every order to a payment?

The provider's log and our database cannot be read at the same instant, so during a sale neither order of reading them
fits every check. What decides is who moves first:

- The provider authorises before our order is completed. That a completed order was authorised must therefore be asked of
  the log as it is AFTER our snapshot; the log of before may not have heard of it yet.
- Our order is completed before the provider captures, and our refund is written before the provider gives anything back.
  That captured money has its order, and money that went back its refund, must therefore be asked of the log as it was BEFORE
  our snapshot; the log of after may hold captures of orders that were pending, or not even made, in the snapshot.

So the log is read twice, before and after; it only ever grows. With that no check can raise a false alarm, and none has to
look away from orders that are in flight: money captured for an order that was still pending a moment later is a difference.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from consumers.proof.report import Check
from consumers.proof.sales import DEAD, SOLD_ONCE
from contracts.ids import EventId
from contracts.money import UnusableAmount, to_minor_units
from db.proof import Books, OrderRecord, RefundRecord
from ops.payment_simulator.log_reader import IntentOnLog, MoneyLog

# The reconciler looks at a payment after half a minute of silence.
CANCELLING_MAX = timedelta(minutes=2)


@dataclass(frozen=True)
class MoneyTrail:
    """Our books of one event between two readings of the provider's log, without what is for other events' orders."""

    before: MoneyLog
    books: Books
    after: MoneyLog

    @cached_property
    def orders(self) -> dict[str, OrderRecord]:
        """This event's orders, under the name by which the provider knows them."""
        return {str(order.id): order for order in self.books.orders}

    @cached_property
    def _touched_at(self) -> dict[UUID, datetime]:
        return {payment.order_id: payment.touched_at for payment in self.books.payments}

    def touched_at(self, order: OrderRecord) -> datetime:
        """When anything was last done about its payment; long ago when it has none."""
        return self._touched_at.get(order.id, datetime.min.replace(tzinfo=UTC))

    @cached_property
    def _refunds(self) -> dict[UUID, list[RefundRecord]]:
        found: dict[UUID, list[RefundRecord]] = defaultdict(list)
        for refund in self.books.refunds:
            found[refund.order_id].append(refund)
        return found

    def is_all_back(self, order: OrderRecord) -> bool:
        """Whether an order is refunded and nothing of it was kept."""
        amount = sum((refund.amount for refund in self._refunds[order.id]), Decimal(0))
        return order.status == "refunded" and amount == order.total_amount

    def refunded_minor(self, order: OrderRecord) -> tuple[int, int]:
        """What is back of it by our books, and what was ever asked for, that included; in minor units."""
        done = asked = 0
        for refund in self._refunds[order.id]:
            minor = _to_minor(refund.amount, refund.currency) or 0
            asked += minor
            done += minor if refund.status == "refunded" else 0
        return done, asked

    @property
    def intents_before(self) -> Collection[IntentOnLog]:
        """What the provider knew before our snapshot."""
        return self.before.intents.values()

    @cached_property
    def intents_after(self) -> dict[str, list[IntentOnLog]]:
        """What it knew after it, by order."""
        found: dict[str, list[IntentOnLog]] = {order_id: [] for order_id in self.orders}
        for intent in self.after.intents.values():
            found.setdefault(intent.order_id or "", []).append(intent)
        return found


def shares_of(log: MoneyLog, owners: Mapping[UUID, EventId]) -> "dict[EventId | None, MoneyLog]":
    """The log, event by event, as `owners` tells whose each order is; under None what no order of ours accounts for."""
    events = {str(order_id): event_id for order_id, event_id in owners.items()}
    shares: dict[EventId | None, dict[str, IntentOnLog]] = defaultdict(dict)
    for intent in log.intents.values():
        shares[events.get(intent.order_id or "")][intent.intent_id] = intent
    return {event_id: MoneyLog(intents) for event_id, intents in shares.items()}


def find_money_without_order(trail: MoneyTrail) -> Iterator[str]:
    """What was captured, and not given back in full, was captured once, for an order that is sold, and is its whole price."""
    for intent in trail.intents_before:
        order = trail.orders.get(intent.order_id or "")
        if intent.kept_minor > 0 and (order is None or order.status not in SOLD_ONCE):
            state = "which we do not know" if order is None else f"which is {order.status}"
            yield f"{_money(intent, intent.kept_minor)} was captured by {intent.intent_id} for order {intent.order_id}, {state}"
        if intent.capture_count > 1:
            yield f"{intent.intent_id} was captured {intent.capture_count} times"


def find_orders_unpaid_at_provider(trail: MoneyTrail) -> Iterator[str]:
    """An order that was ever completed has one payment that was captured, or waits to be, over its price. Of one that costs
    nothing the provider knows nothing."""
    for order_id, order in trail.orders.items():
        if order.status not in SOLD_ONCE:
            continue
        if order.total_amount == 0:
            yield from (
                f"order {order_id} costs nothing, and there is {i.intent_id}" for i in trail.intents_after[order_id]
            )
            continue
        paid = [intent for intent in trail.intents_after[order_id] if _is_paid(intent, order, trail)]
        if len(paid) != 1:
            yield f"order {order_id} is {order.status} and was paid {len(paid)} times at the provider"
            continue
        taken = paid[0].captured_minor if paid[0].capture_count else paid[0].authorized_minor
        if taken != _minor(order):
            yield f"order {order_id} is {order.total_amount} {order.currency}, the provider has {_money(paid[0], taken)}"


def _is_paid(intent: IntentOnLog, order: OrderRecord, trail: MoneyTrail) -> bool:
    if intent.captured_minor > 0 or intent.is_authorized_only:
        return True
    if intent.authorized_minor == 0:
        return False
    # The authorisation was let go of: the bank took it back before we captured, and the order is about to be cancelled, which
    # takes a moment, not minutes. (Orders used to be refunded that way, too.)
    silent = trail.books.read_at - trail.touched_at(order)
    return order.status == "refunded" or silent < CANCELLING_MAX


def find_wrong_amounts(trail: MoneyTrail) -> Iterator[str]:
    """Whatever its state, a payment is over its order's amount, in its currency."""
    for intent in trail.intents_before:
        order = trail.orders.get(intent.order_id or "")
        if order is None:
            continue
        if (intent.amount_minor, intent.currency.upper()) != (_minor(order), order.currency):
            ours = f"{order.total_amount} {order.currency}"
            yield f"{intent.intent_id} is over {_money(intent, intent.amount_minor)}, its order {intent.order_id} is {ours}"


def find_money_left_aside(trail: MoneyTrail) -> Iterator[str]:
    """No card has money set aside, before our snapshot and still after it, for an order that has ended or never was."""
    for intent in trail.intents_before:
        order = trail.orders.get(intent.order_id or "")
        later = trail.after.intents.get(intent.intent_id, intent)
        if later.is_authorized_only and (order is None or order.status in DEAD or trail.is_all_back(order)):
            state = "which we do not know" if order is None else f"which is {order.status}"
            amount = _money(intent, intent.authorized_minor)
            yield f"{amount} is still set aside by {intent.intent_id} for order {intent.order_id}, {state}"


def find_refund_differences(trail: MoneyTrail) -> Iterator[str]:
    """Of a sold order the provider has given back what our refunds say: all that are done, and none that was not asked for."""
    before: dict[str, int] = defaultdict(int)
    for intent in trail.intents_before:
        before[intent.order_id or ""] += intent.refunded_minor
    for order_id, order in trail.orders.items():
        if order.status not in SOLD_ONCE:
            continue
        after = sum(map(_not_kept, trail.intents_after[order_id]))
        done, asked = trail.refunded_minor(order)
        if after < done:
            yield f"{done} of order {order_id} is refunded (minor units), but the provider has given back {after}"
        if before[order_id] > asked:
            yield f"the provider has given back {before[order_id]} of order {order_id} (minor units), asked was for {asked}"


def _not_kept(intent: IntentOnLog) -> int:
    """What the buyer has of what was set aside; an authorisation that was let go of, all of it."""
    if intent.captured_minor == 0 and intent.state == "canceled":
        return intent.authorized_minor
    return intent.refunded_minor


def find_payments_unlike_provider(trail: MoneyTrail) -> Iterator[str]:
    """What our payment records claim to have happened at the provider has happened there."""
    for payment in trail.books.payments:
        intent = trail.after.intents.get(payment.intent_id or "")
        if payment.intent_id is not None and intent is None:
            yield f"the provider knows no {payment.intent_id} for order {payment.order_id}"
        if intent is not None and not _bears_out(payment.status, intent):
            yield f"our record of {intent.intent_id} is {payment.status}, the provider's is {intent.state}"


def _bears_out(status: str, intent: IntentOnLog) -> bool:
    match status:
        case "authorized":
            return intent.authorized_minor > 0
        case "captured":
            return intent.captured_minor > 0
        case "canceled" | "refunded":
            return intent.kept_minor == 0 and not intent.is_authorized_only
    return True


def _minor(order: OrderRecord) -> int | None:
    return _to_minor(order.total_amount, order.currency)


def _to_minor(amount: Decimal, currency: str) -> int | None:
    try:
        return to_minor_units(amount, currency)
    except UnusableAmount:
        return None  # equals no amount of any payment, and so is reported


def _money(intent: IntentOnLog, minor: int) -> str:
    return f"{minor} {intent.currency.upper()} (minor units)"


def _intent_count(trail: MoneyTrail) -> int:
    return len(trail.intents_before)


MONEY_CHECKS: tuple[Check[MoneyTrail], ...] = (
    Check(
        "captured money has its order",
        "Every captured payment is one completed order's, or was given back in full.",
        "intents",
        _intent_count,
        find_money_without_order,
    ),
    Check(
        "orders paid at the provider",
        "Every completed order is authorised or captured there exactly once, over its price.",
        "orders",
        lambda trail: sum(order.status in SOLD_ONCE for order in trail.books.orders),
        find_orders_unpaid_at_provider,
    ),
    Check(
        "amounts agree",
        "Every payment is over its order's amount, in its currency.",
        "intents",
        _intent_count,
        find_wrong_amounts,
    ),
    Check(
        "no money left aside",
        "No card has money set aside for an order that has ended or never was.",
        "intents",
        _intent_count,
        find_money_left_aside,
    ),
    Check(
        "refunds agree",
        "The provider has given back what our refunds say, once and no more.",
        "refunds",
        lambda trail: len(trail.books.refunds),
        find_refund_differences,
    ),
    Check(
        "payments equal the provider's",
        "What our payment records say has happened has happened there.",
        "payments",
        lambda trail: len(trail.books.payments),
        find_payments_unlike_provider,
    ),
)
