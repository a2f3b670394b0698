"""May this money go back, and when do the seats?

A ticket is refunded once: its item names the refund from the moment it is asked for, and from then on the ticket is void. Its
seat stays sold until the provider says that the money is back. An order is `completed` as long as one ticket of it is not
refunded, `refunding` while money of the rest is on its way, and `refunded` when all of it is back.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pydantic_core import to_json

from consumers.rules.after_sale import AuditEntry, Refund, Ticket
from consumers.rules.money import post_refund, post_reversal, share_of
from consumers.rules.offers import end_open_offers, is_on_offer, open_resale_of
from consumers.rules.sale import Order, Sale
from contracts.commands import PaymentRefunded, RefundOrder
from contracts.domain_events import Notice, RefundDue
from contracts.ids import CommandId, OrderId, RefundId, TicketId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, RefundStarted, Rejected

SOLD = frozenset({"completed", "refunding", "refunded"})

_NOTHING = Decimal("0.00")


def decide_refund_order(sale: Sale, command: RefundOrder) -> AnyReply:
    """Start giving money back: a buyer's by the event's policy, an organiser's as he likes."""
    order = sale.orders.get(command.order_id)
    if order is None or not (command.as_organiser or order.user_id == command.user_id):
        return Rejected(code=RejectionCode.ORDER_UNKNOWN)
    earlier = sale.refunds.get(RefundId(command.command_id))
    if earlier is not None:
        return _started(earlier)
    shut = None if command.as_organiser else _why_not_open(sale)
    if shut is not None:
        return Rejected(code=shut, order_id=order.id)
    tickets = _wanted(sale, order, command)
    if isinstance(tickets, Rejected):
        return tickets
    refusal = _why_not(sale, tickets, command)
    if refusal is not None:
        return refusal
    kept = _NOTHING if command.as_organiser else sum((_fee_of(sale, ticket) for ticket in tickets), _NOTHING)
    before = order.status
    refund = start_refund(
        sale,
        order,
        tickets,
        refund_id=RefundId(command.command_id),
        kind="organiser" if command.as_organiser else "buyer",
        amount=sum((ticket.price for ticket in tickets), _NOTHING) - kept,
        fee_kept=kept,
        requested_by=command.user_id,
        reason=command.reason,
        command_id=command.command_id,
    )
    sale.tell(_notice_of(order, refund))
    if command.as_organiser:
        sale.audits.append(_audit_of(command, before, refund))
    return sale.remember(command, _started(refund))


def decide_payment_refunded(sale: Sale, command: PaymentRefunded) -> AnyReply:
    """The money of this refund is back: the seats of its tickets go on sale again."""
    refund = sale.refunds.get(command.refund_id)
    if refund is None or refund.order_id != command.order_id or refund.status == "refunded":
        return Done(changed=False)
    _finish(sale, refund, command.command_id)
    _mark_order(sale, sale.orders[refund.order_id])
    return Done()


def start_refund(
    sale: Sale,
    order: Order,
    tickets: Sequence[Ticket],
    *,
    refund_id: RefundId,
    kind: str,
    amount: Decimal,
    requested_by: UserId,
    command_id: CommandId,
    fee_kept: Decimal = _NOTHING,
    reason: str = "",
) -> Refund:
    """Void these tickets of an order, none of which is refunded yet, and have `amount` of what they cost given back. They are on
    offer to nobody any more. Of kind `resale` their seats are somebody else's by now, otherwise they are freed when the money
    is back; where there is none to give back, at once."""
    refund = Refund(
        id=refund_id,
        order_id=order.id,
        kind=kind,
        ticket_ids=[ticket.id for ticket in tickets],
        amount=amount,
        fee_kept=fee_kept,
        currency=order.currency,
        status="requested",
        # Chosen and stored before the provider hears of it: every retry asks with this one.
        provider_key=f"refund:{refund_id}",
        requested_by=requested_by,
        reason=reason,
        created_at=sale.now,
        is_new=True,
    )
    sale.refunds[refund.id] = sale.changed_refunds[refund.id] = refund
    for ticket in tickets:
        _void(sale, ticket, refund, command_id)
    if amount:
        sale.outgoing.refunds_due.append(_due(sale, order, refund))
    else:
        _finish(sale, refund, command_id)
    _mark_order(sale, order)
    return refund


def take_back(sale: Sale, order: Order, command_id: CommandId) -> None:
    """Nothing was ever collected for this sold order, and nothing will be: its tickets are dead, its seats are on sale again,
    and of its refunds there is nothing left to give back."""
    for ticket in sale.tickets_of(order.id):
        end_open_offers(sale, ticket, command_id)
    post_reversal(sale, order, command_id)
    for refund in refunds_of(sale, order.id):
        if refund.status == "requested":
            _mark_refunded(sale, refund)
    sale.unsell(order, command_id)


def refunds_of(sale: Sale, order_id: OrderId) -> list[Refund]:
    """What goes back, or has, of an order."""
    return [refund for refund in sale.refunds.values() if refund.order_id == order_id]


def refundable_tickets(sale: Sale, order: Order) -> list[Ticket]:
    """What is left of a sold order, whoever has it now."""
    return [ticket for ticket in sale.tickets_of(order.id) if ticket.refund_id is None and ticket.is_valid]


def _why_not_open(sale: Sale) -> RejectionCode | None:
    if sale.terms.cancelled:
        return RejectionCode.EVENT_CANCELLED  # all of it goes back without being asked for
    until = sale.terms.refund_until
    return RejectionCode.REFUNDS_CLOSED if until is None or sale.now >= until else None


def _wanted(sale: Sale, order: Order, command: RefundOrder) -> list[Ticket] | Rejected:
    """The tickets the command names, or all that are left and, for a buyer, his."""
    if order.status not in SOLD:
        return Rejected(code=RejectionCode.ORDER_NOT_REFUNDABLE, order_id=order.id)
    if command.ticket_ids:
        return _named(sale, order, command.ticket_ids)
    left = refundable_tickets(sale, order)
    if not command.as_organiser:
        left = [ticket for ticket in left if ticket.user_id == command.user_id]
    return left or Rejected(code=RejectionCode.ORDER_NOT_REFUNDABLE, order_id=order.id)


def _named(sale: Sale, order: Order, ticket_ids: Iterable[TicketId]) -> list[Ticket] | Rejected:
    tickets = []
    for ticket_id in dict.fromkeys(ticket_ids):
        ticket = sale.tickets.get(ticket_id)
        if ticket is None or ticket.order_id != order.id:
            return Rejected(code=RejectionCode.TICKET_UNKNOWN, order_id=order.id)
        tickets.append(ticket)
    return tickets


def _why_not(sale: Sale, tickets: Iterable[Ticket], command: RefundOrder) -> Rejected | None:
    why_not = _why_not_organisers if command.as_organiser else _why_not_buyers
    for ticket in tickets:
        code = why_not(sale, ticket, command.user_id)
        if code is not None:
            return Rejected(code=code, seat_ids=(ticket.seat_id,), order_id=ticket.order_id)
    return None


def _why_not_buyers(sale: Sale, ticket: Ticket, user_id: UserId) -> RejectionCode | None:
    if ticket.refund_id is not None or not ticket.is_valid or ticket.user_id != user_id:
        return RejectionCode.TICKET_NOT_VALID
    if ticket.checked_in_at is not None:
        return RejectionCode.TICKET_CHECKED_IN
    return RejectionCode.TICKET_ON_OFFER if is_on_offer(sale, ticket) else None


def _why_not_organisers(sale: Sale, ticket: Ticket, _user_id: UserId) -> RejectionCode | None:
    if ticket.refund_id is not None or not ticket.is_valid:
        return RejectionCode.TICKET_NOT_VALID
    resale = open_resale_of(sale, ticket)
    if resale is not None and not sale.seats[resale.seat_id].is_available(sale.now):
        return RejectionCode.RESALE_IN_CHECKOUT
    return None


def _fee_of(sale: Sale, ticket: Ticket) -> Decimal:
    return share_of(ticket.price, sale.terms.refund_fee_rate, sale.terms.currency)


def _void(sale: Sale, ticket: Ticket, refund: Refund, command_id: CommandId) -> None:
    if refund.kind == "resale":
        ticket.live = False
    else:
        end_open_offers(sale, ticket, command_id)
    ticket.refund_id = refund.id
    sale.end_ticket(ticket, "resold" if refund.kind == "resale" else "refunded")


def _finish(sale: Sale, refund: Refund, command_id: CommandId) -> None:
    _mark_refunded(sale, refund)
    tickets = [sale.tickets[ticket_id] for ticket_id in refund.ticket_ids]
    post_refund(sale, refund, tickets, command_id)
    if refund.kind == "resale":
        return
    sale.free_ticket_seats(tickets, command_id)
    order = sale.orders[refund.order_id]
    if order not in sale.unsold_orders:
        sale.unsold_orders.append(order)


def _mark_refunded(sale: Sale, refund: Refund) -> None:
    refund.status, refund.refunded_at = "refunded", sale.now
    sale.changed_refunds[refund.id] = refund


def _mark_order(sale: Sale, order: Order) -> None:
    """What the order is, now that a refund of it has begun or ended."""
    refunds = refunds_of(sale, order.id)
    if any(ticket.refund_id is None for ticket in sale.tickets_of(order.id)):
        sale.mark_order(order, "completed")
    elif any(refund.status == "requested" for refund in refunds):
        sale.mark_order(order, "refunding")
    else:
        # Where something was kept the provider still has it, or has yet to collect it.
        is_all_back = sum((refund.amount for refund in refunds), _NOTHING) == order.total
        sale.mark_order(order, "refunded", payment_status="refunded" if is_all_back else None)


def _due(sale: Sale, order: Order, refund: Refund) -> RefundDue:
    return RefundDue(
        order_id=order.id,
        intent_id=order.intent_id or "",
        provider_key=refund.provider_key,
        amount=refund.amount,
        currency=refund.currency,
        refund_id=refund.id,
        **sale.origin(order)._asdict(),
    )


def _started(refund: Refund) -> RefundStarted:
    return RefundStarted(
        refund_id=refund.id,
        order_id=refund.order_id,
        ticket_ids=tuple(refund.ticket_ids),
        amount=refund.amount,
        fee_kept=refund.fee_kept,
        currency=refund.currency,
    )


def _notice_of(order: Order, refund: Refund) -> Notice:
    return Notice(
        kind="refund_started",
        subject_id=refund.id,
        user_id=order.user_id,
        order_id=order.id,
        ticket_ids=tuple(refund.ticket_ids),
        amount=refund.amount,
        reason=refund.reason,
    )


def _audit_of(command: RefundOrder, before: str, refund: Refund) -> AuditEntry:
    after = {"refundId": refund.id, "ticketIds": refund.ticket_ids, "amount": refund.amount, "reason": refund.reason}
    return AuditEntry(
        user_id=command.user_id,
        action=command.type,
        subject=f"order {refund.order_id}",
        before=to_json({"status": before}).decode(),
        after=to_json(after).decode(),
    )
