"""When an event is cancelled: does nothing sell from that commit on, and is everybody refunded once, on real servers?"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import db.sale
from consumers.broker import ConfirmedPublisher
from consumers.cancellations import Courier
from consumers.command_sender import CommandSender
from consumers.event_commands import load_cancellation
from consumers.event_commands.outcome import Outcome
from contracts.commands import AnyCommand, CancelEvent, RefundCancelled
from contracts.ids import EventId, OrderId
from contracts.replies import AnyReply, Done, EventCancelled
from contracts.settings import Settings
from db import failpoints
from db.cancellations import find_progress, find_unfinished
from db.read_cache import ReadCache
from tests.builders import OnSale, a_command_id, a_user, cancel_payment, check_out, rejected_as, reserve, settle
from tests.conftest import AnEvent
from tests.eventually import eventually
from tests.sale_on_paper import payment_refunded, refund

ADMIN = a_user()


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(redis_timeout_seconds=10.0)


def cancel(sale: OnSale, **fields: Any) -> CancelEvent:
    asked = {"command_id": a_command_id(), "correlation_id": a_command_id(), "user_id": ADMIN, "reason": "a storm"}
    return CancelEvent(event_id=sale.event_id, **{**asked, **fields})


def a_round(sale: OnSale) -> RefundCancelled:
    return RefundCancelled(command_id=a_command_id(), event_id=sale.event_id)


async def is_cancelled(sale: OnSale) -> EventCancelled:
    reply = await sale.ask_one(cancel(sale))
    assert isinstance(reply, EventCancelled), reply
    return reply


async def go_on(sale: OnSale) -> AnyReply:
    """The courier comes by, and meets an engine that knows only what is written."""
    outcome = await sale.run(a_round(sale), engine=sale.another_engine())
    (answer,) = outcome.answered
    return answer.reply


async def money_comes_back(sale: OnSale) -> None:
    records = await sale.pool.fetch(
        "SELECT order_id, id FROM refunds WHERE event_id = $1 AND status = 'requested'", sale.event_id
    )
    await sale.run(*(payment_refunded(sale.event_id, one["order_id"], one["id"]) for one in records))


async def order_statuses(sale: OnSale) -> dict[OrderId, str]:
    records = await sale.pool.fetch("SELECT id, status FROM orders WHERE event_id = $1", sale.event_id)
    return {record["id"]: record["status"] for record in records}


async def finished_at(sale: OnSale) -> Any:
    return await sale.pool.fetchval("SELECT finished_at FROM cancellations WHERE event_id = $1", sale.event_id)


async def a_pending_order(sale: OnSale, place: int) -> OrderId:
    user = a_user()
    hold = await sale.hold(user, sale.seats[place : place + 1])
    command = check_out(sale.event_id, user, hold.hold_id)
    await sale.run(command)
    return OrderId(command.command_id)


# ---- from that commit on


async def test_nothing_is_sold_any_more_and_who_is_paying_is_voided(sale: OnSale) -> None:
    user = a_user()
    hold, paying = await sale.hold(user, sale.seats[:1]), await a_pending_order(sale, 1)
    await sale.buy(a_user(), sale.seats[2:4])
    assert (await is_cancelled(sale)).orders_to_refund == 1
    replies = await sale.ask(
        reserve(sale.event_id, a_user(), sale.seats[4:5]), check_out(sale.event_id, user, hold.hold_id)
    )
    assert rejected_as(replies) == ["event_cancelled"] * 2
    await sale.run(settle(sale.event_id, paying))
    assert await sale.status_of("orders", paying) == "voiding"
    await sale.ledger_agrees_with_seats()


async def test_it_is_shown_as_cancelled_with_another_version(sale: OnSale) -> None:
    before = await sale.pool.fetchrow("SELECT status, version FROM events WHERE id = $1", sale.event_id)
    await is_cancelled(sale)
    after = await sale.pool.fetchrow("SELECT status, version FROM events WHERE id = $1", sale.event_id)
    assert (after["status"], after["version"]) == ("cancelled", before["version"] + 1)
    (audit,) = await sale.pool.fetch("SELECT user_id, action FROM audit_log WHERE event_id = $1", sale.event_id)
    assert tuple(audit) == (ADMIN, "cancel_event")


async def test_of_two_organisers_one_cancels_it(sale: OnSale) -> None:
    other = sale.another_engine()
    commands = [cancel(sale), cancel(sale)]
    outcomes = await asyncio.gather(sale.run(commands[0]), sale.run(commands[1], engine=other))
    replies = [answer.reply for outcome in outcomes for answer in outcome.answered]
    assert rejected_as(replies) == ["event_cancelled"]
    again = await sale.ask(*commands)
    assert rejected_as(again) == ["event_cancelled"], "who has cancelled it hears so again"


async def _settled_behind_a_cancellation(sale: OnSale, tmp_path: Path) -> Outcome:
    """A payment is settled by an engine that waits for the fence while another one cancels the event."""
    paying, let_go = await a_pending_order(sale, 0), tmp_path / "let go"
    failpoints.arm(f"engine.before_commit=1*pause({let_go})")
    try:
        cancelling = asyncio.create_task(sale.run(cancel(sale)))
        await eventually(lambda: failpoints.hits().get("engine.before_commit"))
        settling = asyncio.create_task(sale.run(settle(sale.event_id, paying), engine=sale.another_engine()))
        await eventually(lambda: waits_for_the_fence(sale))
        let_go.touch()
        await cancelling
        return await settling
    finally:
        failpoints.disarm()


async def waits_for_the_fence(sale: OnSale) -> bool:
    return bool(
        await sale.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE OF i%'"
        )
    )


async def test_an_engine_that_waited_for_the_fence_sees_that_the_event_is_cancelled(
    sale: OnSale, tmp_path: Path
) -> None:
    await _settled_behind_a_cancellation(sale, tmp_path)
    assert set((await order_statuses(sale)).values()) == {"voiding"}
    assert "sold" not in (await sale.statuses()).values()


async def test_without_the_mark_on_the_fence_it_would_sell(
    sale: OnSale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the event's status alone is read as it was when the engine began to wait."""
    stale = db.sale.SQL.lock_event.replace("i.cancelled_at IS NOT NULL OR ", "")
    assert stale != db.sale.SQL.lock_event
    monkeypatch.setattr(db.sale.SQL, "lock_event", stale)
    await _settled_behind_a_cancellation(sale, tmp_path)
    assert set((await order_statuses(sale)).values()) == {"completed"}


# ---- everybody's money


async def test_everybody_is_refunded_some_at_a_time_wherever_it_is_interrupted(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_cancellation, "REFUNDED_AT_ONCE_MAX", 2)
    for place in range(5):
        await sale.buy(a_user(), sale.seats[2 * place : 2 * place + 2])
    assert (await is_cancelled(sale)).orders_to_refund == 5
    await go_on(sale)
    assert sorted((await order_statuses(sale)).values()) == ["completed"] * 3 + ["refunding"] * 2
    await money_comes_back(sale)
    # Killed in the middle of a round: nothing of it has happened, and the next one begins where this one did.
    failpoints.arm("engine.before_commit=1*raise")
    try:
        assert len((await sale.run(a_round(sale))).not_processed) == 1
    finally:
        failpoints.disarm()
    for _ in range(2):
        assert await finished_at(sale) is None
        await go_on(sale)
        await sale.ledger_agrees_with_seats()
        await money_comes_back(sale)
    assert set((await order_statuses(sale)).values()) == {"refunded"}
    assert await go_on(sale) == Done()
    assert await finished_at(sale) is not None
    refunds = await sale.pool.fetch("SELECT kind, amount FROM refunds WHERE event_id = $1", sale.event_id)
    assert [(one["kind"], str(one["amount"])) for one in refunds] == [("cancellation", "90.00")] * 5
    assert set((await sale.statuses()).values()) == {"available"}
    await sale.ledger_agrees_with_seats()


async def test_no_more_are_on_their_way_at_once_unless_the_provider_is_stuck(
    sale: OnSale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_cancellation, "REFUNDED_AT_ONCE_MAX", 2)
    for place in range(5):
        await sale.buy(a_user(), sale.seats[place : place + 1])
    await is_cancelled(sale)
    await go_on(sale)
    assert await go_on(sale) == Done(changed=False), "two are on their way"
    await sale.pool.execute(
        "UPDATE refunds SET created_at = now() - interval '1 hour' WHERE event_id = $1", sale.event_id
    )
    assert await go_on(sale) == Done()
    assert sorted((await order_statuses(sale)).values()) == ["completed"] + ["refunding"] * 4


async def test_two_couriers_at_once_refund_nobody_twice(sale: OnSale) -> None:
    for place in range(4):
        await sale.buy(a_user(), sale.seats[place : place + 1])
    await is_cancelled(sale)
    engines = [sale.another_engine() for _ in range(3)]
    await asyncio.gather(*(sale.run(a_round(sale), engine=engine) for engine in engines for _ in range(2)))
    assert await sale.pool.fetchval("SELECT count(*) FROM refunds WHERE event_id = $1", sale.event_id) == 4
    await sale.ledger_agrees_with_seats()


async def test_it_is_finished_when_nobody_is_left_who_was_paying(sale: OnSale) -> None:
    paying = await a_pending_order(sale, 0)
    await is_cancelled(sale)
    await go_on(sale)
    assert await finished_at(sale) is None
    await sale.run(settle(sale.event_id, paying))
    await go_on(sale)
    assert await finished_at(sale) is None
    await sale.run(cancel_payment(sale.event_id, paying))
    await go_on(sale)
    assert await finished_at(sale) is not None
    assert await go_on(sale) == Done(changed=False)
    await sale.ledger_agrees_with_seats()


async def test_a_refund_that_races_the_cancellation_is_paid_once(sale: OnSale) -> None:
    orders = [await sale.buy(a_user(), sale.seats[place : place + 1]) for place in range(4)]
    await is_cancelled(sale)
    other = sale.another_engine()
    rivals: list[AnyCommand] = [refund(sale.event_id, order_id, user_id=ADMIN) for order_id in orders]
    await asyncio.gather(sale.run(*rivals), sale.run(a_round(sale), engine=other))
    records = await sale.pool.fetch("SELECT order_id FROM refunds WHERE event_id = $1", sale.event_id)
    assert sorted(record["order_id"] for record in records) == sorted(orders)
    await sale.ledger_agrees_with_seats()


async def test_the_progress_can_be_watched(sale: OnSale) -> None:
    assert await find_progress(sale.pool, sale.event_id) is None
    for place in range(3):
        await sale.buy(a_user(), sale.seats[place : place + 1])
    await a_pending_order(sale, 5)
    await is_cancelled(sale)
    assert await progress(sale) == {"waiting": 3, "refunding": 0, "refunded": 0, "voiding": 1, "amount": "0"}
    await go_on(sale)
    assert await progress(sale) == {"waiting": 0, "refunding": 3, "refunded": 0, "voiding": 1, "amount": "0"}
    await money_comes_back(sale)
    assert await progress(sale) == {"waiting": 0, "refunding": 0, "refunded": 3, "voiding": 1, "amount": "135.00"}


async def progress(sale: OnSale) -> dict[str, object]:
    found = await find_progress(sale.pool, sale.event_id)
    assert found is not None
    assert found.reason == "a storm"
    return {
        "waiting": found.orders_waiting,
        "refunding": found.orders_refunding,
        "refunded": found.orders_refunded,
        "voiding": found.orders_voiding,
        "amount": str(found.amount_refunded),
    }


# ---- the courier


class Sent:
    """Takes what would go to the events' queues."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []

    async def send(self, command: AnyCommand) -> None:
        self.commands.append(command)

    def to(self, sale: OnSale) -> int:
        """How many went to this event, since the last time."""
        found = sum(command.event_id == sale.event_id for command in self.commands)
        self.commands.clear()
        return found


@pytest.fixture
async def read_cache(settings: Settings) -> AsyncIterator[ReadCache]:
    cache = ReadCache(settings)
    yield cache
    await cache.close()


async def test_the_courier_asks_as_long_as_it_is_not_finished(sale: OnSale, read_cache: ReadCache) -> None:
    sent: Any = Sent()
    courier = Courier(sale.pool, sent, read_cache)
    await courier.run_once()
    assert sent.to(sale) == 0
    await sale.buy(a_user(), sale.seats[:1])
    await is_cancelled(sale)
    for _ in range(2):
        await courier.run_once()
        assert sent.to(sale) == 1
    await go_on(sale)
    await money_comes_back(sale)
    await go_on(sale)
    await courier.run_once()
    assert sent.to(sale) == 0


async def test_whoever_has_just_come_sees_to_it_that_nobody_reads_on_sale_any_longer(
    sale: OnSale, read_cache: ReadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[int] = []

    async def forget_all() -> None:
        forgotten.append(1)

    async def find_this_one(pool: Any, *, limit: int) -> list[EventId]:
        # Other tests cancel events of theirs.
        return [one for one in await find_unfinished(pool, limit=limit) if one == sale.event_id]

    monkeypatch.setattr(read_cache, "forget_all", forget_all)
    monkeypatch.setattr("consumers.cancellations.find_unfinished", find_this_one)
    sent: Any = Sent()
    courier = Courier(sale.pool, sent, read_cache)
    await is_cancelled(sale)
    for _ in range(3):
        await courier.run_once()
    assert len(forgotten) == 1, "once for each event"


async def test_what_the_courier_sends_arrives(
    sale: OnSale, settings: Settings, read_cache: ReadCache, caplog: pytest.LogCaptureFixture
) -> None:
    await is_cancelled(sale)
    async with ConfirmedPublisher(settings, "courier", name="cancellation test") as publisher:
        assert await Courier(sale.pool, CommandSender(publisher), read_cache).run_once() >= 1
    assert [record.message for record in caplog.records if record.name == "consumers.cancellations"] == []
