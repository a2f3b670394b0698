"""THE NEGATIVE CONTROLS. Is each guard against a double sale enough alone, and is the oversell seen when none is left?

The race is forced, not hoped for: one engine freezes between reading a free seat and writing it, while another engine
sells that seat from beginning to end; then the first one wakes up. A test of a guard that cannot see what happens without
the guard is worth nothing, so each of these looks at both.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import asyncpg
import pytest

from consumers.event_commands.engine import Engine
from contracts.ids import SeatId
from contracts.replies import OrderCompleted, SeatsReserved
from contracts.settings import Settings
from db import failpoints
from db import sale as records
from db.migrate import migrate
from db.postgres import open_pool
from tests.builders import OnSale, a_user, an_event_on_sale, check_out, count, rejected_as, release, reserve, settle
from tests.conftest import AnEvent
from tests.eventually import eventually
from tests.seat_lock_filters import LyingFilter, NoFilter

# ---- the guards, and how each is switched off


def without_fence(sql: SimpleNamespace) -> None:
    """Engines may interleave on one event."""
    sql.lock_event = _without(sql.lock_event, "FOR UPDATE OF i")


def without_row_lock(sql: SimpleNamespace) -> None:
    """A seat that is being given away looks free."""
    sql.lock_seats = _without(sql.lock_seats, "FOR UPDATE SKIP LOCKED")


def without_fence_column(sql: SimpleNamespace) -> None:
    """A write that knows less than the record overwrites it."""
    sql.save_seats = _without(sql.save_seats, "AND s.fence = c.fence_read")


def without_ledger_numbers(sql: SimpleNamespace) -> None:
    """Entries are numbered on from wherever the ledger stands, not from where it was read."""
    loose = _without(sql.append_ledger, " AND ledger_seq = $2")
    loose = loose.replace("SET ledger_seq = $2 +", "SET ledger_seq = ledger_seq +")
    loose = loose.replace("RETURNING event_id", "RETURNING event_id, ledger_seq - cardinality($4::uuid[]) AS before")
    sql.append_ledger = loose.replace("$2 + e.position", "n.before + 0 * $2::bigint + e.position")


def _without(text: str, guard: str) -> str:
    assert guard in text, f"the guard `{guard}` is gone, or has been rewritten: then so must this test be"
    return text.replace(guard, "")


INDEX = "a_seat_is_sold_once"
IN_STATEMENTS: dict[str, Callable[[SimpleNamespace], None]] = {
    "fence": without_fence,
    "row lock": without_row_lock,
    "fence column": without_fence_column,
    "ledger numbers": without_ledger_numbers,
}
GUARDS = (*IN_STATEMENTS, INDEX)


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(redis_timeout_seconds=10.0)


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[OnSale]:
    """An event in a database of its own, from which guards can be taken without anybody else noticing, and no Redis."""
    name = f"guards_{uuid4().hex}"
    server, _, _ = settings.postgres_url.rpartition("/")
    own = settings.model_copy(update={"postgres_url": f"{server}/{name}"})
    admin = await asyncpg.connect(settings.postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        await migrate(own.postgres_url)
        pool = await open_pool(own, application_name=name)
        house = await an_event_on_sale(own, pool, seats=10)
        await house.close()
        house.engine.seat_locks = NoFilter()  # type: ignore[assignment]
        yield house
        pool.terminate()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture(autouse=True)
def _failpoints_are_disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


async def race_without(house: OnSale, *missing: str, seat: SeatId, gate: Path) -> int:
    """How many of two buyers get a ticket for the same seat when one of the engines freezes and these guards are missing."""
    rival = house.another_engine()
    await rival.seat_locks.close()
    rival.seat_locks = NoFilter()  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patch:
        weakened = SimpleNamespace(**vars(records.SQL))
        for guard in missing:
            if guard == INDEX:
                await house.pool.execute(f"DROP INDEX IF EXISTS {INDEX}")
            else:
                IN_STATEMENTS[guard](weakened)
        patch.setattr(records, "SQL", weakened)
        return await _freeze_one_engine_while_the_other_sells(house, rival, seat, gate)


async def _freeze_one_engine_while_the_other_sells(house: OnSale, rival: Engine, seat: SeatId, gate: Path) -> int:
    failpoints.disarm()
    failpoints.arm(f"engine.in_transaction=1*pause({gate})")
    frozen = asyncio.create_task(buys(house, house.engine, seat))
    await eventually(lambda: failpoints.hits().get("engine.in_transaction"))
    quick = asyncio.create_task(buys(house, rival, seat))

    async def has_come_as_far_as_it_can() -> bool:
        return quick.done() or await _somebody_waits_for_a_lock(house)

    await eventually(has_come_as_far_as_it_can)
    await asyncio.to_thread(gate.touch)
    return sum(await asyncio.gather(frozen, quick))


async def buys(house: OnSale, engine: Engine, seat: SeatId) -> bool:
    """Whether somebody who asks this engine ends up with a ticket for the seat: reserve, check out, settle."""
    user = a_user()
    wanted = reserve(house.event_id, user, [seat])
    reserved = await house.run(wanted, engine=engine)
    if not count([answer.reply for answer in reserved.answered], SeatsReserved):
        return False
    checkout = check_out(house.event_id, user, wanted.command_id)
    await house.run(checkout, engine=engine)
    settled = await house.run(settle(house.event_id, checkout.command_id), engine=engine)
    return any(isinstance(late.reply, OrderCompleted) for late in settled.late_replies)


async def _somebody_waits_for_a_lock(house: OnSale) -> bool:
    waiting = await house.pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_setting('application_name')"
        " AND wait_event_type = 'Lock'"
    )
    return bool(waiting)


async def alone_is_enough(house: OnSale, guard: str, folder: Path, *, without_it: str) -> None:
    """With this guard alone a seat has one buyer; with none at all it has two. `without_it` says what breaks."""
    others = [other for other in GUARDS if other != guard]
    buyers = await race_without(house, *others, seat=house.seats[0], gate=folder / "first")
    assert (buyers, await house.seats_sold_twice()) == (1, 0), (
        f"the guard `{guard}` alone did not prevent: {without_it}"
    )
    buyers = await race_without(house, *GUARDS, seat=house.seats[1], gate=folder / "second")
    assert (buyers, await house.seats_sold_twice()) == (2, 1), f"this test is blind: it does not see that {without_it}"


# ---- each of them


async def test_the_fence_alone_is_enough(house: OnSale, tmp_path: Path) -> None:
    """Without `FOR UPDATE` on the event's record, a second engine reads seats that the first is just giving away."""
    await alone_is_enough(house, "fence", tmp_path, without_it="two engines on one event sell the same seat")


async def test_the_row_lock_alone_is_enough(house: OnSale, tmp_path: Path) -> None:
    """Without `FOR UPDATE SKIP LOCKED` on the seats, a seat in another transaction's hands looks free."""
    await alone_is_enough(house, "row lock", tmp_path, without_it="a seat that is being given away is given away again")


async def test_the_fence_column_alone_is_enough(house: OnSale, tmp_path: Path) -> None:
    """Without `fence = fence_read` in the write, an engine that wakes up overwrites what was sold while it was frozen."""
    await alone_is_enough(house, "fence column", tmp_path, without_it="a stale write takes a sold seat from its owner")


async def test_the_ledgers_numbers_alone_are_enough(house: OnSale, tmp_path: Path) -> None:
    """Without `ledger_seq = $3` when the ledger goes on, an engine that has missed entries is not found out."""
    await alone_is_enough(house, "ledger numbers", tmp_path, without_it="an engine that missed a sale sells once more")


async def test_the_unique_index_alone_is_enough(house: OnSale, tmp_path: Path) -> None:
    """Without the unique index on live items, nothing in the schema itself stands against a second sale of a seat."""
    await alone_is_enough(house, INDEX, tmp_path, without_it="the schema accepts a second live item of one seat")


async def test_the_record_count_tells_a_stale_write(
    house: OnSale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without counting the records that a write changed, one that changed none counts as done: a hold without its seat."""
    others = [guard for guard in GUARDS if guard != "fence column"]
    await race_without(house, *others, seat=house.seats[0], gate=tmp_path / "first")
    await house.ledger_agrees_with_seats()
    monkeypatch.setattr(records, "expect_changed", lambda *_: None)
    await race_without(house, *others, seat=house.seats[1], gate=tmp_path / "second")
    with pytest.raises(AssertionError, match="does not have its seat"):
        await house.ledger_agrees_with_seats()


@pytest.mark.parametrize("guard", GUARDS)
async def test_any_one_guard_may_be_missing(house: OnSale, guard: str, tmp_path: Path) -> None:
    """Without one guard the others still prevent the double sale, and the books still agree."""
    buyers = await race_without(house, guard, seat=house.seats[0], gate=tmp_path / "gate")
    assert (buyers, await house.seats_sold_twice()) == (1, 0), f"without `{guard}` the other guards did not hold"
    await house.ledger_agrees_with_seats()


async def test_the_proof_sees_what_the_guards_would_have_prevented(house: OnSale, tmp_path: Path) -> None:
    """Without the check that the books agree, an oversell would only be noticed at the door."""
    await race_without(house, *GUARDS, seat=house.seats[0], gate=tmp_path / "gate")
    with pytest.raises(AssertionError, match="sold"):
        await house.ledger_agrees_with_seats()


# ---- the index, without any engine


async def _sell_again(house: OnSale, seat: SeatId) -> None:
    """A second completed order for a sold seat, written past everything we have."""
    async with house.pool.acquire() as connection, connection.transaction():
        order_id = uuid4()
        await connection.execute(
            "INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)"
            " VALUES ($1, $2, $3, $4, 'completed', 45, 'EUR', now(), now())",
            *(house.event_id, order_id, a_user(), uuid4()),
        )
        await connection.execute(
            "INSERT INTO order_items (event_id, order_id, seat_id, price) VALUES ($1, $2, $3, 45)",
            *(house.event_id, order_id, seat),
        )


async def test_the_schema_itself_refuses_a_second_live_item_of_a_seat(house: OnSale) -> None:
    """Without the index, whoever can write to the database can sell a seat twice."""
    await house.buy(a_user(), house.seats[:1])
    with pytest.raises(asyncpg.UniqueViolationError, match=INDEX):
        await _sell_again(house, house.seats[0])
    await house.pool.execute(f"DROP INDEX {INDEX}")
    await _sell_again(house, house.seats[0])
    assert await house.seats_sold_twice() == 1, "this test is blind: without the index the second item must go through"


async def test_a_seat_that_was_given_back_may_be_sold_again(house: OnSale) -> None:
    """With an index on all items instead of the live ones, a refunded seat could never be sold again."""
    await house.buy(a_user(), house.seats[:1])
    await house.pool.execute("UPDATE order_items SET live = false")
    await _sell_again(house, house.seats[0])
    assert await house.seats_sold_twice() == 0


# ---- what is no guard


@pytest.mark.parametrize("filter_is", ["off", "away"])
async def test_without_redis_nothing_is_sold_twice(sale: OnSale, filter_is: str) -> None:
    """Without the filter the losers cost the database some work, and that is all."""
    engines = [sale.engine, *(sale.another_engine() for _ in range(2))]
    for engine in engines:
        if filter_is == "off":
            await engine.seat_locks.close()
            engine.seat_locks = NoFilter()  # type: ignore[assignment]
        else:
            for _ in range(sale.settings.redis_breaker_failures):
                engine.lock_breaker.failed()
            assert not engine.lock_breaker.allows()
    commands = [reserve(sale.event_id, a_user(), sale.seats[:2]) for _ in range(30)]
    outcomes = await asyncio.gather(
        *(sale.run(*commands[start::3], engine=engine) for start, engine in enumerate(engines))
    )
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert count(replies, SeatsReserved) == 1, "the filter was needed for correctness"
    assert rejected_as(replies) == ["seats_unavailable"] * 29
    await sale.ledger_agrees_with_seats()


async def test_a_filter_that_lies_keeps_nobody_from_a_free_seat_and_sells_none_twice(sale: OnSale) -> None:
    """Locks that nobody holds are looked through by who knows the seats; PostgreSQL decides, once per seat."""
    await sale.engine.seat_locks.close()
    sale.engine.seat_locks = LyingFilter()  # type: ignore[assignment]
    replies = await sale.ask(*(reserve(sale.event_id, a_user(), [seat]) for seat in sale.seats[:5]))
    assert count(replies, SeatsReserved) == 5
    again = await sale.ask(*(reserve(sale.event_id, a_user(), [seat]) for seat in sale.seats[:5]))
    assert rejected_as(again) == ["seats_unavailable"] * 5
    await sale.ledger_agrees_with_seats()


async def test_a_retry_of_what_was_given_back_locks_nobody_out(sale: OnSale) -> None:
    """With locks kept for a hold that is over, anybody could close a house by repeating reservations they gave back."""
    user = a_user()
    command = reserve(sale.event_id, user, sale.seats[:2])
    await sale.run(command)
    await sale.run(release(sale.event_id, user, command.command_id))
    assert isinstance(await sale.ask_one(command), SeatsReserved), "the answer to a retry is the first answer"
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved), "its seats are free all the same"


async def test_a_key_that_is_used_again_for_other_seats_locks_nobody_out(sale: OnSale) -> None:
    """With locks kept for a refused command, a used key would close seats that nobody holds."""
    command = reserve(sale.event_id, a_user(), sale.seats[:2], request_hash="one")
    await sale.run(command)
    other = command.model_copy(update={"seat_ids": tuple(sale.seats[1:4]), "request_hash": "other"})
    assert rejected_as([await sale.ask_one(other)]) == ["idempotency_key_reused"]
    assert isinstance(await sale.reserve(a_user(), sale.seats[2:4]), SeatsReserved)
