"""Do the figures of a sale say what happened in it, as counted by hand?"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from contracts.beacon import BeaconSource
from db import event_stats
from db.analytics import MinuteOfSales, add_sales
from db.event_stats import MoneyFigures, read_figures
from db.moments import one_moment
from db.postgres import transaction
from db.read_cache import _key
from db.waiting_room_records import NewRoomTerms, make_room
from tests.builders import OnSale, a_user
from tests.conftest import AnEvent
from tests.eventually import eventually
from tests.large_sale import a_large_sale
from tests.organisers import Client, SmallSale, a_client, a_small_sale


@pytest.fixture
async def organiser(ingress_url: str, redis: Redis, pool: Any) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(ingress_url) as http:
        yield await a_client(http, redis, pool, "admin")


@pytest.fixture
async def small(an_event: AnEvent, pool: Any) -> SmallSale:
    return await a_small_sale(an_event, pool)


async def stats_of(organiser: Client, small: SmallSale, **query: int) -> Any:
    answer = await organiser.get(f"/api/admin/events/{small.on_sale.event_id}/stats", **query)
    assert answer.status == 200, answer
    return answer.body


async def test_the_figures_are_those_counted_by_hand(organiser: Client, small: SmallSale, pool: Any) -> None:
    await pool.execute(
        "INSERT INTO waiting_list (event_id, id, user_id, position, seat_count, joined_at) VALUES ($1, $2, $3, 1, 2, now())",
        *(small.on_sale.event_id, uuid4(), uuid4()),
    )
    stats = await stats_of(organiser, small)
    assert stats["seats"] == {"capacity": 15, "available": 8, "held": 1, "sold": 4, "withheld": 2}
    stalls, balcony = stats["sections"]
    assert stalls == {
        "section": "Stalls",
        "capacity": 10,
        "available": 6,
        "held": 1,
        "sold": 3,
        "withheld": 0,
        "onResale": 0,
        "revenue": "60.00",
        "fees": "5.04",
        "tax": "9.57",
    }
    assert balcony == {
        "section": "Balcony",
        "capacity": 5,
        "available": 2,
        "held": 0,
        "sold": 1,
        "withheld": 2,
        "onResale": 0,
        "revenue": "0.00",
        "fees": "0.00",
        "tax": "0.00",
    }
    assert stats["money"] == {
        "currency": "EUR",
        "gross": "70.00",
        "tickets": "52.95",
        "fees": "5.88",
        "tax": "11.17",
        "refunded": "10.00",
        "reversed": "0.00",
        "refundFees": "0.00",
        "refundsUnderWay": "0.00",
        "net": "60.00",
    }
    assert (stats["orders"], stats["complimentaryOrders"]) == ({"completed": 2}, 1)
    assert stats["tickets"] == {"valid": 4, "void": 1, "transferred": 1, "checkedIn": 1, "complimentary": 1}
    assert stats["funnel"] == {"joined": None, "admitted": None, "reserved": 4, "checkedOut": 2, "paid": 2}
    assert stats["waitingList"] == {
        "waiting": 1,
        "waitingForSeats": 2,
        "offered": 0,
        "bought": 0,
        "lapsed": 0,
        "left": 0,
    }
    assert (stats["queue"]["phase"], stats["queue"]["peopleWaiting"]) == (None, None)
    assert stats["sellOut"] is None, "analytics has counted nothing yet"


async def test_minutes_without_a_sale_are_there_and_the_last_ones_tell_the_end(
    organiser: Client, small: SmallSale, pool: Any
) -> None:
    # So that the minute that is running does not end between our clock and the question.
    await eventually(lambda: datetime.now(UTC).second < 55)
    this_minute = datetime.now(UTC).replace(second=0, microsecond=0)
    sold = {2: 3, 0: 6}
    for ago, seats in sold.items():
        minute = MinuteOfSales(
            event_id=small.on_sale.event_id,
            minute_at=this_minute - timedelta(minutes=ago),
            currency="EUR",
            seats_sold=seats,
            orders_completed=1,
            revenue=Decimal(20 * seats),
        )
        await add_sales(pool, [minute])
    stats = await stats_of(organiser, small, minutes=4)
    assert [minute["seatsSold"] for minute in stats["minutes"]] == [0, 3, 0, 6]
    assert [minute["revenue"] for minute in stats["minutes"]] == ["0.00", "60.00", "0.00", "120.00"]
    read_at = datetime.fromisoformat(stats["at"])
    window_seconds = (read_at - (this_minute - timedelta(minutes=9))).total_seconds()
    # Eight can be had and one is held.
    assert stats["sellOut"]["seatsLeft"] == 9
    assert stats["sellOut"]["seconds"] == pytest.approx(9 * window_seconds / 9, abs=1)


async def test_a_waiting_room_opens_the_funnel_and_its_log_keeps_it(
    organiser: Client, small: SmallSale, pool: Any
) -> None:
    event_id = small.on_sale.event_id
    terms = NewRoomTerms(
        capacity=10, rate_per_second=5.0, gather_seconds=60.0, beacon=BeaconSource.OFFLINE, public_keys=()
    )
    assert await make_room(pool, event_id, terms) is not None
    await pool.executemany(
        "INSERT INTO waiting_room_log (event_id, index, at_ms, kind, ticket) VALUES ($1, $2, 0, $3, 1)",
        [(event_id, index, kind) for index, kind in enumerate("JJJJJAAAC")],
    )
    stats = await stats_of(organiser, small)
    # Nobody leads it, so Redis knows no room: the log does.
    assert (stats["funnel"]["joined"], stats["funnel"]["admitted"]) == (5, 3)
    assert stats["queue"]["phase"] is None


async def test_the_queue_of_commands_is_looked_at(organiser: Client, small: SmallSale) -> None:
    stats = await stats_of(organiser, small)
    # The event has no queue of its own here, and its lane is there as long as the broker is.
    assert isinstance(stats["queue"]["commandsWaiting"], int)


async def test_ten_dashboards_cost_one_for_two_seconds(organiser: Client, small: SmallSale, redis: Redis) -> None:
    found = await asyncio.gather(*(stats_of(organiser, small) for _ in range(10)))
    assert len({stats["at"] for stats in found}) == 1
    kept_at = _key(f"stats:{small.on_sale.event_id}:60")
    assert 0 < await redis.pttl(kept_at) <= 2000
    await redis.unlink(kept_at)  # as if they had passed
    assert (await stats_of(organiser, small))["at"] > found[0]["at"]


class SaleBetween:
    """A transaction, and a sale right after its count of seats."""

    def __init__(self, tx: Any, sale: OnSale) -> None:
        self._tx, self._sale = tx, sale
        self.fetchrow = tx.fetchrow

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        found = await self._tx.fetch(statement, *arguments)
        if statement == event_stats._sql.count_seats:
            await self._sale.buy(a_user(), self._sale.seats[:1])
        return found


@pytest.mark.parametrize(
    ("reading", "orders"),
    [
        (one_moment, {}),
        # The negative control: what everything else of ours uses shows the seats of before and the orders of after.
        (transaction, {"completed": 1}),
    ],
)
async def test_everything_is_of_one_moment(
    sale: OnSale, pool: Any, monkeypatch: pytest.MonkeyPatch, reading: Any, orders: dict[str, int]
) -> None:
    @asynccontextmanager
    async def with_a_sale_between(pool: Any) -> AsyncIterator[Any]:
        async with reading(pool) as tx:
            yield SaleBetween(tx, sale)

    monkeypatch.setattr(event_stats, "one_moment", with_a_sale_between)
    figures = await read_figures(pool, sale.event_id, minutes=1)
    assert figures is not None
    assert (sum(section.sold for section in figures.sections), figures.orders) == (0, orders)


def test_what_never_came_in_is_no_refund() -> None:
    """A sale that was reversed gave nothing back; it came to nothing."""
    entries = [
        {"debit": "provider", "credit": "tickets", "is_refund": False, "amount": Decimal("30.00")},
        {"debit": "tickets", "credit": "provider", "is_refund": False, "amount": Decimal("10.00")},
        {"debit": "tickets", "credit": "provider", "is_refund": True, "amount": Decimal("10.00")},
        {"debit": "provider", "credit": "refund_fees", "is_refund": True, "amount": Decimal("1.50")},
    ]
    money = MoneyFigures.of(entries, currency="EUR", under_way=Decimal("0.00"))
    assert (money.gross, money.reversed, money.refunded, money.refund_fees, money.net) == (
        *(Decimal("30.00"), Decimal("10.00"), Decimal("8.50"), Decimal("1.50"), Decimal("11.50")),
    )
    assert money.net == money.gross - money.reversed - money.refunded


async def test_an_event_that_is_not_there_has_no_figures(organiser: Client) -> None:
    answer = await organiser.get(f"/api/admin/events/{uuid4()}/stats")
    assert (answer.status, answer.body["code"]) == (404, "event_unknown")


@pytest.mark.slow
async def test_the_figures_of_ten_thousand_seats_take_a_moment(pool: Any) -> None:
    """Mid-sale: half of it sold to 2,500 people, two thousand seats held. Uncached, so that each question is asked in full."""
    event_id = await a_large_sale(pool, seats=10_000, orders=2_500, held=2_000)
    took_seconds = []
    for _ in range(40):
        started = time.perf_counter()
        figures = await read_figures(pool, event_id, minutes=60)
        took_seconds.append(time.perf_counter() - started)
        assert figures is not None
        assert figures.seats_left == 5_000
    p95 = sorted(took_seconds)[-3]
    assert p95 < 0.2, f"p95 is {p95 * 1000:.0f} ms"
