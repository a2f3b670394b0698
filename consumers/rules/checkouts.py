"""May this hold be paid for, and what follows from what the payment provider said?

The steps T1, T3, TD and T4 of the checkout protocol (research/reliability.md 7.2), each decided inside one transaction in
which no call to the provider is made. Two sentences carry it: seats are never sold before the provider says the money is
authorised, and never freed before it says the payment is dead.
"""

from datetime import UTC, datetime

from consumers.rules.money import post_sale
from consumers.rules.prices import parts_of_tickets
from consumers.rules.refunds import SOLD, take_back
from consumers.rules.resales import pay_sellers
from consumers.rules.reservations import why_not_yours
from consumers.rules.sale import Hold, Order, Sale, Seat
from contracts.commands import Checkout, PaymentCanceled, PaymentDeclined, SettlePayment, VoidPayment
from contracts.domain_events import OrderNotice
from contracts.ids import CommandId, OrderId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, OrderCompleted, Rejected, ReplyLater

# While a payment runs neither the cleanup nor a rival may take the seats, however long the provider takes.
# A day like any other to all who compare it: PostgreSQL's 'infinity' comes back as a time without a zone, and comparing
# that with one that has a zone is an error.
WHILE_PAYING = datetime(9999, 12, 31, tzinfo=UTC)


def decide_checkout(sale: Sale, command: Checkout) -> AnyReply:
    """T1: the hold is alive, yours and unpaid; from here on it is being paid, or sold where it costs nothing: then no provider
    is asked. That it is alive is pass enough: whoever was let in may finish, whatever their waiting room says by now."""
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
    order = sale.open_order(command, hold)
    if order.is_free:
        completed = _sell(sale, order, hold, seats, command_id=command.command_id, payment_status="captured")
        sale.store_answer(order, completed)
        return completed
    sale.mark_hold(hold, "paying")
    sale.set_held_until(hold, seats, hold.held_until, seats_until=WHILE_PAYING)
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
        sale.outgoing.voids_due.append(sale.payment_due(order))
        return Done(changed=False)
    hold = sale.holds.get(order.hold_id)
    seats = sale.seats_of(hold) if hold is not None and hold.status == "paying" else None
    if hold is None or seats is None or sale.terms.cancelled:
        because = "the event was cancelled" if sale.terms.cancelled else "the seats were no longer held"
        sale.mark_order(order, "voiding", payment_status="authorized", because=because)
        sale.outgoing.voids_due.append(sale.payment_due(order))
        return Done()
    completed = _sell(sale, order, hold, seats, command_id=command.command_id, payment_status="authorized")
    sale.answer_later(order, completed)
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
    sale.outgoing.voids_due.append(sale.payment_due(order))
    return Done()


def decide_payment_canceled(sale: Sale, command: PaymentCanceled) -> AnyReply:
    """T4 and T6: the provider says the payment is dead, so the seats may go back on sale."""
    order = sale.orders.get(command.order_id)
    if order is None or not _may_come_to_nothing(order):
        sale.answer_again(order)
        return Done(changed=False)
    return _end_unsold(sale, order, sale.holds[order.hold_id], command)


def _sell(
    sale: Sale, order: Order, hold: Hold, seats: list[Seat], *, command_id: CommandId, payment_status: str
) -> OrderCompleted:
    """The order stands and is paid for, or costs nothing: the seats are the buyer's."""
    sale.mark_hold(hold, "converted")
    sale.mark_order(order, "completed", payment_status=payment_status)
    tickets = sale.sell(order, hold, seats, command_id)
    pay_sellers(sale, seats, command_id)
    post_sale(sale, order, sale.tickets_of(order.id), command_id)
    return OrderCompleted(
        order_id=order.id,
        event_id=sale.terms.event_id,
        hold_id=hold.id,
        total=order.total,
        currency=order.currency,
        tickets=tuple(tickets),
        completed_at=sale.now,
        parts=parts_of_tickets(sale.tickets[ticket.ticket_id] for ticket in tickets),
    )


def _may_come_to_nothing(order: Order) -> bool:
    """Not an order that is dead already, nor one of which all is given back; but what a refund has kept can still be lost,
    as long as it is only set aside."""
    if order.status == "refunded":
        return order.payment_status == "authorized"
    return order.status in ("pending", "voiding", "completed", "refunding")


def _end_unsold(sale: Sale, order: Order, hold: Hold, command: PaymentCanceled | PaymentDeclined) -> AnyReply:
    if order.status in SOLD:
        take_back(sale, order, command.command_id)
        sale.mark_hold(hold, "released")
    else:
        sale.give_back(hold, "released", command.command_id)
    sale.mark_order(
        order, "cancelled", payment_status="canceled", because=order.ended_because or "the payment was cancelled"
    )
    sale.outgoing.cancelled.append(
        OrderNotice(
            order_id=order.id,
            user_id=order.user_id,
            reason=order.ended_because,
            **sale.origin(order)._asdict(),
        )
    )
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
