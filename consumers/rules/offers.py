"""Is this ticket on offer to others, and what becomes of the offer when it ends?

A ticket is on offer at most once: to one e-mail address (a transfer), or to everybody, as a seat that is on sale again (a
resale). Whoever ends a ticket ends its offers first: `end_open_offers`.
"""

from consumers.rules.after_sale import Resale, Ticket, Transfer
from consumers.rules.sale import Sale, Seat
from contracts.domain_events import Notice
from contracts.ids import CommandId


def open_transfer_of(sale: Sale, ticket: Ticket) -> Transfer | None:
    """The offer of this ticket that somebody may still accept."""
    return next(
        (one for one in sale.transfers.values() if one.ticket_id == ticket.id and one.is_open(sale.now)),
        None,
    )


def open_resale_of(sale: Sale, ticket: Ticket) -> Resale | None:
    """The resale of this ticket, if its seat is on sale."""
    return next(
        (one for one in sale.resales.values() if one.ticket_id == ticket.id and one.status == "open"),
        None,
    )


def is_on_offer(sale: Sale, ticket: Ticket) -> bool:
    """Whether somebody else may be about to have it."""
    return open_transfer_of(sale, ticket) is not None or open_resale_of(sale, ticket) is not None


def end_open_offers(sale: Sale, ticket: Ticket, command_id: CommandId) -> None:
    """Nobody gets this ticket any more: it is being refunded, or its order has come to nothing. Call it before the ticket is
    ended and its seat is freed."""
    transfer = open_transfer_of(sale, ticket)
    if transfer is not None:
        end_transfer(sale, transfer, "withdrawn")
    resale = open_resale_of(sale, ticket)
    if resale is not None:
        end_resale(sale, resale, "ended", command_id)


def end_transfer(sale: Sale, transfer: Transfer, status: str) -> None:
    """The ticket stays where it is; whoever did not do this himself is told."""
    transfer.status, transfer.ended_at = status, sale.now
    sale.changed_transfers[transfer.id] = transfer
    told_to_address = status == "withdrawn"
    sale.tell(
        Notice.model_validate(
            {
                "kind": f"transfer_{status}",
                "subject_id": transfer.id,
                "user_id": None if told_to_address else transfer.from_user_id,
                "ticket_ids": (transfer.ticket_id,),
            }
        )
    )


def end_resale(sale: Sale, resale: Resale, status: str, command_id: CommandId) -> bool:
    """Take the seat off sale: status `withdrawn` (its seller keeps it) or `ended` (its ticket is about to end). Whether it is
    off sale now.

    A seat that nobody has in his hands is its seller's again, sold to his order as before. One that somebody has is never
    withdrawn: False, and nothing has changed. If the offer has to end all the same, the seat parts from the ticket: it is
    the house's and stays with whoever has it, who pays what he was told or, if the event is cancelled, gives it back; the
    seller's ticket has no seat any more, so what it does later (`free_ticket_seats`) frees none.
    """
    seat = sale.seats[resale.seat_id]
    if not seat.is_available(sale.now):
        if status == "withdrawn":
            return False
        _part(sale, resale, seat)
    else:
        _back_to_its_seller(sale, resale, seat, command_id)
    close_resale(sale, resale, status)
    return True


def close_resale(sale: Sale, resale: Resale, status: str) -> None:
    """The resale's end, whatever has become of its seat."""
    resale.status, resale.ended_at = status, sale.now
    sale.changed_resales[resale.id] = resale


def at_usual_price(sale: Sale, resale: Resale, seat: Seat) -> None:
    """The seat is resold no longer, and costs what it did before it was."""
    seat.resale_id, seat.price = None, resale.usual_price
    sale.changed_seats[seat.id] = sale.repriced_seats[seat.id] = seat


def _back_to_its_seller(sale: Sale, resale: Resale, seat: Seat, command_id: CommandId) -> None:
    at_usual_price(sale, resale, seat)
    if seat.status == "held":
        sale.free([seat], command_id)  # from somebody whose time was over; the ledger says so
    sale.sell_again(seat, hold_id=resale.hold_id, order_id=resale.order_id, command_id=command_id)


def _part(sale: Sale, resale: Resale, seat: Seat) -> None:
    at_usual_price(sale, resale, seat)
    ticket = sale.tickets[resale.ticket_id]
    ticket.live = False
    sale.changed_tickets[ticket.id] = ticket
