"""Does what an organiser does with the seats hold against buyers who are at it too, on real servers?"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

import db.outbox
from consumers.event_commands.outcome import Outcome
from consumers.rules import house
from contracts import wire
from contracts.commands import ORGANISERS_SEATS_MAX, ChangePrices, GiveSeats, ReturnSeats, WithholdSeats
from contracts.domain_events import NoticesDue, OrdersConfirmed
from contracts.ids import OrderId, SeatId, UserId
from contracts.replies import (
    AnyReply,
    OrderCompleted,
    PricesChanged,
    Rejected,
    SeatsReserved,
    SeatsReturned,
    SeatsWithheld,
)
from contracts.wire import MESSAGE_MAX_BYTES, decode_domain_event
from db import failpoints, payments
from db import sale as records
from db.proof import read_books
from ops.payment_simulator.log_reader import IntentOnLog, MoneyLog
from ops.verify import examine, verify_event
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    check_out,
    count,
    rejected_as,
    reserve,
    reserve_best,
    settle,
    told_of_seats,
)
from tests.conftest import AnEvent
from tests.eventually import eventually

ADMIN = a_user()


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(redis_timeout_seconds=10.0)


def withhold(sale: OnSale, seats: Sequence[SeatId], **fields: Any) -> WithholdSeats:
    """Keep these back."""
    return WithholdSeats(**_ask(sale, seats, fields))


def give_back(sale: OnSale, seats: Sequence[SeatId], **fields: Any) -> ReturnSeats:
    """Put these on sale again."""
    return ReturnSeats(**_ask(sale, seats, fields))


def reprice(sale: OnSale, seats: Sequence[SeatId], price: str, **fields: Any) -> ChangePrices:
    """These cost that from now on."""
    return ChangePrices(**_ask(sale, seats, {"price": Decimal(price), **fields}))


def give(sale: OnSale, seats: Sequence[SeatId], to: UserId, **fields: Any) -> GiveSeats:
    """These are his, for nothing."""
    return GiveSeats(**_ask(sale, seats, {"to_user_id": to, **fields}))


def _ask(sale: OnSale, seats: Sequence[SeatId], fields: dict[str, Any]) -> dict[str, Any]:
    ids = {"command_id": a_command_id(), "correlation_id": a_command_id(), "event_id": sale.event_id}
    return {**ids, "user_id": ADMIN, "seat_ids": tuple(seats), **fields}


async def count_of(sale: OnSale, status: str) -> int:
    """How many seats are that."""
    return list((await sale.statuses()).values()).count(status)


async def conserves_seats(sale: OnSale) -> None:
    """available + held + sold + withheld = capacity, in the seats and in the ledger, and all the rest of the proof; the
    provider's log, in which nothing is, included."""
    with NamedTemporaryFile() as empty:
        report = await verify_event(sale.pool, sale.event_id, Path(empty.name))
    assert report.is_clean, report


# ---- keeping back, and putting on sale again


async def test_withheld_seats_are_nobodys_and_come_back_to_be_bought_at_once(sale: OnSale) -> None:
    block = sale.seats[:20]
    assert await sale.ask_one(withhold(sale, block)) == SeatsWithheld(seat_count=20)
    assert (await count_of(sale, "withheld"), await count_of(sale, "available")) == (20, 40)
    assert rejected_as([await sale.reserve(a_user(), block[:1])]) == ["seats_unavailable"]
    await conserves_seats(sale)
    assert await sale.ask_one(give_back(sale, block)) == SeatsReturned(seat_count=20)
    await sale.buy(a_user(), block[:2])
    assert (await count_of(sale, "withheld"), await count_of(sale, "sold")) == (0, 2)
    await sale.ledger_agrees_with_seats()


async def test_the_best_seats_are_chosen_among_those_that_are_not_withheld(sale: OnSale) -> None:
    # The engine keeps its map from here on, and must hear what becomes of the seats.
    await sale.run(reserve_best(sale.event_id, a_user(), 1))
    best = [seat for seat, status in (await sale.statuses()).items() if status == "available"]
    front = [seat for seat in sale.seats[:10] if seat in best]
    await sale.ask_one(withhold(sale, front))
    reply = await sale.ask_one(reserve_best(sale.event_id, a_user(), 2))
    assert isinstance(reply, SeatsReserved)
    assert not {seat.seat_id for seat in reply.seats} & set(front)
    await sale.ask_one(withhold(sale, [seat for seat, s in (await sale.statuses()).items() if s == "available"]))
    assert rejected_as([await sale.ask_one(reserve_best(sale.event_id, a_user(), 1))]) == ["not_enough_seats"]
    await sale.ask_one(give_back(sale, front))
    assert isinstance(await sale.ask_one(reserve_best(sale.event_id, a_user(), 2)), SeatsReserved)
    await sale.ledger_agrees_with_seats()


async def test_a_lock_that_was_left_behind_neither_opens_a_withheld_seat_nor_closes_a_returned_one(
    sale: OnSale, redis: Redis
) -> None:
    seat, user = sale.seats[0], a_user()
    command = reserve(sale.event_id, user, [seat])
    key = f"seat_lock:{{{sale.event_id}}}:{seat}"
    await sale.ask_one(withhold(sale, [seat]))
    # As a consumer leaves it that dies between lock and commit: one that would let this very command pass.
    await redis.set(key, str(command.command_id), px=600_000)
    assert rejected_as([await sale.ask_one(command)]) == ["seats_unavailable"]
    await redis.set(key, str(uuid4()), px=600_000)
    assert rejected_as([await sale.reserve(a_user(), [seat])]) == ["seats_unavailable"]
    await sale.ask_one(give_back(sale, [seat]))
    assert isinstance(await sale.reserve(a_user(), [seat]), SeatsReserved)
    await sale.ledger_agrees_with_seats()


async def test_a_hold_that_is_over_gives_way_and_one_that_is_alive_does_not(sale: OnSale) -> None:
    over, alive = await sale.hold(a_user(), sale.seats[:2]), await sale.hold(a_user(), sale.seats[2:3])
    await sale.end_holds_now(over.hold_id)
    reply = await sale.ask_one(withhold(sale, sale.seats[:4]))
    assert isinstance(reply, Rejected)
    assert (reply.code.value, reply.seat_ids) == ("seats_unavailable", (sale.seats[2],))
    assert await count_of(sale, "withheld") == 0, "all or none"
    assert isinstance(await sale.ask_one(withhold(sale, sale.seats[:2])), SeatsWithheld)
    assert isinstance(await sale.ask_one(check_out(sale.event_id, a_user(), over.hold_id)), Rejected)
    assert await sale.status_of("holds", alive.hold_id) == "active"
    await conserves_seats(sale)


async def test_what_is_delivered_twice_is_done_once_and_noted_once(sale: OnSale) -> None:
    command = withhold(sale, sale.seats[:3], request_hash="the body")
    first = await sale.ask_one(command)
    await sale.ask_one(give_back(sale, sale.seats[:3]))
    assert await sale.ask_one(command) == first
    assert await count_of(sale, "withheld") == 0, "the answer again, and nothing else"
    other = command.model_copy(update={"request_hash": "another body"})
    assert rejected_as([await sale.ask_one(other)]) == ["idempotency_key_reused"]
    noted = await sale.pool.fetch(
        "SELECT user_id, action, subject, before, after FROM audit_log WHERE event_id = $1 ORDER BY id", sale.event_id
    )
    assert [(entry["user_id"], entry["action"]) for entry in noted] == [
        (ADMIN, "withhold_seats"),
        (ADMIN, "return_seats"),
    ]
    assert noted[0]["subject"] == "3 seats: Stalls A 1–3"
    assert json.loads(noted[0]["after"])["seats"] == "Stalls A 1–3"


async def test_without_redis_only_what_buyers_want_is_locked_one_by_one(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock for each seat of a block of thousands would be more than PostgreSQL has room for in all."""
    for _ in range(sale.settings.redis_breaker_failures):
        sale.engine.lock_breaker.failed()
    locked: list[set[Any]] = []
    try_seat_locks = records.try_seat_locks

    async def note(tx: Any, event_id: Any, seat_ids: Any) -> Any:
        locked.append(set(seat_ids))
        return await try_seat_locks(tx, event_id, seat_ids)

    monkeypatch.setattr(records, "try_seat_locks", note)
    replies = await sale.ask(
        withhold(sale, sale.seats[10:]),
        reserve(sale.event_id, a_user(), sale.seats[:1]),
        reserve(sale.event_id, a_user(), sale.seats[10:11]),
    )
    assert locked == [{sale.seats[0], sale.seats[10]}]
    assert [type(reply) for reply in replies[:2]] == [SeatsWithheld, SeatsReserved]
    assert rejected_as(replies) == ["seats_unavailable"]
    await sale.ledger_agrees_with_seats()


# ---- the race


async def test_of_an_organiser_and_a_buyer_who_want_the_same_seat_exactly_one_gets_it(
    sale: OnSale, tmp_path: Path
) -> None:
    for first in ("buyer", "organiser"):
        kept, bought = await _race(sale, sale.seats[:1], first=first, gate=tmp_path / first)
        assert (kept, bought) == ((False, True) if first == "buyer" else (True, False))
        await _clear(sale, kept=kept)
    await conserves_seats(sale)


async def test_without_the_look_at_the_seat_both_would_get_it_and_the_proof_says_so(
    sale: OnSale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the guard off, the same race."""
    monkeypatch.setattr(house, "_is_free_for_us", lambda *_: True)
    assert await _race(sale, sale.seats[:1], first="buyer", gate=tmp_path / "gate") == (True, True)
    report = await verify_event(sale.pool, sale.event_id, None)
    assert not report.is_clean


async def _race(sale: OnSale, seats: Sequence[SeatId], *, first: str, gate: Path) -> tuple[bool, bool]:
    """Whether the organiser and whether the buyer was told that the seat is his. One engine freezes inside its transaction,
    and the other one comes; then it wakes up."""
    kept = withhold(sale, seats)
    bought = reserve(sale.event_id, a_user(), seats)
    failpoints.disarm()
    failpoints.arm(f"engine.in_transaction=1*pause({gate})")
    try:
        mine, theirs = (bought, kept) if first == "buyer" else (kept, bought)
        frozen = asyncio.create_task(sale.run(mine))
        await eventually(lambda: failpoints.hits().get("engine.in_transaction"))
        other = asyncio.create_task(sale.run(theirs, engine=sale.another_engine()))

        async def has_come_as_far_as_it_can() -> bool:
            return other.done() or await _somebody_waits_for_a_lock(sale)

        await eventually(has_come_as_far_as_it_can)
        await asyncio.to_thread(gate.touch)
        outcomes = await asyncio.gather(frozen, other)
    finally:
        failpoints.disarm()
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    return count(replies, SeatsWithheld) == 1, count(replies, SeatsReserved) == 1


async def _somebody_waits_for_a_lock(sale: OnSale) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'"
    return bool(await sale.pool.fetchval(sql))


async def _clear(sale: OnSale, *, kept: bool) -> None:
    if kept:
        assert isinstance(await sale.ask_one(give_back(sale, sale.seats[:1])), SeatsReturned)
        return
    holds = await sale.pool.fetch("SELECT id FROM holds WHERE event_id = $1 AND status = 'active'", sale.event_id)
    await sale.end_holds_now(*(hold["id"] for hold in holds))


# ---- prices


async def test_a_buyers_price_stays_while_the_organiser_reprices(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    sold = await sale.buy(a_user(), sale.seats[2:3])
    reply = await sale.ask_one(reprice(sale, sale.seats[:10], "60.00"))
    assert reply == PricesChanged(seat_count=9, unchanged_count=1)
    checkout = check_out(sale.event_id, user, hold.hold_id)
    await sale.run(checkout)
    outcome = await sale.run(settle(sale.event_id, checkout.command_id))
    paid = outcome.late_replies[0].reply
    assert isinstance(paid, OrderCompleted)
    assert ([str(t.seat.price) for t in paid.tickets], str(paid.total)) == (["45.00", "45.00"], "90.00")
    assert str((await sale.hold(a_user(), sale.seats[3:5])).total) == "120.00"
    assert await _item_prices(sale, sold) == ["45.00"]
    await sale.ledger_agrees_with_seats()


async def _item_prices(sale: OnSale, order_id: OrderId) -> list[str]:
    sql = "SELECT price FROM order_items WHERE event_id = $1 AND order_id = $2"
    return [str(item["price"]) for item in await sale.pool.fetch(sql, sale.event_id, order_id)]


async def test_whoever_holds_seats_since_before_holds_had_prices_pays_what_they_cost_then(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    await sale.pool.execute("UPDATE holds SET prices = NULL WHERE event_id = $1", sale.event_id)
    await sale.ask_one(reprice(sale, sale.seats, "60.00"))
    checkout = check_out(sale.event_id, user, hold.hold_id)
    await sale.run(checkout)
    await sale.run(settle(sale.event_id, checkout.command_id))
    assert await _item_prices(sale, OrderId(checkout.command_id)) == ["45.00", "45.00"]
    await sale.ledger_agrees_with_seats()


async def test_the_catalogues_prices_follow_in_the_same_transaction(sale: OnSale) -> None:
    await sale.buy(a_user(), sale.seats[:1])
    before = await _catalogue_prices(sale)
    assert before[:2] == ("45.00", "45.00")
    await sale.ask_one(reprice(sale, sale.seats[1:10], "60.00"))
    await sale.ask_one(reprice(sale, sale.seats[10:], "50.00"))
    low, high, version = await _catalogue_prices(sale)
    assert (low, high, version) == ("50.00", "60.00", before[2] + 2), "for 45.00 there is nothing to be had any more"


async def _catalogue_prices(sale: OnSale) -> tuple[str, str, int]:
    sql = "SELECT price_min, price_max, version FROM events WHERE id = $1"
    record = await sale.pool.fetchrow(sql, sale.event_id)
    return str(record["price_min"]), str(record["price_max"]), record["version"]


async def test_new_prices_are_told_to_everybody_who_looks_at_the_seats(sale: OnSale) -> None:
    (message,) = told_of_seats(await sale.run(reprice(sale, sale.seats[:3], "60")))
    assert message.first_seq == message.last_seq + 1
    assert [(change.seat_index, str(change.price)) for change in message.changes] == [
        (0, "60.00"),
        (1, "60.00"),
        (2, "60.00"),
    ]
    (message,) = told_of_seats(await sale.run(withhold(sale, sale.seats[:1])))
    assert [(change.status, change.price) for change in message.changes] == [("withheld", None)]


# ---- for nothing


class Outbox:
    """What the engine has written into the outbox; the table itself is emptied by other tests' relays."""

    def __init__(self, record: Callable[..., Any]) -> None:
        self._record = record
        self.written: list[Any] = []

    async def record_messages(self, tx: Any, messages: Sequence[Any]) -> None:
        await self._record(tx, messages)
        self.written += [decode_domain_event(message.body) for message in messages]


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """The engine's outbox, with somebody who reads along."""
    read_along = Outbox(db.outbox.record_messages)
    monkeypatch.setattr(db.outbox, "record_messages", read_along.record_messages)
    return read_along


async def test_given_tickets_are_a_whole_order_without_a_payment_and_the_books_are_clean(
    sale: OnSale, outbox: Outbox
) -> None:
    guest = a_user()
    await sale.ask_one(withhold(sale, sale.seats[:2]))
    command = give(sale, sale.seats[:3], guest, reason="she sings")
    reply = await sale.ask_one(command)
    assert isinstance(reply, OrderCompleted)
    assert len(reply.tickets) == 3
    record = await sale.pool.fetchrow(
        "SELECT o.kind, o.status, o.total_amount, o.user_id, o.completed_at, p.status AS payment, p.amount,"
        " p.payment_method, p.provider_key, p.intent_id, h.status AS hold"
        " FROM orders o JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id"
        " JOIN holds h ON h.event_id = o.event_id AND h.id = o.hold_id WHERE o.event_id = $1 AND o.id = $2",
        *(sale.event_id, command.command_id),
    )
    assert (record["kind"], record["status"], record["user_id"], record["hold"]) == (
        "complimentary",
        "completed",
        guest,
        "converted",
    )
    assert (record["payment"], record["amount"], record["payment_method"]) == ("captured", 0, "none")
    assert (record["provider_key"], record["intent_id"]) == (str(command.command_id), None)
    (notices,) = outbox.written
    assert isinstance(notices, NoticesDue)
    assert [(one.kind, one.user_id, len(one.ticket_ids)) for one in notices.notices] == [("tickets_given", guest, 3)]
    assert rejected_as([await sale.reserve(a_user(), sale.seats[:1])]) == ["seats_unavailable"]
    await conserves_seats(sale)


async def test_what_is_given_twice_under_one_id_is_given_once(sale: OnSale) -> None:
    command = give(sale, sale.seats[:2], a_user())
    first = await sale.ask_one(command)
    assert await sale.ask_one(command) == first
    await sale.pool.execute("DELETE FROM command_inbox WHERE event_id = $1", sale.event_id)
    assert await sale.ask_one(command) == first, "found by its order"
    assert await sale.pool.fetchval("SELECT count(*) FROM tickets WHERE event_id = $1", sale.event_id) == 2
    reply = await sale.ask_one(give(sale, sale.seats[1:3], a_user()))
    assert isinstance(reply, Rejected)
    assert reply.seat_ids == (sale.seats[1],)


async def test_more_may_be_given_than_bought_and_then_nothing_more_is_bought(an_event: AnEvent) -> None:
    sale, guest = await an_event(ticket_limit=2), a_user()
    assert isinstance(await sale.ask_one(give(sale, sale.seats[:4], guest)), OrderCompleted)
    assert rejected_as([await sale.reserve(guest, sale.seats[5:6])]) == ["ticket_limit_exceeded"]


async def test_a_checkout_of_free_seats_is_answered_at_once_and_asks_nobody_for_money(
    sale: OnSale, outbox: Outbox
) -> None:
    await sale.ask_one(reprice(sale, sale.seats[:10], "0.00"))
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    outbox.written.clear()
    checkout = check_out(sale.event_id, user, hold.hold_id, request_hash="the body")
    reply = await sale.ask_one(checkout)
    assert isinstance(reply, OrderCompleted)
    assert (str(reply.total), len(reply.tickets)) == ("0.00", 2)
    (confirmed,) = outbox.written
    assert isinstance(confirmed, OrdersConfirmed)
    again = checkout.model_copy(update={"correlation_id": a_command_id()})
    assert await sale.ask_one(again) == reply
    assert await sale.ask_one(check_out(sale.event_id, user, hold.hold_id)) == reply
    await conserves_seats(sale)


async def test_reserving_and_checking_out_for_nothing_fit_into_one_batch(sale: OnSale) -> None:
    await sale.ask_one(reprice(sale, sale.seats[:10], "0.00"))
    user = a_user()
    wanted = reserve(sale.event_id, user, sale.seats[:2])
    replies = await sale.ask(wanted, check_out(sale.event_id, user, wanted.command_id))
    assert [type(reply) for reply in replies] == [SeatsReserved, OrderCompleted]
    await conserves_seats(sale)


async def test_money_that_was_taken_for_what_costs_nothing_is_a_difference(sale: OnSale) -> None:
    """The negative control of the proof: it does not merely look away from orders that cost nothing."""
    command = give(sale, sale.seats[:1], a_user())
    await sale.ask_one(command)
    books = await read_books(sale.pool, sale.event_id)
    intent = IntentOnLog("pi_1", str(command.command_id), 4500, "eur", "succeeded", 4500, 4500, capture_count=1)
    assert examine(books, MoneyLog({}), MoneyLog({})).is_clean
    assert not examine(books, MoneyLog({}), MoneyLog({"pi_1": intent})).is_clean


async def test_the_reconciler_never_looks_for_what_cost_nothing(sale: OnSale) -> None:
    command = give(sale, sale.seats[:1], a_user())
    await sale.ask_one(command)
    paid = await sale.buy(a_user(), sale.seats[1:2])
    await sale.pool.execute(
        "UPDATE payments SET touched_at = now() - interval '1 day' WHERE event_id = $1", sale.event_id
    )
    silent = {one.order_id for one in await payments.take_silent(sale.pool, silent_seconds=30, limit=10_000)}
    assert paid in silent, "the control: it does look for what was authorised and not captured"
    assert command.command_id not in silent


# ---- many at once


async def test_a_block_of_five_thousand_seats_is_one_command(an_event: AnEvent) -> None:
    sale = await an_event(seats=ORGANISERS_SEATS_MAX, seats_per_row=50)
    block = sale.seats
    size = len(wire.encode_commands([withhold(sale, block)]))
    assert size < MESSAGE_MAX_BYTES / 4
    for command, kind in (
        (withhold(sale, block), SeatsWithheld),
        (give_back(sale, block), SeatsReturned),
        (reprice(sale, block, "60.00"), PricesChanged),
    ):
        began_at = time.perf_counter()
        outcome = await sale.run(command)
        seconds = time.perf_counter() - began_at
        reply = _reply(outcome)
        assert isinstance(reply, kind)
        assert reply.seat_count == ORGANISERS_SEATS_MAX
        told = [len(wire.encode_domain_event(message)) for message in told_of_seats(outcome)]
        assert max(told) < MESSAGE_MAX_BYTES
        print(f"{command.type} of {len(block)} seats: {seconds * 1000:.0f} ms, {size} bytes asked, {max(told)} told")
        assert seconds < sale.settings.statement_timeout_seconds
    await conserves_seats(sale)


def _reply(outcome: Outcome) -> AnyReply:
    (answered,) = outcome.answered
    return answered.reply
