"""Does an organiser find any order by what somebody knows of it, and everything that became of it?"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.ids import UserId
from db.order_search import OrderFilter, find_orders
from tests.builders import OnSale
from tests.conftest import AnEvent
from tests.organisers import Client, SmallSale, a_client, a_person, a_small_sale, email_of


@pytest.fixture
async def organiser(ingress_url: str, redis: Redis, pool: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(ingress_url) as http:
        yield await a_client(http, redis, pool, "admin")


@pytest.fixture
async def small(an_event: AnEvent, pool: Any) -> SmallSale:
    return await a_small_sale(an_event, pool)


async def found_by(organiser: Client, **query: Any) -> list[str]:
    """The ids that are found, in their order; there must be no more than a page of them."""
    answer = await organiser.get("/api/admin/orders", **query)
    assert answer.status == 200, answer
    assert answer.body["nextCursor"] is None
    return [order["id"] for order in answer.body["orders"]]


async def test_an_order_is_found_by_whatever_is_known_of_it(organiser: Client, small: SmallSale, pool: Any) -> None:
    event, ann, bob, eve = small.on_sale.event_id, *(str(small.orders[name]) for name in ("Ann", "Bob", "Eve"))
    email = await email_of(pool, small.people["Ann"])
    intent_id = await pool.fetchval("SELECT intent_id FROM payments WHERE order_id = $1", small.orders["Ann"])
    if intent_id is None:
        intent_id = f"pi_{uuid4().hex}"
        await pool.execute("UPDATE payments SET intent_id = $2 WHERE order_id = $1", small.orders["Ann"], intent_id)

    # By itself, whatever the event is.
    assert await found_by(organiser, email=email.upper()) == [ann]
    assert await found_by(organiser, email=f"{email[:14]}*") == [ann]
    assert await found_by(organiser, orderId=ann) == [ann]
    assert await found_by(organiser, orderId=ann[:13].upper()) == [ann]
    assert await found_by(organiser, ticketId=small.tickets["Bob"][1]) == [bob]
    assert await found_by(organiser, intentId=intent_id) == [ann]
    # Of one event: newest first.
    assert await found_by(organiser, eventId=event) == [eve, bob, ann]
    assert await found_by(organiser, eventId=event, status="completed") == [eve, bob, ann]
    assert await found_by(organiser, eventId=event, status="refunded") == []
    assert await found_by(organiser, eventId=event, section="Balcony") == [eve, bob]
    assert await found_by(organiser, eventId=event, section="Stalls", row="A", seatNumber="2") == [ann]
    # Both at once.
    assert await found_by(organiser, eventId=event, email=email, section="Balcony") == []


async def test_times_are_from_and_before(organiser: Client, small: SmallSale, pool: Any) -> None:
    event, bob = small.on_sale.event_id, str(small.orders["Bob"])
    at = await pool.fetchval("SELECT created_at FROM orders WHERE id = $1", small.orders["Bob"])
    just_after = at + timedelta(microseconds=1)
    assert await found_by(organiser, eventId=event, from_=at.isoformat(), to=just_after.isoformat()) == [bob]
    assert bob not in await found_by(organiser, eventId=event, to=at.isoformat())


async def test_what_is_special_in_patterns_is_not_special_in_addresses(
    organiser: Client, small: SmallSale, pool: Any
) -> None:
    email = await email_of(pool, small.people["Ann"])
    assert await found_by(organiser, eventId=small.on_sale.event_id, email="%%%*") == []
    assert await found_by(organiser, eventId=small.on_sale.event_id, email=f"{email[:4]}_*") == []


@pytest.mark.parametrize(
    "query",
    [
        {"section": "Stalls"},
        {"eventId": "46d49b22-e595-4345-8e5d-b9deef77a41c", "row": "A"},
        {"email": "an*"},
        {"orderId": "not-hex"},
        {"orderId": "-"},
        {"orderId": "0" * 33},
        {"from": "yesterday"},
        {"status": "paid"},
        {"cursor": "bm90IG91cnM"},
        {"who": "Ann"},
    ],
    ids=str,
)
async def test_a_question_that_makes_no_sense_is_refused(organiser: Client, query: dict[str, str]) -> None:
    assert (await organiser.get("/api/admin/orders", **query)).status == 422


async def test_every_order_comes_once_while_others_are_added(organiser: Client, an_event: AnEvent, pool: Any) -> None:
    sale = await an_event(seats=40, seats_per_row=10, ticket_limit=40)
    buyer = await a_person(pool)
    before = [str(await sale.buy(buyer, [seat])) for seat in sale.seats[:9]]
    # Some of one moment, so that a page ends between them.
    await pool.execute(
        "UPDATE orders SET created_at = (SELECT min(created_at) FROM orders WHERE event_id = $1) WHERE event_id = $1"
        " AND id = ANY($2::uuid[])",
        *(sale.event_id, before[:5]),
    )
    seen = [one async for one in walk(organiser, sale, buyer)]
    assert len(seen) == len(set(seen))
    assert set(seen) == set(before)


async def walk(organiser: Client, sale: OnSale, buyer: UserId) -> AsyncIterator[str]:
    """Every order of the event, two at a time; after each page somebody buys."""
    seats, query = iter(sale.seats[20:]), {"eventId": str(sale.event_id), "limit": "2"}
    while True:
        page = (await organiser.get("/api/admin/orders", **query)).body
        for order in page["orders"]:
            yield order["id"]
        if page["nextCursor"] is None:
            return
        query["cursor"] = page["nextCursor"]
        await sale.buy(buyer, [next(seats)])


async def test_pages_by_number_would_give_some_twice(an_event: AnEvent, pool: Any) -> None:
    """The negative control: the same walk by how many there were before, as one would with OFFSET."""
    sale = await an_event(seats=40, seats_per_row=10, ticket_limit=40)
    buyer = await a_person(pool)
    for seat in sale.seats[:4]:
        await sale.buy(buyer, [seat])
    wanted, seen = OrderFilter(event_id=sale.event_id), []
    for count in (2, 4):
        page = await find_orders(pool, wanted, after=None, limit=count)
        seen += [order.id for order in page[count - 2 :]]
        await sale.buy(buyer, [sale.seats[20 + count]])
    assert len(set(seen)) < len(seen)


async def test_everything_of_an_order_is_in_its_file(organiser: Client, small: SmallSale, pool: Any) -> None:
    file = (await organiser.get(f"/api/admin/orders/{small.orders['Ann']}")).body
    assert (file["status"], file["kind"], file["totalAmount"]) == ("completed", "sale", "40.00")
    assert file["buyer"]["name"] == "Ann"
    assert [(item["section"], item["row"] + item["seatNumber"], item["price"]) for item in file["items"]] == [
        *[("Stalls", "A1", "20.00"), ("Stalls", "A2", "20.00")],
    ]
    assert [(ticket["name"], ticket["version"]) for ticket in file["tickets"]] == [("Eve", 1), ("Ann", 0)]
    assert [(transfer["status"], transfer["fromEmail"]) for transfer in file["transfers"]] == [
        ("accepted", file["buyer"]["email"])
    ]
    assert {(entry["debit"], entry["credit"], entry["amount"]) for entry in file["ledger"]} == {
        *[("provider", "tickets", "30.26"), ("provider", "fees", "3.36"), ("provider", "tax", "6.38")],
    }
    assert [one["what"] for one in file["timeline"]] == [
        *["order_created", "order_completed", "transfer_offered", "transfer_accepted"],
    ]


async def test_a_refund_and_who_gave_it_are_in_the_file(organiser: Client, small: SmallSale) -> None:
    file = (await organiser.get(f"/api/admin/orders/{small.orders['Bob']}")).body
    (given_back,) = file["refunds"]
    assert (given_back["status"], given_back["amount"], given_back["kind"]) == ("refunded", "10.00", "organiser")
    assert given_back["ticketIds"] == [str(small.tickets["Bob"][1])]
    assert [item["refundId"] for item in file["items"]] == [None, given_back["id"]]
    assert [(deed["action"], deed["userId"]) for deed in file["deeds"]] == [("refund_order", str(small.organiser))]
    happened = [one["what"] for one in file["timeline"]]
    assert set(happened) == {"order_created", "order_completed", "refund_requested", "refund_refunded", "organiser_did"}
    assert [one["at"] for one in file["timeline"]] == sorted(one["at"] for one in file["timeline"])


async def test_scans_at_the_door_are_in_the_file(organiser: Client, small: SmallSale, pool: Any) -> None:
    ticket = small.tickets["Ann"][1]
    for result, admitted in (("valid", True), ("already_used", False)):
        await pool.execute(
            "INSERT INTO check_ins (event_id, nonce, code_hash, ticket_id, result, admitted, counts, gate, scanned_by,"
            " scanned_at, offline, answer) VALUES ($1, $2, '', $3, $4, $5, $5, 'North', $6, now(), false, '')",
            *(small.on_sale.event_id, uuid4(), ticket, result, admitted, uuid4()),
        )
    file = (await organiser.get(f"/api/admin/orders/{small.orders['Ann']}")).body
    assert [(scan["result"], scan["gate"]) for scan in file["checkIns"]] == [
        *[("valid", "North"), ("already_used", "North")],
    ]
    assert [one["what"] for one in file["timeline"]][-2:] == ["ticket_let_in", "ticket_sent_away"]


async def test_an_order_that_is_not_there_has_no_file(organiser: Client) -> None:
    answer = await organiser.get(f"/api/admin/orders/{uuid4()}")
    assert (answer.status, answer.body["code"]) == (404, "order_unknown")
