"""Who sees which tickets, and whose codes does the server hand out?"""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pypdfium2
import pytest
import zxingcpp
from icalendar import Calendar
from PIL import Image
from redis.asyncio import Redis

from contracts.ids import EventId, OrderId, TicketId, UserId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import STEP_SECONDS, read_code
from contracts.ticket_pages import ONLY_IN_THE_APP
from contracts.ticket_pictures import only_in_the_app
from db import tickets as tickets_module
from db.postgres import Pool
from db.sessions import create_session
from ingress.routes import tickets as routes
from tests.builders import OnSale, a_user
from tests.conftest import AnEvent


@dataclass
class Visitor:
    """Somebody who is logged in."""

    http: aiohttp.ClientSession
    user_id: UserId

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Any]:
        """Status, body (bytes unless it is JSON) and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(f"/api{path}", headers=named) as response:
            raw = await response.read()
            is_json = response.content_type.endswith("json")
            return response.status, await response.json(content_type=None) if is_json else raw, response.headers


Visitors = Callable[..., Awaitable[Visitor]]


@pytest.fixture
async def visitors(ingress_url: str, redis: Redis, pool: Pool) -> AsyncIterator[Visitors]:
    """A factory of people with an account."""
    opened: list[aiohttp.ClientSession] = []

    async def make(name: str = "Ann") -> Visitor:
        user_id = a_user()
        await pool.execute(
            "INSERT INTO users (id, email, password_hash, name) VALUES ($1, $2, '-', $3)",
            *(user_id, f"{user_id}@example.org", name),
        )
        session = await create_session(redis, user_id=user_id, role="user", seconds=600)
        http = aiohttp.ClientSession(
            ingress_url, cookies={"session": session}, cookie_jar=aiohttp.CookieJar(unsafe=True)
        )
        opened.append(http)
        return Visitor(http, user_id)

    yield make
    for http in opened:
        await http.close()


@dataclass
class Purchase:
    """An order of two seats, and whose it is."""

    sale: OnSale
    buyer: Visitor
    order_id: OrderId
    ticket_ids: list[TicketId]

    async def write(self, sql: str, *values: Any) -> None:
        """Something that another part of the system does to the event ($1)."""
        await self.sale.pool.execute(sql, self.sale.event_id, *values)

    async def pass_on(self, ticket_id: TicketId, to: Visitor) -> None:
        """As an accepted transfer leaves it."""
        await self.write(
            "UPDATE tickets SET user_id = $3, version = version + 1 WHERE event_id = $1 AND id = $2",
            *(ticket_id, to.user_id),
        )

    async def void(self, ticket_id: TicketId) -> None:
        """As a refund leaves it."""
        await self.write(
            "UPDATE tickets SET status = 'void', ended_because = 'refunded' WHERE event_id = $1 AND id = $2", ticket_id
        )


@pytest.fixture
async def bought(an_event: AnEvent, visitors: Visitors) -> Purchase:
    sale, buyer = await an_event(), await visitors("Zoë Żak")
    order_id = await sale.buy(buyer.user_id, sale.seats[:2])
    records = await sale.pool.fetch(
        "SELECT t.id FROM tickets t JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id"
        " WHERE t.event_id = $1 ORDER BY s.seat_index",
        sale.event_id,
    )
    return Purchase(sale, buyer, order_id, [TicketId(record["id"]) for record in records])


def codes_in(picture: bytes) -> list[str]:
    return [found.text for found in zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))]


def pages_of(pdf: bytes) -> list[tuple[str, list[str]]]:
    """The text of each page, and the codes a camera finds on it."""
    document = pypdfium2.PdfDocument(pdf)
    found = []
    for page in document:
        text = page.get_textpage().get_text_range()
        found.append((text, [code.text for code in zxingcpp.read_barcodes(page.render(scale=3).to_pil())]))
    return found


# ---- orders


async def test_an_order_says_what_was_paid_for_what_and_what_may_be_done(bought: Purchase) -> None:
    await bought.write(
        "UPDATE events SET refund_until = now() + interval '1 day', refund_fee_rate = 0.1, resales = false WHERE id = $1"
    )
    await bought.write("UPDATE order_items SET fee = 5, tax = 4, reduction = 3, tier = 'Student' WHERE event_id = $1")
    status, order, _ = await bought.buyer.get(f"/orders/{bought.order_id}")
    assert status == 200
    assert order["parts"] == {"face": "72.00", "fee": "10.00", "tax": "8.00", "reduction": "6.00", "total": "90.00"}
    assert order["parts"]["total"] == order["totalAmount"]
    assert (order["payment"]["status"], order["payment"]["amount"]) == ("authorized", "90.00")
    first = order["items"][0]
    assert (first["tier"], first["parts"]["face"], first["ticket"]["owner"]) == ("Student", "36.00", "you")
    terms = first["ticket"]["terms"]
    assert (terms["refundable"], terms["transferable"], terms["resellable"]) == (True, True, False)
    assert terms["refundFeeRate"] == "0.1000"
    assert terms["refundableUntil"] is not None


async def test_an_order_tells_nothing_of_what_the_new_owner_of_a_ticket_does(
    bought: Purchase, visitors: Visitors
) -> None:
    ticket_id = bought.ticket_ids[0]
    await bought.pass_on(ticket_id, await visitors())
    await bought.write("UPDATE tickets SET checked_in_at = now() WHERE event_id = $1")
    _, order, _ = await bought.buyer.get(f"/orders/{bought.order_id}")
    passed_on, own = (item["ticket"] for item in order["items"])
    assert (passed_on["owner"], passed_on["checkedInAt"]) == ("transferred", None)
    assert not any(passed_on["terms"][may] for may in ("refundable", "transferable", "resellable"))
    assert (own["owner"], own["checkedInAt"] is None) == ("you", False)


async def test_refunds_stand_in_the_order(bought: Purchase) -> None:
    await bought.write(
        "INSERT INTO refunds (event_id, id, order_id, kind, ticket_ids, amount, fee_kept, currency, provider_key,"
        " requested_by, created_at) VALUES ($1, $2, $3, 'buyer', $4, 40.50, 4.50, 'EUR', $5, $6, now())",
        *(uuid4(), bought.order_id, [bought.ticket_ids[0]], uuid4().hex, bought.buyer.user_id),
    )
    _, order, _ = await bought.buyer.get(f"/orders/{bought.order_id}")
    (refund,) = order["refunds"]
    assert (refund["amount"], refund["feeKept"], refund["status"]) == ("40.50", "4.50", "requested")
    assert refund["ticketIds"] == [str(bought.ticket_ids[0])]


async def test_orders_are_listed_page_by_page_and_by_event(
    bought: Purchase, an_event: AnEvent, visitors: Visitors, pool: Pool
) -> None:
    other = await an_event()
    await other.buy(bought.buyer.user_id, other.seats[:1])
    await pool.execute(
        "INSERT INTO orders (event_id, id, user_id, hold_id, total_amount, currency, created_at)"
        " SELECT $1, gen_random_uuid(), $2, gen_random_uuid(), 0, 'EUR', now() - i * interval '1 hour'"
        " FROM generate_series(1, 60) AS i",
        *(other.event_id, bought.buyer.user_id),
    )
    _, of_event, _ = await bought.buyer.get(f"/orders?eventId={bought.sale.event_id}")
    assert [order["id"] for order in of_event["orders"]] == [str(bought.order_id)]
    _, first, _ = await bought.buyer.get("/orders")
    _, second, _ = await bought.buyer.get(f"/orders?cursor={first['nextCursor']}")
    ids = [order["id"] for page in (first, second) for order in page["orders"]]
    assert (len(first["orders"]), len(ids), len(set(ids)), second["nextCursor"]) == (50, 62, 62, None)
    status, refused, _ = await bought.buyer.get(f"/orders?eventId={other.event_id}&cursor={first['nextCursor']}")
    assert (status, refused["code"]) == (422, "invalid_request"), "a cursor belongs to its query"


# ---- tickets


async def test_a_ticket_is_its_present_owners_and_nobody_elses(bought: Purchase, visitors: Visitors) -> None:
    ticket_id, friend = bought.ticket_ids[0], await visitors("Bob")
    paths = [f"/tickets/{ticket_id}{what}" for what in ("", "/code", ".svg", ".png", ".pdf")]
    assert [(await bought.buyer.get(path))[0] for path in paths] == [200] * 5
    assert [(await friend.get(path))[0] for path in paths] == [404] * 5
    await bought.pass_on(ticket_id, friend)
    assert [(await bought.buyer.get(path))[0] for path in paths] == [404] * 5
    assert [(await friend.get(path))[0] for path in paths] == [200] * 5
    _, mine, _ = await bought.buyer.get("/tickets")
    assert [ticket["id"] for ticket in mine["tickets"]] == [str(bought.ticket_ids[1])]
    _, his, _ = await friend.get("/tickets")
    (received,) = his["tickets"]
    assert (received["bought"], received["orderId"], received["holder"]) == (False, None, "Bob")
    assert not received["terms"]["refundable"], "the money would go to somebody else's card"


async def test_whose_picture_it_is_is_asked_each_time(
    bought: Purchase, visitors: Visitors, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: with the owner out of the question, a stranger is given the ticket, and that is seen."""
    stranger = await visitors()
    assert await tickets_module.find_own_ticket(pool, stranger.user_id, bought.ticket_ids[0]) is None
    guard = " AND user_id = $2"
    assert guard in tickets_module._sql.find_own_ticket
    loose = tickets_module._sql.find_own_ticket.replace(guard, " AND $2::uuid IS NOT NULL")
    monkeypatch.setattr(tickets_module._sql, "find_own_ticket", loose)
    found = await tickets_module._load(
        pool, await pool.fetch(tickets_module._sql.find_own_ticket, bought.ticket_ids[0], stranger.user_id)
    )
    assert [ticket.user_id for ticket in found] == [bought.buyer.user_id]


async def test_tickets_are_listed_by_the_date_of_their_shows(an_event: AnEvent, visitors: Visitors, pool: Pool) -> None:
    owner, sales = await visitors(), [await an_event() for _ in range(3)]
    for days, sale in zip((20, -3, 10), sales, strict=True):
        await sale.buy(owner.user_id, sale.seats[:1])
        await pool.execute(
            "UPDATE events SET event_date = now() + $2 * interval '1 day' WHERE id = $1", sale.event_id, days
        )
    later, over, soon = (str(sale.event_id) for sale in sales)

    async def shows(query: str) -> list[str]:
        _, page, _ = await owner.get(f"/tickets{query}")
        return [ticket["event"]["id"] for ticket in page["tickets"]]

    assert await shows("") == [over, soon, later]
    assert await shows("?upcoming=true") == [soon, later]
    assert await shows(f"?eventId={soon}") == [soon]


async def test_tickets_are_paged_without_losing_one(
    bought: Purchase, an_event: AnEvent, settings: Settings, pool: Pool
) -> None:
    other = await an_event()
    await other.buy(bought.buyer.user_id, other.seats[:3])
    user_id = bought.buyer.user_id
    first = await tickets_module.list_own_tickets(pool, user_id, event_id=None, upcoming=False, after=None, limit=3)
    after = (first[-1].event_date, first[-1].id)
    second = await tickets_module.list_own_tickets(pool, user_id, event_id=None, upcoming=False, after=after, limit=3)
    assert (len(first), len(second), len({ticket.id for ticket in [*first, *second]})) == (3, 2, 5)


# ---- codes and pictures


async def test_every_picture_says_the_ticket_s_code(bought: Purchase, settings: Settings) -> None:
    ticket_id = bought.ticket_ids[0]
    _, told, headers = await bought.buyer.get(f"/tickets/{ticket_id}/code")
    assert (told["rotates"], told["validForSeconds"]) == (False, None)
    assert headers["cache-control"] == "no-store"
    read = read_code(SigningKeys.of(settings), told["code"])
    assert read is not None
    assert (read.event_id, read.ticket_id, read.version) == (bought.sale.event_id, ticket_id, 0)
    _, png, headers = await bought.buyer.get(f"/tickets/{ticket_id}.png")
    assert (headers["content-type"], codes_in(png)) == ("image/png", [told["code"]])
    _, svg, headers = await bought.buyer.get(f"/tickets/{ticket_id}.svg")
    assert headers["content-type"] == "image/svg+xml"
    assert svg == routes.ticket_svg(told["code"])
    _, pdf, headers = await bought.buyer.get(f"/tickets/{ticket_id}.pdf")
    ((text, codes),) = pages_of(pdf)
    assert (headers["content-type"], codes) == ("application/pdf", [told["code"]])
    assert "Zoë Żak" in text
    assert str(bought.order_id) in text


async def test_a_picture_is_kept_by_its_owner_s_browser_and_asked_for_each_time(
    bought: Purchase, visitors: Visitors
) -> None:
    path = f"/tickets/{bought.ticket_ids[0]}.png"
    _, _, headers = await bought.buyer.get(path)
    assert headers["cache-control"] == "private, no-cache"
    again, body, _ = await bought.buyer.get(path, if_none_match=headers["etag"])
    assert (again, body) == (304, b"")
    await bought.pass_on(bought.ticket_ids[0], await visitors())
    gone, _, _ = await bought.buyer.get(path, if_none_match=headers["etag"])
    assert gone == 404, "what he has kept is nothing any more"


async def test_whoever_receives_a_ticket_gets_another_code(bought: Purchase, visitors: Visitors) -> None:
    friend, path = await visitors(), f"/tickets/{bought.ticket_ids[0]}/code"
    _, before, _ = await bought.buyer.get(path)
    await bought.pass_on(bought.ticket_ids[0], friend)
    _, after, _ = await friend.get(path)
    assert before["code"] != after["code"]


async def test_a_void_ticket_has_no_code(bought: Purchase, settings: Settings, pool: Pool) -> None:
    ticket_id = bought.ticket_ids[0]
    await bought.void(ticket_id)
    for what in ("/code", ".svg", ".png", ".pdf"):
        status, refused, _ = await bought.buyer.get(f"/tickets/{ticket_id}{what}")
        assert (status, refused["code"]) == (410, "ticket_not_valid")
    status, shown, _ = await bought.buyer.get(f"/tickets/{ticket_id}")
    assert (status, shown["status"], shown["endedBecause"]) == (200, "void", "refunded")
    # The negative control: nothing but that question stands between its owner and a code that is authentic.
    (ticket,) = await tickets_module._load(pool, [{"event_id": bought.sale.event_id, "id": ticket_id}])
    assert not ticket.opens_doors
    keys = SigningKeys.of(settings)
    assert read_code(keys, ticket.code(keys)) is not None


async def test_of_a_cancelled_event_nothing_is_handed_out(bought: Purchase) -> None:
    await bought.write("UPDATE events SET status = 'cancelled' WHERE id = $1")
    for path in (f"/tickets/{bought.ticket_ids[0]}.png", f"/orders/{bought.order_id}/tickets.pdf"):
        status, refused, _ = await bought.buyer.get(path)
        assert (status, refused["code"]) == (410, "event_cancelled")


async def test_a_rotating_code_is_in_no_picture(bought: Purchase, settings: Settings) -> None:
    await bought.write("UPDATE events SET rotating_codes = true WHERE id = $1")
    ticket_id = bought.ticket_ids[0]
    _, told, headers = await bought.buyer.get(f"/tickets/{ticket_id}/code")
    read = read_code(SigningKeys.of(settings), told["code"])
    assert read is not None
    assert read.is_rotating
    assert told["rotates"]
    assert 0 < told["validForSeconds"] <= STEP_SECONDS
    assert headers["cache-control"] == "no-store"
    for kind in ("svg", "png"):
        _, picture, headers = await bought.buyer.get(f"/tickets/{ticket_id}.{kind}")
        assert (picture, headers["cache-control"]) == (only_in_the_app(kind), "no-store")
    assert codes_in(only_in_the_app("png")) == []
    _, pdf, headers = await bought.buyer.get(f"/orders/{bought.order_id}/tickets.pdf")
    assert headers["cache-control"] == "no-store"
    pages = pages_of(pdf)
    assert [codes for _, codes in pages] == [[], []]
    assert all(ONLY_IN_THE_APP.split(":")[0] in " ".join(text.split()) for text, _ in pages)


async def test_the_pages_of_an_order_are_those_that_are_valid_and_still_the_buyer_s(
    an_event: AnEvent, visitors: Visitors, bought: Purchase
) -> None:
    path = f"/orders/{bought.order_id}/tickets.pdf"
    _, pdf, _ = await bought.buyer.get(path)
    assert len(pages_of(pdf)) == 2
    friend = await visitors()
    await bought.pass_on(bought.ticket_ids[0], friend)
    _, pdf, _ = await bought.buyer.get(path)
    ((text, _),) = pages_of(pdf)
    assert str(bought.ticket_ids[1]) in text
    assert (await friend.get(path))[0] == 404, "the order is not his"
    await bought.void(bought.ticket_ids[1])
    status, refused, _ = await bought.buyer.get(path)
    assert (status, refused["code"]) == (410, "ticket_not_valid")


# ---- calendars


async def test_a_calendar_takes_note_and_changes_its_note(bought: Purchase, visitors: Visitors) -> None:
    await bought.write(
        "UPDATE venues SET time_zone = 'Asia/Tokyo', address = 'Street 1, Yard; Door' WHERE id ="
        " (SELECT venue_id FROM events WHERE id = $1)"
    )

    async def entry() -> Any:
        status, raw, headers = await bought.buyer.get(f"/orders/{bought.order_id}/calendar.ics")
        assert (status, headers["content-type"]) == (200, "text/calendar; charset=utf-8")
        (event,) = Calendar.from_ical(raw).walk("VEVENT")
        return event

    first = await entry()
    assert first["LOCATION"].startswith("The Test, Street 1, Yard; Door")
    assert "(Asia/Tokyo)" in first["DESCRIPTION"]
    begins_at = await bought.sale.pool.fetchval("SELECT event_date FROM events WHERE id = $1", bought.sale.event_id)
    assert first.decoded("DTSTART") == begins_at.replace(microsecond=0)
    assert first["STATUS"] == "CONFIRMED"
    await bought.write(
        "UPDATE events SET event_date = event_date + interval '1 hour', version = version + 1 WHERE id = $1"
    )
    second = await entry()
    await bought.pass_on(bought.ticket_ids[0], await visitors())
    await bought.void(bought.ticket_ids[1])
    third = await entry()
    await bought.write("UPDATE events SET status = 'cancelled' WHERE id = $1")
    fourth = await entry()
    entries = (first, second, third, fourth)
    assert len({entry["UID"] for entry in entries}) == 1
    numbers = [int(entry["SEQUENCE"]) for entry in entries]
    assert numbers == sorted(set(numbers))
    assert [entry["STATUS"] for entry in entries] == ["CONFIRMED", "CONFIRMED", "CANCELLED", "CANCELLED"]


async def test_anybody_may_have_a_show_in_his_calendar(ingress_url: str, sale: OnSale) -> None:
    async with aiohttp.ClientSession(ingress_url) as http:
        async with http.get(f"/api/events/{sale.event_id}/calendar.ics") as response:
            (event,) = Calendar.from_ical(await response.read()).walk("VEVENT")
        assert (event["SUMMARY"], event["STATUS"]) == ("A test of patience", "CONFIRMED")
        async with http.get(f"/api/events/{EventId(UUID(int=1))}/calendar.ics") as response:
            assert response.status == 404
