"""What follows when an event is cancelled?

From that commit on nothing of it is sold, and then everybody has their money back: some orders at a time, so that a stadium
does not hold the event up for minutes, asked for again and again until none is left. Whoever asks starts from the records,
so it makes no difference where he was stopped.
"""

from dataclasses import replace
from decimal import Decimal
from uuid import uuid5

from pydantic_core import to_json

from consumers.rules.after_sale import AuditEntry, Cancellation, Refund
from consumers.rules.refunds import refundable_tickets, start_refund
from consumers.rules.sale import Order, Sale
from contracts.commands import CancelEvent, RefundCancelled
from contracts.domain_events import Notice
from contracts.ids import OrderId, RefundId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, EventCancelled, Rejected

_NOTHING = Decimal("0.00")


def decide_cancel_event(sale: Sale, command: CancelEvent) -> AnyReply:
    """Stop selling, once and for good. Who is paying now is charged nothing: his authorisation is let go (`settle_payment`)."""
    if sale.cancellation is not None:
        return Rejected(code=RejectionCode.EVENT_CANCELLED)
    sale.cancellation = sale.changed_cancellation = Cancellation(
        cancelled_by=command.user_id, reason=command.reason, cancelled_at=sale.now, is_new=True
    )
    sale.terms = replace(sale.terms, cancelled=True)
    sale.audits.append(
        AuditEntry(
            user_id=command.user_id,
            action=command.type,
            subject=f"event {sale.terms.event_id}",
            before=to_json({"cancelled": False}).decode(),
            after=to_json({"cancelled": True, "reason": command.reason}).decode(),
        )
    )
    return sale.remember(
        command,
        EventCancelled(
            event_id=sale.terms.event_id,
            cancelled_at=sale.now,
            # What was loaded, and what was sold in this batch before.
            orders_to_refund=sale.orders_to_refund_count + len(sale.sold_orders),
        ),
    )


def decide_refund_cancelled(sale: Sale, command: RefundCancelled) -> AnyReply:
    """Everything that is left of some more orders goes back to who paid, whoever has the tickets now; nothing is kept."""
    cancellation = sale.cancellation
    if cancellation is None or cancellation.is_new or cancellation.finished_at is not None:
        return Done(changed=False)
    if not sale.orders_under_way_count:
        # Counted before this batch, and of a cancelled event orders only come to their end.
        cancellation.finished_at = sale.now
        sale.changed_cancellation = cancellation
        return Done()
    begun = [_refund(sale, sale.orders[order_id], cancellation, command) for order_id in sale.orders_to_refund]
    return Done(changed=any(begun))


def _refund(sale: Sale, order: Order, cancellation: Cancellation, command: RefundCancelled) -> bool:
    """Whether there was anything left of it."""
    tickets = refundable_tickets(sale, order)
    if order.status != "completed" or not tickets:
        return False
    holders = {ticket.user_id: ticket.id for ticket in tickets if ticket.user_id != order.user_id}
    refund = start_refund(
        sale,
        order,
        tickets,
        refund_id=cancellation_refund_id(order.id),
        kind="cancellation",
        amount=sum((ticket.price for ticket in tickets), _NOTHING),
        requested_by=cancellation.cancelled_by,
        reason=cancellation.reason,
        command_id=command.command_id,
    )
    sale.tell(_notice_to_buyer(order, refund))
    for user_id, ticket_id in holders.items():
        # Who has a ticket from somebody else must not come to the show either; the money is not his.
        sale.tell(
            Notice(
                kind="event_cancelled",
                subject_id=ticket_id,
                user_id=user_id,
                order_id=order.id,
                ticket_ids=tuple(ticket.id for ticket in tickets if ticket.user_id == user_id),
                reason=cancellation.reason,
            )
        )
    return True


def cancellation_refund_id(order_id: OrderId) -> RefundId:
    """The refund by which a cancelled event gives an order's money back: the same one whoever asks for it, so there is one."""
    return RefundId(uuid5(order_id, "cancellation"))


def _notice_to_buyer(order: Order, refund: Refund) -> Notice:
    return Notice(
        kind="event_cancelled",
        subject_id=order.id,
        user_id=order.user_id,
        order_id=order.id,
        ticket_ids=tuple(refund.ticket_ids),
        amount=refund.amount,
        reason=refund.reason,
    )
