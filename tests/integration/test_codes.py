"""Do codes, tiers and presales hold on real servers, when thirty buyers race for five uses too?"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from consumers.event_commands import load
from consumers.event_commands.load_prices import load_prices
from consumers.rules.sale import Sale
from contracts.codes import as_compared
from contracts.commands import ApplyCode, ReserveSeats
from contracts.ids import UserId
from contracts.replies import AnyReply, HoldRepriced, OrderCompleted, SeatsReserved
from db import sale as records
from db.availability_cache import AvailabilityCache
from db.codes import CodeTerms, CodeUse, Made, NewCode, change_code, list_codes, make_code, make_up_codes
from db.sale_clock import find_open_sales
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    check_out,
    count,
    expire,
    rejected_as,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.conftest import AnEvent
from tests.eventually import eventually

HOUSE = [
    {
        "name": "Stalls",
        "rows": 6,
        "seatsPerRow": 10,
        "price": "45.00",
        "tiers": [{"name": "Student", "price": "20"}, {"name": 'Child "under 7"', "price": "5.00"}],
    },
    {"name": "Balcony", "rows": 1, "seatsPerRow": 10, "price": "30.00"},
]


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event with tiers, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(sections=HOUSE, redis_timeout_seconds=10.0)


def terms_of_a_code(**fields: Any) -> CodeTerms:
    """A tenth off, for everybody and always, unless it is said otherwise."""
    usual: dict[str, Any] = {
        "opens_presale": False,
        "percent_off": Decimal(10),
        "amount_off": Decimal(0),
        "sections": (),
        "uses_max": None,
        "uses_per_user_max": None,
        "valid_from": None,
        "valid_until": None,
    }
    return CodeTerms(**(usual | fields))


async def a_code(sale: OnSale, code: str = "SPRING", **fields: Any) -> NewCode:
    """A code of this event."""
    made = await make_code(
        sale.pool, sale.event_id, Made(uuid4(), ""), as_compared(code), terms_of_a_code(**fields), by=a_user()
    )
    assert not isinstance(made, str), made
    return made[0]


async def begin_presale(sale: OnSale, *, high_demand: bool = False) -> None:
    """The presale has begun, and the sale to everybody has not."""
    await sale.pool.execute(
        "UPDATE events SET presale_date = now() - interval '1 hour', on_sale_date = now() + interval '1 hour',"
        " high_demand = $2 WHERE id = $1",
        *(sale.event_id, high_demand),
    )


def apply_code(sale: OnSale, user: UserId, hold_id: UUID, code: str, **fields: Any) -> ApplyCode:
    """A code for a hold."""
    id_ = a_command_id()
    own: dict[str, Any] = {
        "command_id": id_,
        "correlation_id": a_command_id(),
        "deadline_at": datetime.now(UTC) + timedelta(seconds=30),
    } | fields
    return ApplyCode(event_id=sale.event_id, user_id=user, hold_id=hold_id, code=code, **own)


async def uses_of(sale: OnSale, code: str) -> tuple[int, int]:
    """What the organiser sees: how often it is used, and how often paid."""
    found = await list_codes(sale.pool, sale.event_id, beginning_with=code, after="", limit=2)
    assert found
    return found[0].use_count, found[0].paid_count


async def buys(sale: OnSale, hold_id: UUID, user: UserId) -> None:
    """The hold is paid for."""
    checkout = check_out(sale.event_id, user, hold_id)
    await sale.run(checkout)
    await sale.run(settle(sale.event_id, checkout.command_id))


# ---- a code that thirty want and five may have


def thirty(sale: OnSale, code: str) -> list[ReserveSeats]:
    """Thirty buyers, a seat for each of them, one code."""
    return [reserve(sale.event_id, a_user(), [seat], code=code) for seat in sale.seats[:30]]


async def test_a_code_for_five_is_had_by_five_of_thirty(sale: OnSale) -> None:
    await a_code(sale, uses_max=5)
    engines = [sale.engine, *(sale.another_engine() for _ in range(4))]
    commands = thirty(sale, "spring")
    outcomes = await asyncio.gather(
        *(sale.run(*commands[start::5], engine=engine) for start, engine in enumerate(engines))
    )
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 5
    assert rejected_as(replies) == ["code_used_up"] * 25
    assert await uses_of(sale, "SPRING") == (5, 0)
    await sale.ledger_agrees_with_seats()


async def test_without_counting_its_own_batch_more_than_five_would_have_it(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the uses that a batch makes itself are not counted, and the race is not seen."""
    await a_code(sale, uses_max=5)
    monkeypatch.setattr(Sale, "_count_use", lambda *_: None)
    assert count(await sale.ask(*thirty(sale, "SPRING")), SeatsReserved) == 30


class TogetherAtTheCount:
    """Two engines count the uses of a code before either of them writes; where the fence keeps the second from counting,
    the first goes on as soon as the second waits for it."""

    def __init__(self, sale: OnSale, *, fenced: bool) -> None:
        self._sale = sale
        self._fenced = fenced
        self._counted = 0

    async def load_prices(self, tx: Any, sale: Sale, commands: Sequence[Any]) -> None:
        await load_prices(tx, sale, commands)
        self._counted += 1
        await eventually(self._may_go_on)

    async def _may_go_on(self) -> bool:
        if self._counted >= 2:
            return True
        return self._fenced and bool(
            await self._sale.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The engine's statements, to be weakened."""
    weakened = SimpleNamespace(**vars(records.SQL))
    monkeypatch.setattr(records, "SQL", weakened)
    yield weakened


async def granted_to_two_engines(sale: OnSale, monkeypatch: pytest.MonkeyPatch, *, fenced: bool) -> int:
    """How many of thirty get a code for five when two engines ask at the same moment."""
    rival = sale.another_engine()
    monkeypatch.setattr(load, "load_prices", TogetherAtTheCount(sale, fenced=fenced).load_prices)
    commands = thirty(sale, "SPRING")
    outcomes = await asyncio.gather(sale.run(*commands[::2]), sale.run(*commands[1::2], engine=rival))
    return count([answer.reply for outcome in outcomes for answer in outcome.answered], SeatsReserved)


async def test_the_fence_lets_nobody_count_what_somebody_else_is_using(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_code(sale, uses_max=5)
    assert await granted_to_two_engines(sale, monkeypatch, fenced=True) == 5


async def test_without_the_fence_more_than_five_would_have_it(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch, statements: SimpleNamespace
) -> None:
    """The negative control: no lock on the event, and a ledger that does not notice who has written meanwhile."""
    await a_code(sale, uses_max=5)
    assert "FOR UPDATE OF i" in statements.lock_event
    statements.lock_event = statements.lock_event.replace("FOR UPDATE OF i", "")
    loose = statements.append_ledger.replace(" AND ledger_seq = $2", "").replace(
        "SET ledger_seq = $2 +", "SET ledger_seq = ledger_seq +"
    )
    loose = loose.replace("RETURNING event_id", "RETURNING event_id, ledger_seq - cardinality($4::uuid[]) AS before")
    statements.append_ledger = loose.replace("$2 + e.position", "n.before + 0 * $2::bigint + e.position")
    assert await granted_to_two_engines(sale, monkeypatch, fenced=False) == 10


async def test_each_user_has_his_own_uses(sale: OnSale) -> None:
    await a_code(sale, uses_per_user_max=2)
    one, other = a_user(), a_user()
    wanted = [reserve(sale.event_id, one, [seat], code="SPRING") for seat in sale.seats[:3]]
    replies = await sale.ask(*wanted, reserve(sale.event_id, other, [sale.seats[5]], code="SPRING"))
    assert [type(reply).__name__ for reply in replies] == [
        "SeatsReserved",
        "SeatsReserved",
        "Rejected",
        "SeatsReserved",
    ]
    # In another batch they are found in the database.
    assert rejected_as([await sale.reserve(one, [sale.seats[6]], code="SPRING")]) == ["code_used_up"]
    assert isinstance(await sale.reserve(other, [sale.seats[7]], code="SPRING"), SeatsReserved)


@pytest.mark.parametrize("end", ["expired", "released", "not even looked at"])
async def test_a_hold_that_ends_gives_its_use_back(sale: OnSale, end: str) -> None:
    await a_code(sale, uses_max=1)
    user = a_user()
    first = await sale.reserve(user, [sale.seats[0]], code="SPRING")
    assert isinstance(first, SeatsReserved)
    assert rejected_as([await sale.reserve(a_user(), [sale.seats[1]], code="SPRING")]) == ["code_used_up"]
    if end == "released":
        await sale.ask_one(release(sale.event_id, user, first.hold_id))
    else:
        await sale.end_holds_now(first.hold_id)
    if end == "expired":
        await sale.run(expire(sale.event_id, first.hold_id))
    assert isinstance(await sale.reserve(a_user(), [sale.seats[1]], code="SPRING"), SeatsReserved)


async def test_what_was_paid_is_used_for_good(sale: OnSale) -> None:
    await a_code(sale, uses_max=1)
    user = a_user()
    hold = await sale.reserve(user, [sale.seats[0]], code="SPRING")
    assert isinstance(hold, SeatsReserved)
    await buys(sale, hold.hold_id, user)
    assert await uses_of(sale, "SPRING") == (1, 1)
    assert rejected_as([await sale.reserve(a_user(), [sale.seats[1]], code="SPRING")]) == ["code_used_up"]
    await sale.ledger_agrees_with_seats()


# ---- what it costs


async def test_tiers_and_fees_are_on_the_tickets_to_the_cent(sale: OnSale) -> None:
    await sale.pool.execute("UPDATE events SET fee_rate = 0.1, tax_rate = 0.19 WHERE id = $1", sale.event_id)
    await a_code(sale, sections=("Stalls",))
    user = a_user()
    tiers = ("Student", "", 'Child "under 7"', "")
    seats = [*sale.seats[:3], sale.seats[60]]
    reply = await sale.reserve(user, seats, tiers=tiers, code="SPRING")
    assert isinstance(reply, SeatsReserved), reply
    assert [seat.price for seat in reply.seats] == [Decimal(price) for price in ("18.00", "40.50", "4.50", "30.00")]
    await buys(sale, reply.hold_id, user)
    items = await sale.pool.fetch(
        "SELECT i.tier, i.price, i.fee, i.tax, i.reduction FROM order_items i JOIN seats s"
        " ON s.event_id = i.event_id AND s.id = i.seat_id WHERE i.event_id = $1 ORDER BY s.seat_index",
        sale.event_id,
    )
    assert [item["tier"] for item in items] == list(tiers)
    assert reply.parts is not None
    for name, total in (("price", reply.parts.total), ("fee", reply.parts.fee), ("tax", reply.parts.tax)):
        assert sum(item[name] for item in items) == total
    assert sum(item["reduction"] for item in items) == reply.parts.reduction == Decimal("7.00")
    await sale.ledger_agrees_with_seats()


async def test_the_best_available_can_be_had_in_tiers(sale: OnSale) -> None:
    command = reserve_best(sale.event_id, a_user(), 2, "Stalls", tiers=("Student", ""))
    reply = await sale.ask_one(command)
    assert isinstance(reply, SeatsReserved), reply
    assert reply.total == Decimal("65.00")


async def test_a_hold_keeps_its_price_whatever_becomes_of_the_seats(sale: OnSale) -> None:
    await a_code(sale)
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    await sale.pool.execute("UPDATE seats SET price = 99 WHERE event_id = $1", sale.event_id)
    reply = await sale.ask_one(apply_code(sale, user, hold.hold_id, "spring"))
    assert isinstance(reply, HoldRepriced), reply
    assert (reply.total, reply.reduction, reply.held_until) == (Decimal("81.00"), Decimal("9.00"), hold.held_until)
    stored = await sale.pool.fetchrow("SELECT * FROM holds WHERE id = $1", hold.hold_id)
    assert (stored["total"], stored["prices"]) == (Decimal("81.00"), [Decimal("40.50")] * 2)
    assert stored["reductions"] == [Decimal("4.50")] * 2
    await buys(sale, hold.hold_id, user)
    total = await sale.pool.fetchval("SELECT total_amount FROM orders WHERE event_id = $1", sale.event_id)
    assert total == Decimal("81.00")
    await sale.ledger_agrees_with_seats()


async def test_a_hold_takes_one_code_and_a_redelivered_command_its_own_answer(sale: OnSale) -> None:
    await a_code(sale, uses_max=5)
    await a_code(sale, "SUMMER")
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    command = apply_code(sale, user, hold.hold_id, "SPRING")
    first = await sale.ask_one(command)
    assert await sale.ask_one(command) == first
    replies = [await sale.ask_one(apply_code(sale, user, hold.hold_id, code)) for code in ("SPRING", "SUMMER")]
    assert rejected_as(replies) == ["code_already_applied"] * 2
    assert await uses_of(sale, "SPRING") == (1, 0)


async def test_reserving_and_applying_in_one_batch_is_saved_with_the_hold(sale: OnSale) -> None:
    await a_code(sale)
    user = a_user()
    wanted = reserve(sale.event_id, user, sale.seats[:1])
    await sale.run(wanted, apply_code(sale, user, wanted.command_id, "SPRING"))
    stored = await sale.pool.fetchrow("SELECT total, prices, code_id FROM holds WHERE id = $1", wanted.command_id)
    assert (stored["total"], stored["prices"]) == (Decimal("40.50"), [Decimal("40.50")])
    assert stored["code_id"] is not None


async def test_what_a_code_makes_free_is_sold_without_a_payment(sale: OnSale) -> None:
    await a_code(sale, percent_off=Decimal(100))
    user = a_user()
    hold = await sale.reserve(user, sale.seats[:2], code="SPRING")
    assert isinstance(hold, SeatsReserved)
    assert hold.total == 0
    reply = await sale.ask_one(check_out(sale.event_id, user, hold.hold_id))
    assert isinstance(reply, OrderCompleted), reply
    assert reply.parts is not None
    assert (reply.parts.total, reply.parts.reduction) == (0, Decimal("90.00"))
    assert await uses_of(sale, "SPRING") == (1, 1)
    await sale.ledger_agrees_with_seats()


# ---- the presale


async def replies_in_presale(sale: OnSale) -> list[AnyReply]:
    """Of somebody without a code, with one that takes something off, and with one that opens the presale."""
    await a_code(sale)
    await a_code(sale, "FANS", opens_presale=True, percent_off=Decimal(0))
    return await sale.ask(
        reserve(sale.event_id, a_user(), sale.seats[:1]),
        reserve(sale.event_id, a_user(), sale.seats[:1], code="SPRING"),
        reserve(sale.event_id, a_user(), sale.seats[:1], code="fans"),
    )


async def test_in_the_presale_only_a_code_that_opens_it_lets_in(sale: OnSale) -> None:
    await begin_presale(sale)
    replies = await replies_in_presale(sale)
    assert rejected_as(replies[:2]) == ["code_needed", "code_needed"]
    assert isinstance(replies[2], SeatsReserved)


async def test_before_the_presale_no_code_lets_in(sale: OnSale) -> None:
    await sale.pool.execute(
        "UPDATE events SET presale_date = now() + interval '1 hour', on_sale_date = now() + interval '2 hours' WHERE id = $1",
        sale.event_id,
    )
    assert rejected_as(await replies_in_presale(sale)) == ["sale_not_open"] * 3


async def test_in_the_presale_the_code_is_the_pass_and_afterwards_the_waiting_room_is_asked(sale: OnSale) -> None:
    await begin_presale(sale, high_demand=True)
    replies = await replies_in_presale(sale)
    assert isinstance(replies[2], SeatsReserved), replies
    best = reserve_best(sale.event_id, a_user(), 2, code="FANS")
    assert isinstance(await sale.ask_one(best), SeatsReserved)
    await sale.pool.execute("UPDATE events SET on_sale_date = now() WHERE id = $1", sale.event_id)
    late = await sale.reserve(a_user(), sale.seats[5:6], code="FANS")
    assert rejected_as([late]) == ["admission_unknown"], "its room is asked, and does not know this event"


async def test_an_event_in_presale_has_its_own_queue_and_fresh_seats(sale: OnSale, redis: Redis) -> None:
    key = f"availability:{{{sale.event_id}}}"

    async def looks_like() -> tuple[bool, int]:
        """Whether it is to have a queue of its own, and for how many seconds its seats are shown as they are."""
        await redis.delete(key)
        await AvailabilityCache(sale.pool, redis).find(sale.event_id)
        return sale.event_id in await find_open_sales(sale.pool, limit=100_000), await redis.ttl(key)

    await sale.pool.execute(
        "UPDATE events SET status = 'upcoming', presale_date = now() + interval '10 seconds',"
        " on_sale_date = now() + interval '1 hour' WHERE id = $1",
        sale.event_id,
    )
    is_open, seconds = await looks_like()
    assert (is_open, seconds <= 10) == (False, True), "what is shown must not outlive the opening"
    await begin_presale(sale)
    is_open, seconds = await looks_like()
    assert (is_open, seconds <= 5) == (True, True)


# ---- the organiser's side


async def test_a_batch_of_codes_is_made_in_a_moment_and_found_again_by_its_key(sale: OnSale) -> None:
    made, organiser = Made(uuid4(), "a body"), a_user()
    terms = terms_of_a_code(opens_presale=True, uses_max=1)

    async def make(made: Made) -> Any:
        return await make_up_codes(sale.pool, sale.event_id, made, terms, count=10_000, prefix="FANS", by=organiser)

    async with asyncio.timeout(5):
        codes = await make(made)
    assert len({code.code for code in codes}) == 10_000
    assert all(code.code.startswith("FANS-") for code in codes)
    assert await make(made) == codes
    assert await make(Made(made.id, "another body")) == "key_reused"
    deeds = await sale.pool.fetch("SELECT action, user_id, subject FROM audit_log WHERE event_id = $1", sale.event_id)
    assert [tuple(deed) for deed in deeds] == [("make_codes", organiser, "10000 codes FANS…")]


async def test_a_code_is_taken_once_and_only_for_sections_and_events_that_are_there(sale: OnSale) -> None:
    await a_code(sale, "spring")

    async def make(code: str, event_id: Any = sale.event_id, **fields: Any) -> Any:
        return await make_code(sale.pool, event_id, Made(uuid4(), ""), code, terms_of_a_code(**fields), by=a_user())

    assert await make("SPRING") == "code_taken"
    assert await make("OTHER", sections=("Stalls", "Garden")) == "sections_unknown"
    assert await make("OTHER", uuid4()) == "event_unknown"


async def test_a_disabled_code_counts_no_more_and_what_was_reserved_with_it_stays(sale: OnSale) -> None:
    code = await a_code(sale)
    user = a_user()
    hold = await sale.reserve(user, sale.seats[:1], code="SPRING")
    assert isinstance(hold, SeatsReserved)
    use = CodeUse(uses_max=3, uses_per_user_max=None, valid_from=None, valid_until=None)
    changed = await change_code(sale.pool, sale.event_id, code.id, use, disabled=True, by=user)
    assert changed is not None
    assert (changed.uses_max, changed.use_count, changed.disabled_at is None) == (3, 1, False)
    assert rejected_as([await sale.reserve(a_user(), sale.seats[1:2], code="SPRING")]) == ["code_unknown"]
    await buys(sale, hold.hold_id, user)
    total = await sale.pool.fetchval("SELECT total_amount FROM orders WHERE event_id = $1", sale.event_id)
    assert total == Decimal("40.50")
    again = await change_code(sale.pool, sale.event_id, code.id, use, disabled=False, by=user)
    assert again is not None
    assert again.disabled_at is None
    assert await change_code(sale.pool, uuid4(), code.id, use, disabled=False, by=user) is None  # type: ignore[arg-type]
    deeds = await sale.pool.fetch(
        "SELECT before->>'usesMax' AS before, after->>'usesMax' AS after FROM audit_log"
        " WHERE event_id = $1 AND action = 'change_code' ORDER BY id",
        sale.event_id,
    )
    assert [tuple(deed) for deed in deeds] == [(None, "3"), ("3", "3")]
