"""What does a mail about an order say?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consumers.mail_body import Attachment, Facts, InlinePicture, Items, Link, Mail, Part, Pictures, written
from consumers.mail_words import amount_of, count_of, hello, seat_of, show_facts, show_of, when_of
from contracts.domain_events import ConfirmedSeat, OrderConfirmation, OrderNotice
from contracts.ids import OrderId
from contracts.signing_keys import SigningKeys
from contracts.site_links import SiteLinks
from contracts.ticket_pages import ticket_pages
from contracts.ticket_pictures import ticket_png
from db.recipients import Recipient
from db.tickets import HeldTicket

# What a family buys; more would be a long way to scroll, and they are all in the PDF.
PICTURES_MAX = 6


@dataclass(frozen=True)
class TicketPapers:
    """Tickets as they come with a mail: their pages, and their codes as pictures. Of tickets whose codes change, nothing."""

    pages: Attachment | None = None
    pictures: tuple[tuple[InlinePicture, str], ...] = ()

    @classmethod
    def of(cls, order_id: OrderId, tickets: Sequence[HeldTicket], keys: SigningKeys) -> "TicketPapers":
        """Those of these tickets of an order. Some 15 ms a ticket: for a thread of its own."""
        printable = [ticket for ticket in tickets if ticket.opens_doors and not ticket.rotating_codes]
        if not printable:
            return cls()
        pdf = ticket_pages([ticket.page(keys) for ticket in printable])
        return cls(
            pages=Attachment(name=f"tickets-{order_id}.pdf", media_type="application/pdf", content=pdf),
            pictures=tuple(_pictures(printable, keys)) if len(printable) <= PICTURES_MAX else (),
        )

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What is attached."""
        return (self.pages,) if self.pages is not None else ()

    def parts(self, order_id: OrderId, links: SiteLinks) -> tuple[Part, ...]:
        """What the mail says of them, and shows."""
        link = Link("Your order and its tickets", links.order(order_id))
        if self.pages is None:
            return ("The codes of your tickets are only in the app: open your tickets there at the door.", link)
        return ("Your tickets are attached. Show each code at the door.", Pictures(self.pictures), link)


def confirmation(order: OrderConfirmation, recipient: Recipient, papers: TicketPapers, links: SiteLinks) -> Mail:
    """The tickets are yours: event, venue, date, seats, what was paid, order number, and the tickets themselves."""
    return written(
        f"Your tickets for {show_of(recipient)}",
        hello(recipient.buyer_name),
        f"your order is complete: {count_of(order.seats)} for {show_of(recipient)}.",
        show_facts(recipient),
        Items("Seats", [seat_of(seat) for seat in order.seats]),
        Facts([*_price_facts(order, recipient), ("Order", str(order.order_id))]),
        *papers.parts(order.order_id, links),
        attachments=papers.attachments,
    )


def cancellation(order: OrderNotice, recipient: Recipient) -> Mail:
    """The order came to nothing, and what that means for the money."""
    total = amount_of(recipient.total_amount, recipient.currency)
    return written(
        f"Your order for {show_of(recipient)} was cancelled",
        hello(recipient.buyer_name),
        f"your order for {show_of(recipient)} ({when_of(recipient)}) could not be completed: {order.reason}.",
        f"You have no tickets from this order, and the {total} are not charged. If your bank shows them as reserved, the"
        " reservation lapses.",
        Facts([("Order", str(order.order_id))]),
    )


def _price_facts(order: OrderConfirmation, recipient: Recipient) -> Iterable[tuple[str, str]]:
    """The total, and what is in it if that is more than one thing."""
    fee, tax, reduction = recipient.fee, recipient.tax, recipient.reduction
    if fee or tax or reduction:
        yield "Tickets", amount_of(order.total - fee - tax, order.currency)
    for name, amount in (("Fees", fee), ("Taxes", tax)):
        if amount:
            yield name, amount_of(amount, order.currency)
    yield "Total", amount_of(order.total, order.currency)
    if reduction:
        yield "Saved", amount_of(reduction, order.currency)


def _pictures(tickets: Iterable[HeldTicket], keys: SigningKeys) -> Iterable[tuple[InlinePicture, str]]:
    for ticket in tickets:
        seat = ConfirmedSeat(section=ticket.section, row=ticket.row, seat=ticket.seat_number)
        picture = InlinePicture(content_id=f"{ticket.id}@tickets", content=ticket_png(ticket.code(keys)))
        yield picture, seat_of(seat)
