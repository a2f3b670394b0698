"""What does a mail say that tells somebody what has happened to his tickets, his money or his place?

One function for each kind of notice; `WRITERS` is the table of contents. None: it is over meanwhile, and to tell it now would
only send somebody to a closed door.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consumers.mail_body import Facts, Items, Link, Mail, Part, written
from consumers.mail_words import amount_of, count_of, hello, person, seat_of, show_facts, show_of, when_of
from consumers.mails import TicketPapers
from contracts.domain_events import ConfirmedSeat, Notice, NoticeKind
from contracts.ids import OrderId, TransferId
from contracts.local_times import local_time
from contracts.signing_keys import SigningKeys
from contracts.site_links import SiteLinks
from contracts.transfer_tokens import transfer_token
from db.recipients import NoticeRecipient

_MONEY_COMES = "It goes back to the card that paid. Banks take five to ten days to show it."


@dataclass(frozen=True)
class Told:
    """A notice and everything that is known about it."""

    notice: Notice
    recipient: NoticeRecipient
    links: SiteLinks
    keys: SigningKeys
    # Of the tickets it names, in their order.
    seats: Sequence[ConfirmedSeat] = ()
    papers: TicketPapers = field(default_factory=TicketPapers)

    @property
    def show(self) -> str:
        """What the show is called."""
        return show_of(self.recipient)

    @property
    def places(self) -> Items:
        """The seats it is about."""
        return Items("Seats", [seat_of(seat) for seat in self.seats])

    def money(self) -> str:
        """The amount it is about."""
        return amount_of(self.notice.amount, self.recipient.currency) if self.notice.amount is not None else ""

    def order_link(self) -> tuple[Part, ...]:
        """Where the order is, of a notice that names one."""
        return () if self.notice.order_id is None else (Link("Your order", self.links.order(self.notice.order_id)),)

    def until(self) -> str:
        """How long there is time, by the clocks of the house."""
        return "" if self.notice.until is None else local_time(self.notice.until, self.recipient.time_zone)

    def mail(self, subject: str, *parts: Part) -> Mail:
        """The mail that says this to whom it is for."""
        return written(subject, hello(self.recipient.recipient_name), *parts, attachments=self.papers.attachments)


def write_notice(told: Told) -> Mail | None:
    """The mail of this notice; None when it is worth nothing any more."""
    return WRITERS[told.notice.kind](told)


def _refund_started(told: Told) -> Mail:
    recipient, kept = told.recipient, told.recipient.fee_kept
    facts = [
        ("Amount", told.money()),
        ("Kept", amount_of(kept, recipient.currency) if kept else ""),
        ("Asked for", local_time(recipient.refund_at, recipient.time_zone) if recipient.refund_at else ""),
        # What a buyer wrote himself he need not be told.
        ("Reason", told.notice.reason if recipient.refund_kind == "organiser" else ""),
        ("Order", str(told.notice.order_id or "")),
    ]
    return told.mail(
        f"Your refund for {told.show}",
        f"we are giving you money back: {count_of(told.notice.ticket_ids)} for {told.show}.",
        told.places,
        Facts(facts),
        f"These tickets let nobody in any more. {_MONEY_COMES if told.notice.amount else ''}",
        *told.order_link(),
    )


def _event_cancelled(told: Told) -> Mail:
    money = f"You get {told.money()} back without asking for it. {_MONEY_COMES}"
    if told.notice.amount is None:
        money = "The money goes back to whoever bought your ticket."
    elif not told.notice.amount:
        money = "You have paid nothing, so nothing goes back."
    return told.mail(
        f"{told.show} is cancelled",
        f"{told.show} ({when_of(told.recipient)}) is cancelled, and your tickets let nobody in any more. {money}",
        told.places,
        Facts([("Reason", told.notice.reason), ("Order", _order_of_buyer(told))]),
        *(() if told.notice.amount is None else told.order_link()),
    )


def _transfer_offered(told: Told) -> Mail | None:
    if told.recipient.transfer_status != "offered":
        return None
    transfer_id = TransferId(told.notice.subject_id)
    giver = person(told.recipient.giver_name)
    return told.mail(
        f"A ticket for {told.show}",
        f"{giver} would like to give you a ticket for {told.show}.",
        show_facts(told.recipient),
        told.places,
        Facts([("Yours to take until", told.until())]),
        "Log in, or register with the address this mail was sent to, and take it:",
        Link("Take or decline the ticket", told.links.transfer(transfer_id, transfer_token(told.keys, transfer_id))),
        "Do not pass the link on: it is what shows that this mailbox is yours. If you do not know who sent you this, do nothing,"
        " and the ticket stays where it is.",
    )


def _transfer_accepted(told: Told) -> Mail:
    return told.mail(
        f"Your ticket for {told.show} has a new owner",
        f"{told.recipient.offered_to} has taken the ticket that you offered. Its code has changed: the one that you have lets"
        " nobody in any more.",
        show_facts(told.recipient),
        told.places,
    )


def _transfer_declined(told: Told) -> Mail:
    return _still_yours(told, f"{told.recipient.offered_to} has declined the ticket that you offered.")


def _transfer_expired(told: Told) -> Mail:
    return _still_yours(told, f"{told.recipient.offered_to} has not taken the ticket that you offered in time.")


def _still_yours(told: Told, what_happened: str) -> Mail:
    return told.mail(
        f"Your ticket for {told.show} is still yours",
        f"{what_happened} It is still yours, and its code is the same as before.",
        show_facts(told.recipient),
        told.places,
        *(Link("Your ticket", told.links.ticket(ticket_id)) for ticket_id in told.notice.ticket_ids),
    )


def _transfer_withdrawn(told: Told) -> Mail:
    return told.mail(
        f"A ticket for {told.show} is no longer offered to you",
        f"{person(told.recipient.giver_name)} no longer offers you a ticket for {told.show}. There is nothing for you to do,"
        " and the link in our earlier mail leads nowhere.",
    )


def _ticket_resold(told: Told) -> Mail:
    return told.mail(
        f"Your ticket for {told.show} is sold",
        f"somebody has bought the ticket for {told.show} that you offered. It lets you in no more. You get {told.money()} back."
        f" {_MONEY_COMES if told.notice.amount else ''}",
        told.places,
        Facts([("Order", str(told.notice.order_id or ""))]),
        *told.order_link(),
    )


def _waiting_list_offer(told: Told) -> Mail | None:
    recipient = told.recipient
    if recipient.waiting_status != "offered" or recipient.hold_id is None:
        return None
    return told.mail(
        f"Tickets for {told.show}: it is your turn",
        f"it is your turn on the waiting list: we keep {count_of(range(recipient.seat_count or 1))} for {told.show} for you.",
        show_facts(recipient),
        Facts([("Yours to buy until", told.until())]),
        Link("See and buy them", told.links.hold(recipient.event_id, recipient.hold_id)),
        "After that they go to whoever comes next.",
    )


def _tickets_given(told: Told) -> Mail:
    order_id = OrderId(told.notice.order_id or told.notice.subject_id)
    return told.mail(
        f"Your tickets for {told.show}",
        f"the organiser gives you {count_of(told.notice.ticket_ids)} for {told.show}. There is nothing to pay.",
        show_facts(told.recipient),
        told.places,
        Facts([("From the organiser", told.notice.reason), ("Order", str(order_id))]),
        *told.papers.parts(order_id, told.links),
    )


def _order_of_buyer(told: Told) -> str:
    # Whoever got his ticket from somebody else has no order.
    return str(told.notice.order_id or "") if told.notice.amount is not None else ""


WRITERS: dict[NoticeKind, Callable[[Told], Mail | None]] = {
    "refund_started": _refund_started,
    "event_cancelled": _event_cancelled,
    "transfer_offered": _transfer_offered,
    "transfer_accepted": _transfer_accepted,
    "transfer_declined": _transfer_declined,
    "transfer_withdrawn": _transfer_withdrawn,
    "transfer_expired": _transfer_expired,
    "ticket_resold": _ticket_resold,
    "waiting_list_offer": _waiting_list_offer,
    "tickets_given": _tickets_given,
}
