"""Does money go back once, by the policy, whoever asks how often at the same time, on real servers?"""

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from consumers.rules import refunds as rules
from contracts.ids import OrderId, UserId
from contracts.replies import AnyReply, RefundStarted, Rejected
from db import failpoints
from tests.builders import OnSale, a_command_id, a_user, cancel_payment, count, rejected_as
from tests.conftest import AnEvent
from tests.eventually import eventually
from tests.sale_on_paper import payment_refunded, refund


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats whose buyers may give tickets back for a tenth of the price."""
    sale = await an_event(redis_timeout_seconds=10.0)
    await sale.pool.execute(
        "UPDATE events SET refund_until = now() + interval '1 day', refund_fee_rate = 0.1, fee_rate = 0.05,"
        " tax_rate = 0.07 WHERE id = $1",
        sale.event_id,
    )
    return sale


class Bought:
    """An order of somebody's."""

    def __init__(self, sale: OnSale, user: UserId, order_id: OrderId, tickets: list[UUID]) -> None:
        self.sale, self.user, self.order_id, self.tickets = sale, user, order_id, tickets

    def asks(self, **fields: Any) -> Any:
        """The buyer's wish."""
        asked = {"user_id": self.user, "as_organiser": False, "correlation_id": a_command_id(), **fields}
        return refund(self.sale.event_id, self.order_id, **asked)

    async def is_back(self, started: AnyReply) -> None:
        """The provider has given it back."""
        assert isinstance(started, RefundStarted), started
        await self.sale.run(payment_refunded(self.sale.event_id, self.order_id, started.refund_id))

    async def statuses(self) -> tuple[str, str, list[str]]:
        """Of the order, its payment and its tickets."""
        payment = await self.sale.pool.fetchval("SELECT status FROM payments WHERE order_id = $1", self.order_id)
        tickets = await self.sale.pool.fetch(
            "SELECT t.status FROM tickets t JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id"
            " WHERE t.order_id = $1 ORDER BY s.seat_index",
            self.order_id,
        )
        return await self.sale.status_of("orders", self.order_id), payment, [one["status"] for one in tickets]


async def a_purchase(sale: OnSale, first: int = 0, seats: int = 2) -> Bought:
    user = a_user()
    order_id = await sale.buy(user, sale.seats[first : first + seats])
    tickets = await sale.pool.fetch(
        "SELECT t.id FROM tickets t JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id"
        " WHERE t.order_id = $1 ORDER BY s.seat_index",
        order_id,
    )
    return Bought(sale, user, order_id, [record["id"] for record in tickets])


async def accounts(sale: OnSale) -> dict[str, Decimal]:
    """What each account of the event is worth."""
    records = await sale.pool.fetch(
        "SELECT account, sum(amount) AS worth FROM (SELECT debit AS account, amount FROM money_ledger WHERE event_id = $1"
        " UNION ALL SELECT credit, -amount FROM money_ledger WHERE event_id = $1) AS entries GROUP BY account",
        sale.event_id,
    )
    return {record["account"]: record["worth"] for record in records if record["worth"]}


async def test_ticket_by_ticket_an_order_goes_back_and_the_books_say_so(sale: OnSale) -> None:
    bought = await a_purchase(sale)
    first = await sale.ask_one(bought.asks(ticket_ids=(bought.tickets[0],)))
    await bought.is_back(first)
    assert await bought.statuses() == ("completed", "authorized", ["void", "valid"])
    assert list((await sale.statuses()).values()).count("sold") == 1
    assert await accounts(sale) == {
        "provider": Decimal("49.50"),
        "tickets": Decimal("-39.96"),
        "fees": Decimal("-2.10"),
        "tax": Decimal("-2.94"),
        "refund_fees": Decimal("-4.50"),
    }
    await sale.ledger_agrees_with_seats()
    await bought.is_back(await sale.ask_one(bought.asks()))
    assert await bought.statuses() == ("refunded", "authorized", ["void", "void"])
    assert await accounts(sale) == {"provider": Decimal("9.00"), "refund_fees": Decimal("-9.00")}
    await sale.ledger_agrees_with_seats()


async def test_of_ten_who_ask_at_once_one_starts_a_refund(sale: OnSale) -> None:
    bought = await a_purchase(sale)
    engines = [sale.another_engine() for _ in range(3)]
    asked = [bought.asks(as_organiser=number % 2 == 0) for number in range(10)]
    outcomes = await asyncio.gather(*(sale.run(one, engine=engines[number % 3]) for number, one in enumerate(asked)))
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, RefundStarted) == 1
    assert rejected_as(replies) == ["order_not_refundable"] * 9
    assert await sale.pool.fetchval("SELECT count(*) FROM refunds WHERE event_id = $1", sale.event_id) == 1
    await sale.ledger_agrees_with_seats()


async def test_of_ten_who_ask_for_overlapping_tickets_each_ticket_is_refunded_once(sale: OnSale) -> None:
    bought = await a_purchase(sale, seats=4)
    pairs = [(bought.tickets[number % 4], bought.tickets[(number + 1) % 4]) for number in range(10)]
    await asyncio.gather(*(sale.run(bought.asks(ticket_ids=pair)) for pair in pairs))
    named = await sale.pool.fetch("SELECT unnest(ticket_ids) AS id FROM refunds WHERE event_id = $1", sale.event_id)
    assert len({record["id"] for record in named}) == len(named) == 4
    await sale.ledger_agrees_with_seats()


async def test_without_the_mark_on_the_item_a_ticket_is_refunded_twice_and_the_proof_sees_it(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the two tests above."""
    bought = await a_purchase(sale)
    monkeypatch.setattr(rules, "_why_not_buyers", lambda *_: None)
    for _ in range(2):
        assert isinstance(await sale.ask_one(bought.asks(ticket_ids=(bought.tickets[0],))), RefundStarted)
    with pytest.raises(AssertionError, match="is in 2 refunds"):
        await sale.ledger_agrees_with_seats()


async def test_a_refund_that_dies_before_its_commit_has_not_happened(sale: OnSale) -> None:
    bought = await a_purchase(sale)
    command = bought.asks()
    failpoints.arm("engine.before_commit=1*raise")
    try:
        outcome = await sale.run(command)
    finally:
        failpoints.disarm()
    assert [one.asked.command.command_id for one in outcome.not_processed] == [command.command_id]
    assert await bought.statuses() == ("completed", "authorized", ["valid", "valid"])
    assert isinstance(await sale.ask_one(command), RefundStarted)
    await sale.ledger_agrees_with_seats()


async def test_a_capture_that_is_written_meanwhile_is_not_unwritten(sale: OnSale, tmp_path: Path) -> None:
    # The payment stage writes without the fence: what the engine has loaded may be older. (Without the guard in
    # `update_orders` the payment is "authorized" again in the end.)
    bought, go_on = await a_purchase(sale), tmp_path / "go on"
    failpoints.arm(f"engine.in_transaction=pause({go_on})")
    try:
        asked = asyncio.create_task(sale.run(bought.asks(ticket_ids=(bought.tickets[0],))))
        await eventually(lambda: failpoints.hits().get("engine.in_transaction"))
        await sale.pool.execute("UPDATE payments SET status = 'captured' WHERE order_id = $1", bought.order_id)
        go_on.touch()
        await asked
    finally:
        failpoints.disarm()
    assert await bought.statuses() == ("completed", "captured", ["void", "valid"])


async def test_an_authorisation_that_dies_ends_the_order_and_its_refunds(sale: OnSale) -> None:
    bought = await a_purchase(sale)
    started = await sale.ask_one(bought.asks(ticket_ids=(bought.tickets[0],)))
    await sale.run(cancel_payment(sale.event_id, bought.order_id))
    await bought.is_back(started)
    assert await bought.statuses() == ("cancelled", "canceled", ["void", "void"])
    assert await accounts(sale) == {}
    assert set((await sale.statuses()).values()) == {"available"}
    await sale.ledger_agrees_with_seats()


async def test_what_costs_nothing_is_given_back_without_the_provider(an_event: AnEvent) -> None:
    sale = await an_event(price="0.00", redis_timeout_seconds=10.0)
    bought = await a_purchase(sale)
    started = await sale.ask_one(bought.asks(as_organiser=True))
    assert isinstance(started, RefundStarted)
    assert started.amount == 0
    assert (await bought.statuses())[0] == "refunded"
    assert set((await sale.statuses()).values()) == {"available"}
    await sale.ledger_agrees_with_seats()


async def test_after_the_deadline_only_an_organiser_gives_money_back(sale: OnSale) -> None:
    bought = await a_purchase(sale)
    sql = "UPDATE events SET refund_until = now() - $2::interval WHERE id = $1"
    await sale.pool.execute(sql, sale.event_id, timedelta(seconds=1))
    assert rejected_as([await sale.ask_one(bought.asks())]) == ["refunds_closed"]
    assert not isinstance(await sale.ask_one(bought.asks(as_organiser=True)), Rejected)
