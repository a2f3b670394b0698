"""What is told of each kind of notice, and can a name make it say something else?"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest

from consumers.mail_body import Facts, Items, Link, written
from consumers.mail_words import amount_of, person
from consumers.notice_mails import WRITERS, Told, write_notice
from contracts.domain_events import ConfirmedSeat, Notice, NoticeKind
from contracts.ids import EventId, HoldId, OrderId, TicketId, TransferId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.site_links import SiteLinks
from contracts.transfer_tokens import is_transfer_token
from db.recipients import NoticeRecipient

KEYS = SigningKeys.of(Settings())
LINKS = SiteLinks("https://tickets.example.org")
SUBJECT, ORDER = uuid4(), OrderId(uuid4())
UNTIL = datetime(2031, 6, 30, 10, 0, tzinfo=UTC)


def told(kind: str, *, notice: dict[str, Any] | None = None, **fields: Any) -> Told:
    usual: dict[str, Any] = {
        "event_id": EventId(uuid4()),
        "event_name": "A test of patience",
        "artist": "",
        "event_date": datetime(2031, 7, 1, 18, 30, tzinfo=UTC),
        "rotating_codes": False,
        "venue_name": "Grand Hall",
        "venue_address": "",
        "venue_city": "Berlin",
        "venue_country": "",
        "time_zone": "Europe/Berlin",
        "subject_id": SUBJECT,
        "user_id": None,
        "email": "ann@example.org",
        "recipient_name": "Ann",
        "currency": "EUR",
        "giver_name": "Bob Żak",
        "offered_to": "carl@example.org",
        "transfer_status": "offered",
        "fee_kept": None,
        "refund_kind": None,
        "refund_at": None,
        "hold_id": None,
        "seat_count": None,
        "waiting_status": None,
    }
    about = {"kind": kind, "subject_id": SUBJECT, "ticket_ids": (TicketId(uuid4()),), **(notice or {})}
    seat = ConfirmedSeat(section="Stalls", row="C", seat="12")
    return Told(Notice.model_validate(about), NoticeRecipient(**{**usual, **fields}), LINKS, KEYS, [seat])


def text_of(letter: Told) -> str:
    mail = write_notice(letter)
    assert mail is not None
    return mail.text


def test_every_kind_has_its_words() -> None:
    assert set(WRITERS) == set(get_args(NoticeKind))


def test_a_refund_says_how_much_what_was_kept_and_when() -> None:
    notice = {"amount": Decimal("40.50"), "order_id": ORDER, "reason": "I am ill"}
    details = {"fee_kept": Decimal("4.50"), "refund_kind": "buyer", "refund_at": UNTIL}
    text = text_of(told("refund_started", notice=notice, **details))
    for said in ("40.50 EUR", "4.50 EUR", "Monday 30 June 2031, 12:00 (Europe/Berlin)", "row C", LINKS.order(ORDER)):
        assert said in text
    assert "I am ill" not in text
    assert "I am ill" in text_of(told("refund_started", notice=notice, **{**details, "refund_kind": "organiser"}))


def test_of_a_cancelled_show_buyers_hear_of_their_money_and_holders_whose_it_is() -> None:
    buyer = text_of(told("event_cancelled", notice={"amount": Decimal("90.00"), "order_id": ORDER, "reason": "storm"}))
    assert "90.00 EUR back" in buyer
    assert str(ORDER) in buyer
    assert "storm" in buyer
    holder = text_of(told("event_cancelled", notice={"order_id": ORDER}))
    assert "whoever bought your ticket" in holder
    assert str(ORDER) not in holder, "it is somebody else's order"


def test_the_link_of_an_offered_ticket_has_its_secret() -> None:
    text = text_of(told("transfer_offered", notice={"until": UNTIL}))
    link = next(word for word in text.split() if word.startswith(f"{LINKS.root}/transfers/{SUBJECT}?token="))
    assert is_transfer_token(KEYS, TransferId(SUBJECT), link.partition("token=")[2])
    assert "Bob Żak would like to give you" in text
    assert "Monday 30 June 2031, 12:00 (Europe/Berlin)" in text


@pytest.mark.parametrize("status", ["accepted", "declined", "withdrawn", "expired", None])
def test_an_offer_that_is_over_is_not_told_any_more(status: str | None) -> None:
    assert write_notice(told("transfer_offered", transfer_status=status)) is None


def test_the_secret_is_in_no_other_mail() -> None:
    others = [kind for kind in get_args(NoticeKind) if kind != "transfer_offered"]
    hold = {"hold_id": HoldId(uuid4()), "waiting_status": "offered", "seat_count": 2}
    for kind in others:
        assert "token=" not in text_of(told(kind, notice={"amount": Decimal(1), "order_id": ORDER}, **hold))


def test_a_turn_on_the_waiting_list_says_until_when_and_where() -> None:
    hold_id = HoldId(UUID(int=7))
    notice = {"until": UNTIL, "ticket_ids": ()}
    offered = told("waiting_list_offer", notice=notice, hold_id=hold_id, seat_count=2, waiting_status="offered")
    text = text_of(offered)
    assert "2 tickets" in text
    assert "Monday 30 June 2031, 12:00 (Europe/Berlin)" in text
    assert LINKS.hold(offered.recipient.event_id, hold_id) in text
    lapsed = told("waiting_list_offer", notice=notice, hold_id=hold_id, seat_count=2, waiting_status="lapsed")
    assert write_notice(lapsed) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Bob Żak", "Bob Żak"),
        ("O’Brien-Smith Jr.", "O’Brien-Smith Jr."),
        ("Win at http://evil.example/x?y", "Win at httpevil. examplexy"),
        ("Bob\r\nBcc: all@example.org", "Bob Bcc allexample. org"),
        ("<b>1</b>", "bb"),
        ("12345 !!", "Somebody"),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_stranger_is_shown_a_name_and_no_advertisement(name: str, shown: str) -> None:
    assert person(name) == shown
    text = text_of(told("transfer_offered", giver_name=name))
    assert f"{shown} would like to give you" in text
    assert "http://" not in text


def test_names_are_data_in_every_part_of_a_mail() -> None:
    name = "<script>x</script>\r\nBcc: all"
    mail = written(
        f"About {name}", name, Facts([("Who", name)]), Items("List", [name]), Link("Go & see", "https://x/?a&b")
    )
    assert "\n" not in mail.subject
    assert "<script>" not in mail.html
    assert 'href="https://x/?a&amp;b"' in mail.html
    assert not any(line.startswith("Bcc") for line in mail.text.splitlines())


@pytest.mark.parametrize(
    ("amount", "currency", "said"),
    [("12.5", "EUR", "12.50 EUR"), ("1250", "JPY", "1250 JPY"), ("1.5", "KWD", "1.500 KWD")],
)
def test_an_amount_has_its_currency_s_decimals(amount: str, currency: str, said: str) -> None:
    assert amount_of(Decimal(amount), currency) == said
