"""May this ticket's seat be sold to somebody else, and who is paid when it is?

While a resale is open its seat is on sale like any other, at the price its owner asks, and the ticket is still his. Whoever
buys it holds and pays in the ordinary way; in the transaction that sells the seat to him the seller's ticket ends and his
money starts on its way back. So the seat is somebody's at every moment, and never two people's.
"""

from collections.abc import Iterable
from uuid import uuid5

from consumers.rules.after_sale import Resale
from consumers.rules.offers import at_usual_price, close_resale, end_resale
from consumers.rules.refunds import start_refund
from consumers.rules.sale import Sale, Seat
from consumers.rules.transfers import why_not_offered
from contracts.commands import ExpireResales, OfferResale, WithdrawResale
from contracts.domain_events import Notice
from contracts.ids import CommandId, RefundId, ResaleId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, Rejected, ResaleOffered, ResaleWithdrawn


def decide_offer_resale(sale: Sale, command: OfferResale) -> AnyReply:
    """Put the seat on sale again, for what the ticket cost or less."""
    ticket = sale.tickets.get(command.ticket_id)
    refusal = why_not_offered(sale, ticket, command.user_id)
    if ticket is None or refusal is not None:
        return Rejected(code=refusal or RejectionCode.TICKET_UNKNOWN)
    if ticket.bought_by != command.user_id:
        detail = (
            "the money of a resale goes back to the card that paid, and that is not yours: transfer the ticket instead"
        )
        return Rejected(code=RejectionCode.NOT_OFFERED, detail=detail)
    if not sale.terms.resales or sale.terms.cancelled or sale.is_over():
        return Rejected(code=RejectionCode.RESALES_CLOSED)
    if command.price > ticket.price:
        return Rejected(code=RejectionCode.RESALE_PRICE_TOO_HIGH)
    seat, order = sale.seats[ticket.seat_id], sale.orders[ticket.order_id]
    resale = Resale(
        id=ResaleId(command.command_id),
        ticket_id=ticket.id,
        order_id=order.id,
        seat_id=seat.id,
        seller_id=command.user_id,
        price=command.price,
        usual_price=seat.price,
        hold_id=order.hold_id,
        status="open",
        created_at=sale.now,
        is_new=True,
    )
    sale.resales[resale.id] = sale.changed_resales[resale.id] = resale
    _put_on_sale(sale, resale, seat, command.command_id)
    return sale.remember(
        command,
        ResaleOffered(resale_id=resale.id, ticket_id=ticket.id, price=resale.price, currency=sale.terms.currency),
    )


def decide_withdraw_resale(sale: Sale, command: WithdrawResale) -> AnyReply:
    """The seat is its seller's again, unless somebody has it in his hands."""
    resale = sale.resales.get(command.resale_id)
    if resale is None or resale.seller_id != command.user_id:
        return Rejected(code=RejectionCode.RESALE_UNKNOWN)
    if resale.status != "open":
        return Rejected(code=RejectionCode.RESALE_ENDED)
    if not end_resale(sale, resale, "withdrawn", command.command_id):
        return Rejected(code=RejectionCode.RESALE_IN_CHECKOUT)
    return sale.remember(command, ResaleWithdrawn(resale_id=resale.id, ticket_id=resale.ticket_id))


def decide_expire_resales(sale: Sale, command: ExpireResales) -> AnyReply:
    """Give seats that nobody can buy any more back to their sellers: a ticket on sale lets nobody in, and whoever has found no
    buyer wants to see the show himself. Of a cancelled event they end with the refund."""
    ended = [
        resale
        for resale_id in command.resale_ids
        if (resale := sale.resales.get(resale_id))
        and resale.status == "open"
        and _is_out_of_reach(sale, resale)
        and end_resale(sale, resale, "withdrawn", command.command_id)
    ]
    return Done(changed=bool(ended))


def pay_sellers(sale: Sale, seats: Iterable[Seat], command_id: CommandId) -> None:
    """These seats have just been sold (`Sale.sell`): whoever had offered one to others has no ticket any more, and is paid
    what he asked for. Whoever sells seats has to call this: a sold seat that is still on offer violates a constraint."""
    for seat in seats:
        if seat.resale_id is not None:
            _pay_seller(sale, sale.resales[seat.resale_id], seat, command_id)


def _pay_seller(sale: Sale, resale: Resale, seat: Seat, command_id: CommandId) -> None:
    ticket, order = sale.tickets[resale.ticket_id], sale.orders[resale.order_id]
    at_usual_price(sale, resale, seat)
    refund = start_refund(
        sale,
        order,
        [ticket],
        refund_id=refund_id_of(resale),
        kind="resale",
        amount=resale.price,
        requested_by=resale.seller_id,
        command_id=command_id,
    )
    if ticket.bought_by in sale.seat_counts:
        sale.seat_counts[ticket.bought_by] -= 1
    resale.refund_id = refund.id
    close_resale(sale, resale, "sold")
    sale.tell(
        Notice(
            kind="ticket_resold",
            subject_id=resale.id,
            user_id=resale.seller_id,
            order_id=resale.order_id,
            ticket_ids=(ticket.id,),
            amount=resale.price,
        )
    )


def _is_out_of_reach(sale: Sale, resale: Resale) -> bool:
    """Whether the sale is over, or a door that had no network has let the seller in all the same."""
    if sale.terms.cancelled:
        return False
    return sale.is_over() or sale.tickets[resale.ticket_id].checked_in_at is not None


def refund_id_of(resale: Resale) -> RefundId:
    """The refund that pays the seller: always the same one, so he is paid once however often it is sold."""
    return RefundId(uuid5(resale.id, "refund"))


def _put_on_sale(sale: Sale, resale: Resale, seat: Seat, command_id: CommandId) -> None:
    sale.free([seat], command_id)
    seat.resale_id, seat.price = resale.id, resale.price
    sale.repriced_seats[seat.id] = seat
