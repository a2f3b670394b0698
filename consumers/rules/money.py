"""Which amounts go from which account to which when seats are sold, and when their money goes back?

Double-entry: what a ticket cost was collected (provider) for its face value, its fee and its tax, each an account of its own.
Of every event and at every moment its entries sum to zero, an account is worth what the tickets that are not paid back say,
and `provider` is what the payment provider has of ours. What costs nothing posts nothing.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

from consumers.rules.after_sale import MoneyEntry, Refund, Ticket
from consumers.rules.sale import Order, Sale
from contracts.ids import CommandId, RefundId
from contracts.price_parts import smallest_unit

_NOTHING = Decimal("0.00")


def post_sale(sale: Sale, order: Order, tickets: Iterable[Ticket], command_id: CommandId) -> None:
    """The order is sold: its money is the provider's to collect for us."""
    for account, amount in _parts(tickets):
        _post(sale, order, debit="provider", credit=account, amount=amount, command_id=command_id)


def post_refund(sale: Sale, refund: Refund, tickets: Iterable[Ticket], command_id: CommandId) -> None:
    """The money of these tickets is back, but for what is kept of it."""
    order, paid = sale.orders[refund.order_id], _NOTHING
    for account, amount in _parts(tickets):
        _post(sale, order, debit=account, credit="provider", amount=amount, command_id=command_id, refund_id=refund.id)
        paid += amount
    kept = paid - refund.amount
    _post(sale, order, debit="provider", credit="refund_fees", amount=kept, command_id=command_id, refund_id=refund.id)


def post_reversal(sale: Sale, order: Order, command_id: CommandId) -> None:
    """The order came to nothing after it was sold, and nothing was ever collected for it: neither what its tickets cost nor
    what was to be kept of those that had been given back for nothing."""
    tickets = {ticket.id: ticket for ticket in sale.tickets_of(order.id)}
    for refund in sale.refunds.values():
        if refund.order_id != order.id or refund.status != "refunded":
            continue
        paid = sum((tickets.pop(ticket_id).price for ticket_id in refund.ticket_ids), _NOTHING)
        kept = paid - refund.amount
        _post(sale, order, debit="refund_fees", credit="provider", amount=kept, command_id=command_id)
    for account, amount in _parts(tickets.values()):
        _post(sale, order, debit=account, credit="provider", amount=amount, command_id=command_id)


def share_of(price: Decimal, rate: Decimal, currency: str) -> Decimal:
    """That share of a price, rounded half up to the currency's smallest unit, and never more than the price."""
    return min((price * rate).quantize(smallest_unit(currency), ROUND_HALF_UP).quantize(_NOTHING), price)


def _parts(tickets: Iterable[Ticket]) -> list[tuple[str, Decimal]]:
    """What was paid for them together, by what it was paid for."""
    face = fee = tax = _NOTHING
    for ticket in tickets:
        face += ticket.price - ticket.fee - ticket.tax
        fee += ticket.fee
        tax += ticket.tax
    return [("tickets", face), ("fees", fee), ("tax", tax)]


def _post(
    sale: Sale,
    order: Order,
    *,
    debit: str,
    credit: str,
    amount: Decimal,
    command_id: CommandId,
    refund_id: RefundId | None = None,
) -> None:
    if amount:
        sale.money.append(MoneyEntry(order.id, refund_id, debit, credit, amount, order.currency, command_id))
