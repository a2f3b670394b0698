"""Does an operator hear of everything a batch has made of the sale, once, and of nothing else?"""

import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from consumers.event_commands import news
from consumers.event_commands.news import tell_of_batch, tell_of_guard
from consumers.event_commands.outcome import Asked
from contracts.replies import Rejected, SeatsReserved
from db.sale import StaleWrite
from db.telemetry.metrics import OTHER_EVENTS, event_label, keep_events
from tests.builders import OnSale, a_user, check_out, decline, expire, release, reserve, settle


@pytest.fixture(autouse=True)
def on_sale(sale: OnSale) -> Iterator[None]:
    """The event has series of its own while it is on sale."""
    keep_events({sale.event_id})
    yield
    keep_events(())


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def told(caplog: pytest.LogCaptureFixture, action: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == action]


async def test_a_reservation_is_counted_and_logged_once_however_often_it_is_delivered(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event, user_id = str(sale.event_id), a_user()
    command = reserve(sale.event_id, user_id, sale.seats[:2])
    for _ in range(3):
        tell_of_batch(sale.event_id, await sale.run(command))
    assert counted("seats_reserved_total", event_id=event) == 2
    [line] = told(caplog, "seat_reserved")
    assert (line.userId, line.eventId, line.holdId) == (user_id, sale.event_id, command.command_id)
    assert set(line.seatIds) == set(sale.seats[:2])
    assert line.correlationId == str(command.correlation_id)
    assert line.durationMs > 0


async def test_seats_given_back_are_told_with_whose_request_it_was(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    user_id = a_user()
    hold = await sale.hold(user_id, sale.seats[:2])
    command = release(sale.event_id, user_id, hold.hold_id)
    tell_of_batch(sale.event_id, await sale.run(command))
    [line] = told(caplog, "seat_released")
    assert (line.reason, line.holdId, line.correlationId) == ("released", hold.hold_id, str(command.correlation_id))


async def test_a_hold_that_ran_out_is_told_with_how_late_it_was_noticed(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hold = await sale.hold(a_user(), sale.seats[:2])
    await sale.end_holds_now(hold.hold_id)
    before = counted("boxoffice_hold_expiry_lag_seconds_count")
    tell_of_batch(sale.event_id, await sale.run(expire(sale.event_id, hold.hold_id)))
    [line] = told(caplog, "seat_released")
    assert (line.reason, line.correlationId) == ("expired", None)
    assert counted("boxoffice_hold_expiry_lag_seconds_count") == before + 1


async def test_a_checkout_is_told_with_its_amount_and_the_request_that_asked_for_it(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event, user_id = str(sale.event_id), a_user()
    hold = await sale.hold(user_id, sale.seats[:2])
    command = check_out(sale.event_id, user_id, hold.hold_id)
    tell_of_batch(sale.event_id, await sale.run(command))
    assert counted("checkout_completed_total", event_id=event) == 0  # nothing is paid yet
    tell_of_batch(sale.event_id, await sale.run(settle(sale.event_id, command.command_id)))
    assert counted("checkout_completed_total", event_id=event) == 1
    assert counted("seats_sold_total", event_id=event) == 2
    assert counted("checkout_duration_seconds_count", event_id=event) == 1
    [line] = told(caplog, "checkout_completed")
    assert (line.orderId, line.userId, line.amount) == (command.command_id, user_id, str(hold.total))
    assert line.correlationId == str(command.correlation_id)


async def test_a_checkout_that_is_declined_or_refused_says_why(sale: OnSale, caplog: pytest.LogCaptureFixture) -> None:
    event, user_id = str(sale.event_id), a_user()
    hold = await sale.hold(user_id, sale.seats[:1])
    command = check_out(sale.event_id, user_id, hold.hold_id)
    await sale.run(command)
    tell_of_batch(sale.event_id, await sale.run(decline(sale.event_id, command.command_id)))
    tell_of_batch(sale.event_id, await sale.run(check_out(sale.event_id, user_id, uuid4())))
    assert counted("checkout_failed_total", event_id=event, reason="payment_declined") == 1
    assert counted("checkout_failed_total", event_id=event, reason="hold_unknown") == 1
    declined, refused = told(caplog, "checkout_failed")
    assert (declined.levelno, declined.reason, declined.orderId) == (
        logging.WARNING,
        "payment_declined",
        command.command_id,
    )
    assert (refused.reason, refused.error) == ("hold_unknown", "refused")


async def test_a_fight_over_seats_names_the_seats_and_how_many_lost(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    event = str(sale.event_id)
    outcome = await sale.run(*(reserve(sale.event_id, a_user(), sale.seats[:1]) for _ in range(5)))
    tell_of_batch(sale.event_id, outcome)
    assert counted("seat_lock_attempts_total", event_id=event, result="success") == 1
    assert counted("seat_lock_attempts_total", event_id=event, result="failure") == 4
    [line] = told(caplog, "lock_contention")
    assert (line.seatId, line.attempts) == (sale.seats[0], 4)


async def test_a_seat_that_redis_gives_away_twice_is_an_oversell_prevented(
    sale: OnSale, redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await sale.hold(a_user(), sale.seats[:1])
    before = counted("boxoffice_oversells_prevented_total", guard="row_lock")
    async for key in redis.scan_iter(f"seat_lock:{{{sale.event_id}}}:*"):
        await redis.delete(key)  # as if Redis had lost its memory
    outcome = await sale.run(reserve(sale.event_id, a_user(), sale.seats[:1]))
    assert isinstance(outcome.answered[0].reply, Rejected)
    tell_of_batch(sale.event_id, outcome)
    [line] = told(caplog, "oversell_prevented")
    assert (line.levelno, line.seatId) == (logging.ERROR, sale.seats[0])
    assert "held" in line.details
    assert counted("boxoffice_oversells_prevented_total", guard="row_lock") == before + 1


async def test_a_seat_that_redis_keeps_from_a_rival_is_none(sale: OnSale, caplog: pytest.LogCaptureFixture) -> None:
    # Without this, the test above would pass if every refusal were called an oversell.
    await sale.hold(a_user(), sale.seats[:1])
    tell_of_batch(sale.event_id, await sale.run(reserve(sale.event_id, a_user(), sale.seats[:1])))
    assert told(caplog, "oversell_prevented") == []


def test_a_stale_write_names_the_fence_and_a_lost_connection_nothing(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("boxoffice_oversells_prevented_total", guard="fence")
    tell_of_guard(sale.event_id, StaleWrite("2 of 3 seats"))
    tell_of_guard(sale.event_id, ConnectionError("gone"))
    assert counted("boxoffice_oversells_prevented_total", guard="fence") == before + 1
    assert len(told(caplog, "oversell_prevented")) == 1


async def test_an_event_that_is_not_on_sale_has_no_series_of_its_own(sale: OnSale) -> None:
    tell_of_batch(sale.event_id, await sale.run(reserve(sale.event_id, a_user(), sale.seats[:1])))
    assert counted("seats_reserved_total", event_id=str(sale.event_id)) == 1
    keep_events(())
    assert event_label(sale.event_id) == OTHER_EVENTS
    others = counted("seats_reserved_total", event_id=OTHER_EVENTS)
    outcome = await sale.run(reserve(sale.event_id, a_user(), sale.seats[1:2]))
    assert isinstance(outcome.answered[0].reply, SeatsReserved)
    tell_of_batch(sale.event_id, outcome)
    assert REGISTRY.get_sample_value("seats_reserved_total", {"event_id": str(sale.event_id)}) is None
    assert counted("seats_reserved_total", event_id=OTHER_EVENTS) == others + 1


async def test_what_is_told_of_a_large_batch_is_bounded(
    an_event: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "LINES_OF_A_KIND_MAX", 3)
    large = await an_event(seats=20)
    wanted = [reserve(large.event_id, a_user(), [seat]) for seat in large.seats for _ in range(2)]
    tell_of_batch(large.event_id, await large.run(*wanted))
    assert len(told(caplog, "lock_contention")) == 3


async def test_whoever_takes_seats_past_the_lock_of_their_last_holder_has_a_lock_of_their_own_afterwards(
    sale: OnSale, caplog: pytest.LogCaptureFixture
) -> None:
    # The next batch begins while the locks of the one before are being given up.
    first, second = a_user(), a_user()
    hold = await sale.hold(first, sale.seats[:1])
    engine, event_id = sale.engine, sale.event_id
    given_back = await engine.run_batch(event_id, [Asked(release(event_id, first, hold.hold_id))])
    taken = await engine.run_batch(event_id, [Asked(reserve(event_id, second, sale.seats[:1]))])
    await engine.settle(event_id, given_back)
    await engine.settle(event_id, taken)
    refused = await sale.run(reserve(event_id, a_user(), sale.seats[:1]))
    assert refused.lost_locks == {sale.seats[0]: 1}, "Redis let somebody through to a seat that is held"
    tell_of_batch(event_id, refused)
    assert told(caplog, "oversell_prevented") == []


async def test_news_that_cannot_be_told_stop_no_sale(
    sale: OnSale, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = await sale.run(reserve(sale.event_id, a_user(), sale.seats[:1]))
    monkeypatch.setattr(news, "write_lines", lambda *_: 1 / 0)
    tell_of_batch(sale.event_id, outcome)
    assert len(told(caplog, "batch_not_told")) == 1
