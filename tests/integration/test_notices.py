"""Is everybody told what has happened to their tickets and their money, once, and nobody else?"""

import io
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from typing import Any, get_args
from uuid import UUID, uuid4

import pypdfium2
import pytest
import zxingcpp
from PIL import Image

from consumers import notifications
from consumers.notifications import HANDLERS, Resources, send_confirmations, send_notices
from consumers.runtime import TryAgain
from contracts.domain_events import ConfirmedSeat, Notice, NoticeKind, NoticesDue, OrderConfirmation, OrdersConfirmed
from contracts.ids import OrderId, TicketId, TransferId, UserId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import ticket_code
from contracts.transfer_tokens import transfer_token
from db import recipients as recipients_module
from db.postgres import Pool
from tests.builders import OnSale, a_user
from tests.conftest import AnEvent
from tests.mail_server import MailServer, body_of, serving


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with serving(MailServer()) as server:
        yield server


@pytest.fixture
def resources(settings: Settings, pool: Pool, mails: MailServer) -> Resources:
    ours = {"smtp_url": f"smtp://127.0.0.1:{mails.port}", "public_url": "https://tickets.example.org/"}
    return Resources(settings.model_copy(update=ours), pool)


async def an_account(pool: Pool, name: str) -> tuple[UserId, str]:
    user_id = a_user()
    email = f"{name.lower()}-{user_id}@example.org"
    await pool.execute(
        "INSERT INTO users (id, email, password_hash, name) VALUES ($1, $2, '-', $3)", user_id, email, name
    )
    return user_id, email


@dataclass
class World:
    """Two tickets somebody has bought, a transfer of the first, a refund, a resale and a place on the waiting list."""

    sale: OnSale
    buyer: UserId
    buyers_email: str
    other: UserId
    others_email: str
    friends_email: str
    order_id: OrderId
    ticket_ids: tuple[TicketId, ...]
    transfer_id: UUID
    refund_id: UUID
    waiting_id: UUID
    hold_id: UUID

    def notices(self) -> dict[NoticeKind, Notice]:
        """One of each kind, as the sale writes them."""
        until = datetime.now(UTC) + timedelta(days=1)
        buyer: dict[str, Any] = {"user_id": self.buyer, "ticket_ids": self.ticket_ids}
        money = {**buyer, "order_id": self.order_id, "amount": Decimal("40.50")}
        about: dict[NoticeKind, dict[str, Any]] = {
            "refund_started": {"subject_id": self.refund_id, **money},
            "event_cancelled": {"subject_id": self.order_id, **money, "reason": "storm"},
            "transfer_offered": {"subject_id": self.transfer_id, "ticket_ids": self.ticket_ids[:1], "until": until},
            "transfer_accepted": {"subject_id": self.transfer_id, **buyer},
            "transfer_declined": {"subject_id": self.transfer_id, **buyer},
            "transfer_withdrawn": {"subject_id": self.transfer_id, "ticket_ids": self.ticket_ids[:1]},
            "transfer_expired": {"subject_id": self.transfer_id, **buyer},
            "ticket_resold": {"subject_id": uuid4(), **money},
            "waiting_list_offer": {"subject_id": self.waiting_id, "user_id": self.other, "until": until},
            "tickets_given": {"subject_id": self.order_id, **buyer, "order_id": self.order_id},
        }
        return {kind: Notice(kind=kind, **fields) for kind, fields in about.items()}

    def due(self, *kinds: NoticeKind) -> NoticesDue:
        """A message with notices of these kinds."""
        notices = self.notices()
        return NoticesDue(event_id=self.sale.event_id, notices=tuple(notices[kind] for kind in kinds))


@pytest.fixture
async def world(an_event: AnEvent, pool: Pool) -> World:
    sale = await an_event()
    event_id = sale.event_id
    buyer, buyers_email = await an_account(pool, "Bob")
    other, others_email = await an_account(pool, "Olga")
    order_id = await sale.buy(buyer, sale.seats[:2])
    records = await pool.fetch("SELECT id FROM tickets WHERE event_id = $1", event_id)
    ticket_ids = tuple(TicketId(record["id"]) for record in records)
    transfer_id, refund_id, waiting_id, hold_id = (uuid4() for _ in range(4))
    friends_email = f"friend-{transfer_id}@example.org"
    await pool.execute(
        "INSERT INTO transfers (event_id, id, ticket_id, ticket_version, from_user_id, to_email, created_at, expires_at)"
        " VALUES ($1, $2, $3, 0, $4, $5, now(), now() + interval '1 day')",
        *(event_id, transfer_id, ticket_ids[0], buyer, friends_email),
    )
    await pool.execute(
        "INSERT INTO refunds (event_id, id, order_id, kind, ticket_ids, amount, fee_kept, currency, provider_key,"
        " requested_by, created_at) VALUES ($1, $2, $3, 'buyer', $4, 40.50, 4.50, 'EUR', $5, $6, now())",
        *(event_id, refund_id, order_id, list(ticket_ids), uuid4().hex, buyer),
    )
    await pool.execute(
        "INSERT INTO waiting_list (event_id, id, user_id, position, seat_count, status, hold_id, joined_at)"
        " VALUES ($1, $2, $3, 1, 2, 'offered', $4, now())",
        *(event_id, waiting_id, other, hold_id),
    )
    return World(
        *(sale, buyer, buyers_email, other, others_email, friends_email, order_id, ticket_ids),
        *(transfer_id, refund_id, waiting_id, hold_id),
    )


async def test_each_kind_is_told_to_whom_it_concerns_exactly_once(
    world: World, mails: MailServer, resources: Resources
) -> None:
    due = world.due(*get_args(NoticeKind))
    await HANDLERS[NoticesDue](due, resources)
    await HANDLERS[NoticesDue](due, resources)
    to_address = {"transfer_offered", "transfer_withdrawn"}
    expected = Counter(
        world.friends_email
        if kind in to_address
        else world.others_email
        if kind == "waiting_list_offer"
        else world.buyers_email
        for kind in get_args(NoticeKind)
    )
    assert mails.addresses == expected
    assert Counter(address for handed in mails.handed_to for address in handed) == expected
    told = Counter(letter["Message-ID"].strip() for letter in mails.letters)
    assert set(told.values()) == {1}
    for kind, notice in world.notices().items():
        if kind != "ticket_resold":  # the builder gives that one another id each time
            assert f"<{notice.subject_id}.{kind}@boxoffice.example>" in told


async def test_without_the_note_of_what_was_sent_everybody_is_told_twice(
    world: World, mails: MailServer, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of "exactly once"."""

    async def nothing_seen(_pool: Pool, **_which: Any) -> set[str]:
        return set()

    monkeypatch.setattr(notifications, "find_seen", nothing_seen)
    due = world.due("transfer_declined")
    await send_notices(due, resources)
    await send_notices(due, resources)
    assert mails.addresses == Counter({world.buyers_email: 2})
    assert len({letter["Message-ID"] for letter in mails.letters}) == 1


async def test_an_offered_ticket_comes_with_its_secret_to_that_address_only(
    world: World, mails: MailServer, resources: Resources
) -> None:
    await send_notices(world.due("transfer_offered", "transfer_declined"), resources)
    token = transfer_token(SigningKeys.of(resources.settings), TransferId(world.transfer_id))
    (letter,) = mails.to(world.friends_email)
    link = f"https://tickets.example.org/transfers/{world.transfer_id}?token={token}"
    assert link in body_of(letter)
    assert link in body_of(letter, "html")
    assert "Bob would like to give you" in body_of(letter)
    (to_giver,) = mails.to(world.buyers_email)
    assert token not in to_giver.as_string()


async def test_an_offer_that_is_over_is_not_sent_and_not_tried_again(
    world: World, mails: MailServer, resources: Resources, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE transfers SET status = 'withdrawn', ended_at = now() WHERE event_id = $1", world.sale.event_id
    )
    await pool.execute(
        "UPDATE waiting_list SET status = 'lapsed', ended_at = now() WHERE event_id = $1", world.sale.event_id
    )
    await send_notices(world.due("transfer_offered", "waiting_list_offer"), resources)
    assert mails.letters == []


async def test_money_that_goes_back_is_told_in_full(world: World, mails: MailServer, resources: Resources) -> None:
    await send_notices(world.due("refund_started"), resources)
    text = body_of(*mails.to(world.buyers_email))
    for said in ("40.50 EUR", "4.50 EUR", f"https://tickets.example.org/orders/{world.order_id}", "Row".lower()):
        assert said in text


async def test_a_turn_on_the_waiting_list_leads_to_the_seats(
    world: World, mails: MailServer, resources: Resources
) -> None:
    await send_notices(world.due("waiting_list_offer"), resources)
    text = body_of(*mails.to(world.others_email))
    assert f"https://tickets.example.org/events/{world.sale.event_id}?hold={world.hold_id}" in text
    assert "2 tickets" in text


async def test_whom_nobody_can_write_to_waits_alone(world: World, mails: MailServer, resources: Resources) -> None:
    unknown = world.notices()["transfer_accepted"].model_copy(update={"user_id": a_user()})
    due = world.due("transfer_declined")
    with pytest.raises(TryAgain) as raised:
        await send_notices(due.model_copy(update={"notices": (unknown, *due.notices)}), resources)
    assert isinstance(raised.value.remaining, NoticesDue)
    assert raised.value.remaining.notices == (unknown,)
    assert mails.addresses == Counter([world.buyers_email]), "and the address of the transfer is not its giver's"


async def test_an_address_is_one_address_whatever_is_in_it(
    world: World, mails: MailServer, resources: Resources, pool: Pool
) -> None:
    for address in (
        "a@example.org, b@example.org",
        "a@example.org\r\nbcc: b@example.org",
        "a@example.org <b@example.org>",
    ):
        await pool.execute("UPDATE transfers SET to_email = $2 WHERE event_id = $1", world.sale.event_id, address)
        with pytest.raises(TryAgain) as raised:
            await send_notices(world.due("transfer_withdrawn"), resources)
        assert "example.org" not in str(raised.value), "nor is it in a log"
    assert mails.handed_to == []


async def test_names_become_no_headers(world: World, mails: MailServer, resources: Resources, pool: Pool) -> None:
    await pool.execute("UPDATE users SET name = E'Bob\\r\\nBcc: all@example.org' WHERE id = $1", world.buyer)
    await pool.execute(
        "UPDATE events SET name = E'Show\\r\\nBcc: all@example.org', artist = E'A\\nX-Evil: 1' WHERE id = $1",
        world.sale.event_id,
    )
    await send_notices(world.due(*get_args(NoticeKind)), resources)
    assert len(mails.letters) == len(get_args(NoticeKind))
    for letter, handed in zip(mails.letters, mails.handed_to, strict=True):
        assert (letter["Bcc"], letter["X-Evil"], len(handed)) == (None, None, 1)


async def test_no_recipient_is_looked_up_by_anything_but_ids() -> None:
    fields = {*Notice.model_fields, *OrderConfirmation.model_fields}
    assert not fields & {"email", "name", "to_email", "address"}
    assert "email" not in recipients_module._sql.find_notice_recipients.partition("WHERE")[2]


# ---- the tickets themselves


def confirmed(world: World) -> OrdersConfirmed:
    seats = tuple(ConfirmedSeat(section="Stalls", row="A", seat=str(number)) for number in (1, 2))
    order = OrderConfirmation(
        order_id=world.order_id,
        user_id=world.buyer,
        total=Decimal("90.00"),
        currency="EUR",
        seats=seats,
        ticket_ids=world.ticket_ids,
        timestamp=datetime.now(UTC),
    )
    return OrdersConfirmed(event_id=world.sale.event_id, orders=(order,))


def codes_of(world: World, settings: Settings) -> set[str]:
    keys = SigningKeys.of(settings)
    return {
        ticket_code(keys, event_id=world.sale.event_id, ticket_id=ticket_id, version=0)
        for ticket_id in world.ticket_ids
    }


def codes_attached(letter: EmailMessage) -> set[str]:
    """What a camera reads on the pages that came with it."""
    (attached,) = letter.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_filename().startswith("tickets-")
    pages = [page.render(scale=3).to_pil() for page in pypdfium2.PdfDocument(attached.get_content())]
    return {found.text for page in pages for found in zxingcpp.read_barcodes(page)}


def codes_shown(letter: EmailMessage) -> set[str]:
    """What a camera reads on the mail's own page."""
    html = body_of(letter, "html")
    pictures = [part for part in letter.walk() if part.get_content_type() == "image/png"]
    for picture in pictures:
        assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in html
    read = [zxingcpp.read_barcodes(Image.open(io.BytesIO(picture.get_content()))) for picture in pictures]
    return {found.text for codes in read for found in codes}


async def test_a_confirmation_brings_the_tickets_the_parts_of_the_price_and_the_time_of_the_house(
    world: World, mails: MailServer, resources: Resources, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE order_items SET fee = 5, tax = 4, reduction = 3 WHERE event_id = $1", world.sale.event_id
    )
    await pool.execute(
        "UPDATE venues SET time_zone = 'Asia/Tokyo' WHERE id = (SELECT venue_id FROM events WHERE id = $1)",
        world.sale.event_id,
    )
    await send_confirmations(confirmed(world), resources)
    (letter,) = mails.to(world.buyers_email)
    assert codes_attached(letter) == codes_of(world, resources.settings)
    assert codes_shown(letter) == codes_of(world, resources.settings)
    text = body_of(letter)
    for said in ("72.00 EUR", "10.00 EUR", "8.00 EUR", "90.00 EUR", "6.00 EUR", "(Asia/Tokyo)"):
        assert said in text
    assert f"https://tickets.example.org/orders/{world.order_id}" in text


async def test_codes_that_change_are_in_no_mail(
    world: World, mails: MailServer, resources: Resources, pool: Pool
) -> None:
    await pool.execute("UPDATE events SET rotating_codes = true WHERE id = $1", world.sale.event_id)
    await send_confirmations(confirmed(world), resources)
    (letter,) = mails.to(world.buyers_email)
    assert list(letter.iter_attachments()) == []
    assert [part for part in letter.walk() if part.get_content_type() == "image/png"] == []
    assert "only in the app" in body_of(letter)
    assert f"https://tickets.example.org/orders/{world.order_id}" in body_of(letter)


async def test_a_mail_brings_no_ticket_that_is_somebody_else_s_by_now(
    world: World, mails: MailServer, resources: Resources, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE tickets SET user_id = $3, version = 1 WHERE event_id = $1 AND id = $2",
        *(world.sale.event_id, world.ticket_ids[0], world.other),
    )
    await send_confirmations(confirmed(world), resources)
    (letter,) = mails.to(world.buyers_email)
    kept = ticket_code(
        SigningKeys.of(resources.settings), event_id=world.sale.event_id, ticket_id=world.ticket_ids[1], version=0
    )
    assert codes_attached(letter) == codes_shown(letter) == {kept}


async def test_given_tickets_come_with_the_mail(world: World, mails: MailServer, resources: Resources) -> None:
    await send_notices(world.due("tickets_given"), resources)
    (letter,) = mails.to(world.buyers_email)
    assert codes_attached(letter) == codes_of(world, resources.settings)
    assert "nothing to pay" in body_of(letter)
