"""May this ticket pass from one account to another?

Whoever accepts has the ticket from that commit on: it is another version, and the code carries the version, so the code of
whoever had it before is dead in the same moment. That the asker is whom it was offered to (his account has the address, and
he has the secret of the mail) is checked where he asks; here it is enough that he is not its owner.
"""

from consumers.rules.after_sale import Ticket, Transfer
from consumers.rules.offers import end_transfer, is_on_offer
from consumers.rules.sale import Sale
from contracts.commands import AcceptTransfer, DeclineTransfer, ExpireTransfers, OfferTransfer, WithdrawTransfer
from contracts.domain_events import Notice
from contracts.ids import TransferId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import AnyReply, Done, IssuedTicket, Rejected, TransferAccepted, TransferEnded, TransferOffered


def decide_offer_transfer(sale: Sale, command: OfferTransfer) -> AnyReply:
    """Offer the ticket to whoever has that address."""
    ticket = sale.tickets.get(command.ticket_id)
    refusal = why_not_offered(sale, ticket, command.user_id)
    if ticket is None or refusal is not None:
        return Rejected(code=refusal or RejectionCode.TICKET_UNKNOWN)
    if not _is_open(sale):
        return Rejected(code=RejectionCode.TRANSFERS_CLOSED)
    _end_what_is_over(sale, ticket)
    transfer = Transfer(
        id=TransferId(command.command_id),
        ticket_id=ticket.id,
        ticket_version=ticket.version,
        from_user_id=command.user_id,
        to_email=command.to_email.lower(),
        status="offered",
        created_at=sale.now,
        expires_at=min(sale.now + sale.terms.transfer_duration, sale.terms.event_at),
        is_new=True,
    )
    sale.transfers[transfer.id] = sale.changed_transfers[transfer.id] = transfer
    sale.tell(
        Notice(
            kind="transfer_offered",
            subject_id=transfer.id,
            ticket_ids=(ticket.id,),
            until=transfer.expires_at,
        )
    )
    return sale.remember(
        command,
        TransferOffered(
            transfer_id=transfer.id,
            ticket_id=ticket.id,
            to_email=transfer.to_email,
            expires_at=transfer.expires_at,
        ),
    )


def decide_accept_transfer(sale: Sale, command: AcceptTransfer) -> AnyReply:
    """The ticket is the asker's, if it is still the one that was offered to him."""
    transfer = sale.transfers.get(command.transfer_id)
    if transfer is None or transfer.from_user_id == command.user_id:
        return Rejected(code=RejectionCode.TRANSFER_UNKNOWN)
    ticket = sale.tickets.get(transfer.ticket_id)
    if ticket is None or not transfer.is_open(sale.now) or not _is_as_offered(ticket, transfer):
        return Rejected(code=RejectionCode.TRANSFER_ENDED)
    if not _is_open(sale):
        return Rejected(code=RejectionCode.TRANSFERS_CLOSED)
    if _seats_with(sale, ticket, command.user_id) > sale.terms.ticket_limit:
        return Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)
    transfer.status, transfer.to_user_id, transfer.ended_at = "accepted", command.user_id, sale.now
    sale.changed_transfers[transfer.id] = transfer
    _hand_over(sale, ticket, command.user_id)
    sale.tell(
        Notice(
            kind="transfer_accepted",
            subject_id=transfer.id,
            user_id=transfer.from_user_id,
            ticket_ids=(ticket.id,),
        )
    )
    seat = sale.seats[ticket.seat_id].as_sold_seat(ticket.price)
    return sale.remember(
        command,
        TransferAccepted(
            transfer_id=transfer.id,
            event_id=sale.terms.event_id,
            ticket=IssuedTicket(ticket_id=ticket.id, seat=seat),
        ),
    )


def decide_decline_transfer(sale: Sale, command: DeclineTransfer) -> AnyReply:
    """The ticket stays with its owner, who is told."""
    transfer = sale.transfers.get(command.transfer_id)
    if transfer is None or transfer.from_user_id == command.user_id:
        return Rejected(code=RejectionCode.TRANSFER_UNKNOWN)
    if not transfer.is_open(sale.now):
        return Rejected(code=RejectionCode.TRANSFER_ENDED)
    end_transfer(sale, transfer, "declined")
    return sale.remember(command, TransferEnded(transfer_id=transfer.id, status="declined"))


def decide_withdraw_transfer(sale: Sale, command: WithdrawTransfer) -> AnyReply:
    """The ticket stays with its owner, and the address it was offered to is told."""
    transfer = sale.transfers.get(command.transfer_id)
    if transfer is None or transfer.from_user_id != command.user_id:
        return Rejected(code=RejectionCode.TRANSFER_UNKNOWN)
    if not transfer.is_open(sale.now):
        return Rejected(code=RejectionCode.TRANSFER_ENDED)
    end_transfer(sale, transfer, "withdrawn")
    return sale.remember(command, TransferEnded(transfer_id=transfer.id, status="withdrawn"))


def decide_expire_transfers(sale: Sale, command: ExpireTransfers) -> AnyReply:
    """Close what is over, and tell those who offered. Nobody could have accepted it: only the time of the offer counts."""
    over = [
        transfer
        for transfer_id in command.transfer_ids
        if (transfer := sale.transfers.get(transfer_id))
        and transfer.status == "offered"
        and not transfer.is_open(sale.now)
    ]
    for transfer in over:
        end_transfer(sale, transfer, "expired")
    return Done(changed=bool(over))


def why_not_offered(sale: Sale, ticket: Ticket | None, user_id: UserId) -> RejectionCode | None:
    """Why this user cannot offer this ticket to anybody. Somebody else's is as unknown as none: ids must not be probed."""
    if ticket is None or ticket.user_id != user_id:
        return RejectionCode.TICKET_UNKNOWN
    if not ticket.is_valid or ticket.refund_id is not None:
        return RejectionCode.TICKET_NOT_VALID
    if ticket.checked_in_at is not None:
        return RejectionCode.TICKET_CHECKED_IN
    if is_on_offer(sale, ticket):
        return RejectionCode.TICKET_ON_OFFER
    return None


def _is_open(sale: Sale) -> bool:
    return sale.terms.transfers and not sale.terms.cancelled and sale.now < sale.terms.event_at


def _is_as_offered(ticket: Ticket, transfer: Transfer) -> bool:
    return ticket.is_valid and ticket.version == transfer.ticket_version and ticket.checked_in_at is None


def _end_what_is_over(sale: Sale, ticket: Ticket) -> None:
    # Of each ticket one offer is open at a time, and one that nobody has swept away yet would be in the way.
    for transfer in list(sale.transfers.values()):
        if transfer.ticket_id == ticket.id and transfer.status == "offered":
            end_transfer(sale, transfer, "expired")


def _seats_with(sale: Sale, ticket: Ticket, user_id: UserId) -> int:
    """What this user would hold and own with it. Whoever bought it counts it already, and may have it back."""
    return sale.seat_count_of(user_id) + (ticket.bought_by != user_id)


def _hand_over(sale: Sale, ticket: Ticket, user_id: UserId) -> None:
    if ticket.user_id != ticket.bought_by and ticket.user_id in sale.seat_counts:
        sale.seat_counts[ticket.user_id] -= 1
    sale.seat_counts[user_id] = _seats_with(sale, ticket, user_id)
    ticket.user_id = user_id
    ticket.version += 1
    sale.changed_tickets[ticket.id] = ticket
