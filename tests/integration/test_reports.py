"""Do an event's accounts sum to zero, say what was sold, and notice when one line of them is wrong?"""

import csv
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.commands import CancelEvent, OfferResale, PaymentRefunded, RefundCancelled
from tests.conftest import AnEvent
from tests.organisers import Client, SmallSale, a_client, a_small_sale, ask, refund


@pytest.fixture
async def organiser(ingress_url: str, redis: Redis, pool: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(ingress_url) as http:
        yield await a_client(http, redis, pool, "admin")


@pytest.fixture
async def small(an_event: AnEvent, pool: Any) -> SmallSale:
    return await a_small_sale(an_event, pool)


async def report_of(organiser: Client, small: SmallSale) -> Any:
    answer = await organiser.get(f"/api/admin/events/{small.on_sale.event_id}/report")
    assert answer.status == 200, answer
    return answer.body


async def test_the_accounts_are_those_counted_by_hand(organiser: Client, small: SmallSale) -> None:
    report = await report_of(organiser, small)
    figures = {one["account"]: (one["debit"], one["credit"], one["balance"]) for one in report["accounts"]}
    assert figures == {
        "provider": ("70.00", "10.00", "60.00"),
        "tickets": ("7.56", "52.95", "-45.39"),
        "fees": ("0.84", "5.88", "-5.04"),
        "tax": ("1.60", "11.17", "-9.57"),
        "refund_fees": ("0.00", "0.00", "0.00"),
    }
    assert (report["total"], report["payoutDue"], report["refundsUnderWay"]) == ("0.00", "60.00", "0.00")
    assert report["tickets"] == {"sold": 4, "refunded": 1, "refundsUnderWay": 0, "complimentary": 1}
    (day,) = report["days"]
    assert (day["sold"], day["givenBack"], day["net"], day["ordersSold"], day["refunds"]) == (
        *("70.00", "10.00", "60.00", 2, 1),
    )
    assert (report["agrees"], report["differences"]) == (True, [])


async def test_what_is_kept_of_a_refund_stays(organiser: Client, small: SmallSale, pool: Any) -> None:
    sale = small.on_sale
    await pool.execute(
        "UPDATE events SET refund_until = now() + interval '1 day', refund_fee_rate = 0.1 WHERE id = $1", sale.event_id
    )
    await refund(sale, small.orders["Bob"], small.people["Bob"], small.tickets["Bob"][0], as_organiser=False)
    report = await report_of(organiser, small)
    balances = {one["account"]: one["balance"] for one in report["accounts"]}
    # Bob's other ticket was 20.00, of which 2.00 are kept.
    assert (balances["provider"], balances["refund_fees"]) == ("42.00", "-2.00")
    assert (report["agrees"], report["total"]) == (True, "0.00")


async def test_a_seat_that_is_sold_on_for_less_leaves_the_rest_with_us(
    organiser: Client, small: SmallSale, pool: Any
) -> None:
    sale, ticket = small.on_sale, small.tickets["Bob"][0]
    await ask(sale, OfferResale, user_id=small.people["Bob"], ticket_id=ticket, price=Decimal("15.00"))
    await sale.buy(small.people["Dan"], [sale.seats[2]])
    (asked,) = await pool.fetch(
        "SELECT id, order_id FROM refunds WHERE event_id = $1 AND kind = 'resale'", sale.event_id
    )
    under_way = await report_of(organiser, small)
    assert (under_way["agrees"], under_way["refundsUnderWay"], under_way["payoutDue"]) == (True, "15.00", "60.00")
    await ask(sale, PaymentRefunded, order_id=asked["order_id"], refund_id=asked["id"])
    report = await report_of(organiser, small)
    balances = {one["account"]: one["balance"] for one in report["accounts"]}
    # Dan paid 15.00 and Bob, who had paid 20.00, got them.
    assert (balances["provider"], balances["refund_fees"], report["total"]) == ("60.00", "-5.00", "0.00")
    assert (report["agrees"], report["refundsUnderWay"]) == (True, "0.00")


async def test_nothing_is_left_of_a_cancelled_event(organiser: Client, small: SmallSale, pool: Any) -> None:
    sale = small.on_sale
    await ask(sale, CancelEvent, user_id=small.organiser)
    await ask(sale, RefundCancelled)
    asked = await pool.fetch(
        "SELECT id, order_id FROM refunds WHERE event_id = $1 AND status = 'requested'", sale.event_id
    )
    for one in asked:
        await ask(sale, PaymentRefunded, order_id=one["order_id"], refund_id=one["id"])
    report = await report_of(organiser, small)
    assert {one["balance"] for one in report["accounts"]} == {"0.00"}
    assert (report["agrees"], report["payoutDue"]) == (True, "0.00")


# One line of the books or of the sale, changed behind their backs: how, and which account of whose order shows it.
TAMPERINGS: dict[str, tuple[str, str]] = {
    "a line is a cent more": ("UPDATE money_ledger SET amount = amount + 0.01 WHERE {line}", "fees"),
    "a line is missing": ("DELETE FROM money_ledger WHERE {line}", "fees"),
    "a line is there twice": (
        "INSERT INTO money_ledger (event_id, order_id, debit, credit, amount, currency, command_id, at)"
        " SELECT event_id, order_id, debit, credit, amount, currency, command_id, at FROM money_ledger WHERE {line}",
        "fees",
    ),
    "a line went to another account": ("UPDATE money_ledger SET credit = 'tickets' WHERE {line}", "fees"),
    "an item is a cent cheaper": (
        "UPDATE order_items SET price = price - 0.01 WHERE event_id = $1 AND order_id = $2"
        " AND seat_id = (SELECT seat_id FROM order_items WHERE event_id = $1 AND order_id = $2 LIMIT 1)",
        "tickets",
    ),
    "an order's total is another": (
        "UPDATE orders SET total_amount = total_amount + 1 WHERE event_id = $1 AND id = $2",
        "provider",
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_one_wrong_line_is_named(organiser: Client, small: SmallSale, pool: Any, how: str) -> None:
    statement, account = TAMPERINGS[how]
    line = "event_id = $1 AND order_id = $2 AND credit = 'fees' AND refund_id IS NULL"
    changed = await pool.execute(statement.format(line=line), small.on_sale.event_id, small.orders["Ann"])
    assert changed.endswith(" 1")
    report = await report_of(organiser, small)
    assert report["agrees"] is False
    named = {(one["orderId"], one["account"]) for one in report["differences"]}
    assert (str(small.orders["Ann"]), account) in named
    assert {order_id for order_id, _ in named} == {str(small.orders["Ann"])}


async def test_money_of_another_currency_is_not_added_up(organiser: Client, small: SmallSale, pool: Any) -> None:
    await pool.execute(
        "UPDATE money_ledger SET currency = 'USD' WHERE event_id = $1 AND order_id = $2 AND credit = 'tax'",
        *(small.on_sale.event_id, small.orders["Ann"]),
    )
    report = await report_of(organiser, small)
    assert [(one["what"], one["byLedger"]) for one in report["differences"]] == [("currency", "6.38")]


async def test_the_file_says_the_same(organiser: Client, small: SmallSale) -> None:
    answer = await organiser.get(f"/api/admin/events/{small.on_sale.event_id}/report.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    header, *rows = csv.reader(StringIO(answer.body.decode(), newline=""), strict=True)
    assert header == ["part", "name", "debit", "credit", "amount", "bySales", "count", "currency"]
    assert ["account", "provider", "70.00", "10.00", "60.00", "60.00", "", "EUR"] in rows
    assert ["total", "payout due", "", "", "60.00", "", "", "EUR"] in rows
    assert ["tickets", "complimentary", "", "", "", "", "1", ""] in rows
    assert not [row for row in rows if row[0] == "difference"]


@pytest.mark.parametrize("file", ["report", "report.csv"])
async def test_an_event_that_is_not_there_has_no_accounts(organiser: Client, file: str) -> None:
    answer = await organiser.get(f"/api/admin/events/{uuid4()}/{file}")
    assert (answer.status, answer.body["code"]) == (404, "event_unknown")


Read = Callable[[SmallSale], str]
EVERY_READ: dict[str, Read] = {
    "stats": lambda small: f"/api/admin/events/{small.on_sale.event_id}/stats",
    "report": lambda small: f"/api/admin/events/{small.on_sale.event_id}/report",
    "report.csv": lambda small: f"/api/admin/events/{small.on_sale.event_id}/report.csv",
    "orders.csv": lambda small: f"/api/admin/events/{small.on_sale.event_id}/orders.csv",
    "attendees.csv": lambda small: f"/api/admin/events/{small.on_sale.event_id}/attendees.csv",
    "orders": lambda _: "/api/admin/orders",
    "an order": lambda small: f"/api/admin/orders/{small.orders['Ann']}",
    "audit": lambda _: "/api/admin/audit",
    "audit.csv": lambda _: "/api/admin/audit.csv",
}


@pytest.mark.parametrize(
    ("role", "status"), [("admin", 200), ("user", 403), ("scanner", 403), (None, 401)], ids=lambda value: str(value)
)
async def test_the_books_are_for_organisers_only(
    ingress_url: str, redis: Redis, pool: Any, small: SmallSale, role: Any, status: int
) -> None:
    async with aiohttp.ClientSession(ingress_url) as http:
        asker = await a_client(http, redis, pool, role or "user")
        if role is None:
            del http.headers["cookie"]
        heard = {name: (await asker.get(path(small))).status for name, path in EVERY_READ.items()}
    assert heard == dict.fromkeys(EVERY_READ, status)
