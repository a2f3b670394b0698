"""May this hold be paid for, and what follows from what the payment provider said?

The steps T1, T3, TD and T4 of the checkout protocol (research/reliability.md 7.2), each decided inside one transaction in
which no call to the provider is made. Two sentences carry it: seats are never sold before the provider says the money is
authorised, and never freed before it says the payment is dead.
"""

from datetime import UTC, datetime

from consumers.rules.reservations import why_not_yours
from consumers.rules.sale import Hold, Order, Sale
from contracts.commands import Checkout, PaymentCanceled, PaymentDeclined, SettlePayment, VoidPayment
from contracts.domain_events import OrderNotice
from contracts.ids import OrderId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, OrderCompleted, Rejected, ReplyLater

# While a payment runs neither the cleanup nor a rival may take the seats, however long the provider takes.
# A day like any other to all who compare it: PostgreSQL's 'infinity' comes back as a time without a zone, and comparing
# that with one that has a zone is an error.
WHILE_PAYING = datetime(9999, 12, 31, tzinfo=UTC)


def decide_checkout(sale: Sale, command: Checkout) -> AnyReply:
    """T1: the hold is alive, yours and unpaid; from here on it is being paid. That it is alive is pass enough: whoever was let
    in may finish, whatever their waiting room says by now."""
    earlier = sale.orders.get(OrderId(command.command_id))
    if earlier is not None:
        return _the_same_answer(sale, command, earlier)
    hold = sale.holds.get(command.hold_id)
    live = sale.live_order_of(command.hold_id)
    if hold is not None and hold.user_id == command.user_id and live is not None:
        return _answer_of(sale, command, live)
    refusal = why_not_yours(hold, command.user_id, sale.now)
    if hold is None or refusal is not None:
        return refusal or Rejected(code=RejectionCode.HOLD_UNKNOWN)
    if sale.terms.cancelled:
        return Rejected(code=RejectionCode.EVENT_CANCELLED)
    seats = sale.seats_of(hold)
    if seats is None:
        return Rejected(code=RejectionCode.HOLD_EXPIRED)
    sale.mark_hold(hold, "paying")
    sale.set_held_until(hold, seats, hold.held_until, seats_until=WHILE_PAYING)
    sale.open_order(command, hold)
    return ReplyLater()


def decide_settle_payment(sale: Sale, command: SettlePayment) -> AnyReply:
    """T3: the money is authorised. Sell, if the order still stands and every seat is still this hold's; else void."""
    order = sale.orders.get(command.order_id)
    if order is None or order.status in ("completed", "refunding", "refunded", "voiding"):
        sale.answer_again(order)
        return Done(changed=False)
    order.intent_id = command.intent_id
    if order.status != "pending":
        # The order ended before the provider said yes: this authorisation belongs to nobody.
        sale.outgoing.voids_due.append(order.payment_due())
        return Done(changed=False)
    hold = sale.holds.get(order.hold_id)
    seats = sale.seats_of(hold) if hold is not None and hold.status == "paying" else None
    if hold is None or seats is None or sale.terms.cancelled:
        because = "the event was cancelled" if sale.terms.cancelled else "the seats were no longer held"
        sale.mark_order(order, "voiding", payment_status="authorized", because=because)
        sale.outgoing.voids_due.append(order.payment_due())
        return Done()
    sale.mark_hold(hold, "converted")
    sale.mark_order(order, "completed", payment_status="authorized")
    tickets = sale.sell(order, hold, seats, command.command_id)
    sale.answer_later(
        order,
        OrderCompleted(
            order_id=order.id,
            event_id=sale.terms.event_id,
            hold_id=hold.id,
            total=order.total,
            currency=order.currency,
            tickets=tuple(tickets),
            completed_at=sale.now,
        ),
    )
    return Done()


def decide_payment_declined(sale: Sale, command: PaymentDeclined) -> AnyReply:
    """TD: a definite no. The order ends; the hold lives on with a moment's grace for another card."""
    order = sale.orders.get(command.order_id)
    if order is None or order.status not in ("pending", "voiding"):
        sale.answer_again(order)
        return Done(changed=False)
    hold = sale.holds[order.hold_id]
    seats = sale.seats_of(hold)
    if order.status == "voiding" or seats is None:
        return _end_unsold(sale, order, hold, command)
    sale.mark_order(order, "declined", payment_status="declined", because=command.decline_code)
    sale.mark_hold(hold, "active")
    held_until = max(hold.held_until, sale.now + sale.terms.decline_grace)
    sale.set_held_until(hold, seats, held_until, seats_until=held_until)
    sale.arm(hold)
    unavailable = command.decline_code == RejectionCode.PAYMENT_UNAVAILABLE.value
    sale.answer_later(
        order,
        Rejected(
            code=RejectionCode.PAYMENT_UNAVAILABLE if unavailable else RejectionCode.PAYMENT_DECLINED,
            detail=command.message or command.decline_code,
            order_id=order.id,
            held_until=held_until,
        ),
    )
    return Done()


def decide_void_payment(sale: Sale, command: VoidPayment) -> AnyReply:
    """Nobody can finish this payment: have it ended at the provider. The seats stay held until it says it is dead."""
    order = sale.orders.get(command.order_id)
    if order is None or order.status != "pending":
        return Done(changed=False)
    sale.mark_order(order, "voiding", because=command.reason)
    sale.outgoing.voids_due.append(order.payment_due())
    return Done()


def decide_payment_canceled(sale: Sale, command: PaymentCanceled) -> AnyReply:
    """T4 and T6: the provider says the payment is dead, so the seats may go back on sale."""
    order = sale.orders.get(command.order_id)
    if order is None or order.status not in ("pending", "voiding", "completed"):
        sale.answer_again(order)
        return Done(changed=False)
    return _end_unsold(sale, order, sale.holds[order.hold_id], command)


def _end_unsold(sale: Sale, order: Order, hold: Hold, command: PaymentCanceled | PaymentDeclined) -> AnyReply:
    if order.status == "completed":
        sale.unsell(order, command.command_id)
        sale.mark_hold(hold, "released")
    else:
        sale.give_back(hold, "released", command.command_id)
    sale.mark_order(
        order, "cancelled", payment_status="canceled", because=order.ended_because or "the payment was cancelled"
    )
    sale.outgoing.cancelled.append(OrderNotice(order_id=order.id, user_id=order.user_id, reason=order.ended_because))
    sale.answer_later(
        order, Rejected(code=RejectionCode.ORDER_CANCELLED, detail=order.ended_because, order_id=order.id)
    )
    return Done()


def _the_same_answer(sale: Sale, command: Checkout, order: Order) -> AnyReply:
    """The answer to a checkout that has been seen before: what came of it, if anything has."""
    if order.user_id != command.user_id or order.request_hash != command.request_hash:
        return Rejected(code=RejectionCode.IDEMPOTENCY_KEY_REUSED)
    return _answer_of(sale, command, order)


def _answer_of(sale: Sale, command: Checkout, order: Order) -> AnyReply:
    if order.answer is not None:
        return sale.stored_answer(order)
    if order.correlation_id == command.correlation_id:
        return ReplyLater()  # the same message again: its asker is already written down
    if order.status == "pending" and order.payment_status == "action_needed":
        # The buyer comes back from their bank: look at the payment again, and tell this asker how it ended.
        order.reply_to, order.correlation_id = sale.askers.get(command.command_id), command.correlation_id
        sale.mark_order(order, "pending")
        sale.request_payment(order)
        return ReplyLater()
    return Rejected(code=RejectionCode.STILL_IN_PROGRESS, order_id=order.id)
