"""What does a mail about an order say?"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from contracts.domain_events import ConfirmedSeat, OrderConfirmation, OrderNotice
from db.recipients import Recipient


@dataclass(frozen=True)
class Mail:
    """A mail without its envelope."""

    subject: str
    text: str
    html: str


def confirmation(order: OrderConfirmation, recipient: Recipient) -> Mail:
    """The tickets are yours: event, venue, date, seats, total, order number."""
    seats = [_seat(seat) for seat in order.seats]
    total = f"{order.total:.2f} {order.currency}"
    where = _where(recipient)
    text = _lines(
        f"Hello {_one_line(recipient.buyer_name)},",
        "",
        f"your order is complete: {_count(seats)} for {_event(recipient)}.",
        "",
        f"When:  {_when(recipient)}",
        f"Where: {where}",
        "",
        "Seats:",
        *(f"  {seat}" for seat in seats),
        "",
        f"Total: {total}",
        f"Order: {order.order_id}",
    )
    html = _page(
        _paragraph(f"Hello {_one_line(recipient.buyer_name)},"),
        _paragraph(f"your order is complete: {_count(seats)} for {_event(recipient)}."),
        _paragraph(f"When: {_when(recipient)}"),
        _paragraph(f"Where: {where}"),
        f"<ul>{''.join(f'<li>{escape(seat)}</li>' for seat in seats)}</ul>",
        _paragraph(f"Total: {total}"),
        _paragraph(f"Order: {order.order_id}"),
    )
    return Mail(subject=f"Your tickets for {_event(recipient)}", text=text, html=html)


def cancellation(order: OrderNotice, recipient: Recipient) -> Mail:
    """The order came to nothing, and what that means for the money."""
    total = f"{recipient.total_amount:.2f} {recipient.currency}"
    sentences = (
        f"Hello {_one_line(recipient.buyer_name)},",
        f"your order for {_event(recipient)} ({_when(recipient)}) could not be completed: {_one_line(order.reason)}.",
        f"You have no tickets from this order, and the {total} are not charged. If your bank shows them as reserved, the "
        "reservation lapses.",
        f"Order: {order.order_id}",
    )
    return Mail(
        subject=f"Your order for {_event(recipient)} was cancelled",
        text="\n\n".join(sentences) + "\n",
        html=_page(*(_paragraph(sentence) for sentence in sentences)),
    )


def _event(recipient: Recipient) -> str:
    name, artist = _one_line(recipient.event_name), _one_line(recipient.artist)
    return f"{artist}: {name}" if artist and artist not in name else name


def _when(recipient: Recipient) -> str:
    return f"{recipient.event_date:%A %d %B %Y, %H:%M} UTC"


def _where(recipient: Recipient) -> str:
    parts = (recipient.venue_name, recipient.venue_address, recipient.venue_city)
    return ", ".join(_one_line(part) for part in parts if part)


def _seat(seat: ConfirmedSeat) -> str:
    if not seat.row and not seat.seat:
        return _one_line(f"{seat.section}, general admission")
    return _one_line(f"Section {seat.section}, row {seat.row}, seat {seat.seat}")


def _count(seats: Sequence[str]) -> str:
    return "1 ticket" if len(seats) == 1 else f"{len(seats)} tickets"


def _one_line(text: str) -> str:
    # Names come from people; a line break in one of them must not become a header of ours.
    return " ".join(text.split())


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _page(*parts: str) -> str:
    return f"<!doctype html><html><body>{''.join(parts)}</body></html>"
