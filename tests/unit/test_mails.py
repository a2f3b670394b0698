"""Does a mail name the seats as the buyer will look for them?"""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from consumers.mails import TicketPapers, confirmation
from contracts.domain_events import ConfirmedSeat, OrderConfirmation
from contracts.ids import EventId, OrderId
from contracts.site_links import SiteLinks
from db.recipients import Recipient
from tests.builders import a_user

NOW = datetime(2031, 5, 1, 20, 0, tzinfo=UTC)
LINKS = SiteLinks("https://tickets.example.org")
RECIPIENT = Recipient(
    order_id=OrderId(uuid4()),
    email="ann@example.org",
    buyer_name="Ann",
    total_amount=Decimal("45.00"),
    currency="EUR",
    fee=Decimal(0),
    tax=Decimal(0),
    reduction=Decimal(0),
    event_id=EventId(uuid4()),
    rotating_codes=False,
    venue_country="",
    time_zone="Europe/Berlin",
    event_name="A test of patience",
    artist="",
    event_date=NOW,
    venue_name="The Test",
    venue_address="",
    venue_city="",
)


@pytest.mark.parametrize(
    ("seat", "line"),
    [
        (ConfirmedSeat(section="Stalls", row="C", seat="12"), "Section Stalls, row C, seat 12"),
        (ConfirmedSeat(section="Floor", row="", seat=""), "Floor, general admission"),
        (ConfirmedSeat(section="Floor\r\nBcc: all", row="", seat=""), "Floor Bcc: all, general admission"),
    ],
    ids=["a seat", "a place to stand", "a name that is no header"],
)
def test_a_place_is_named(seat: ConfirmedSeat, line: str) -> None:
    mail = confirmation(an_order(seat), RECIPIENT, TicketPapers(), LINKS)
    assert f"  {line}" in mail.text.splitlines()
    assert f"<li>{line}</li>" in mail.html


def an_order(*seats: ConfirmedSeat) -> OrderConfirmation:
    return OrderConfirmation(
        order_id=OrderId(uuid4()), user_id=a_user(), total=Decimal("45.00"), currency="EUR", seats=seats, timestamp=NOW
    )
