"""Is nothing sold before it is paid for and nothing freed before the payment is dead, on real servers?"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

import db.outbox
from consumers.event_commands.outcome import Outcome
from contracts.commands import Checkout
from contracts.domain_events import (
    CapturesDue,
    HoldsArmed,
    NoticesDue,
    OrdersCancelled,
    OrdersConfirmed,
    PaymentsRequested,
    RefundsDue,
    VoidsDue,
)
from contracts.ids import OrderId, SeatId, UserId
from contracts.replies import AnyReply, Done, OrderCompleted, RefundStarted, Rejected, SeatsReserved
from contracts.value import Value
from contracts.wire import decode_domain_event
from db.outbox import OutboxMessage
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    rejected_as,
    release,
    reserve,
    settle,
    told_of_seats,
)
from tests.conftest import AnEvent
from tests.sale_on_paper import payment_refunded, refund, void_payment


class Purchase:
    """Two seats, and how far their sale has come."""

    def __init__(self, sale: OnSale, user: UserId, hold_id: UUID, checkout: Checkout) -> None:
        self.sale = sale
        self.user = user
        self.hold_id = hold_id
        self.checkout = checkout
        self.order_id = OrderId(checkout.command_id)

    async def status(self) -> tuple[str, str, str]:
        """Of the order, its payment and its hold."""
        record = await self.sale.pool.fetchrow(
            "SELECT o.status, p.status AS payment, h.status AS hold FROM orders o"
            " JOIN payments p USING (event_id) JOIN holds h ON h.event_id = o.event_id AND h.id = o.hold_id"
            " WHERE o.event_id = $1 AND o.id = $2 AND p.order_id = o.id",
            *(self.sale.event_id, self.order_id),
        )
        return record["status"], record["payment"], record["hold"]

    async def settle(self) -> Outcome:
        return await self.sale.run(settle(self.sale.event_id, self.order_id))


async def a_purchase(sale: OnSale, seats: list[SeatId] | None = None) -> Purchase:
    """A hold of two seats that is being paid."""
    user = a_user()
    hold = await sale.hold(user, seats or sale.seats[:2])
    checkout = check_out(sale.event_id, user, hold.hold_id, request_hash="the body")
    outcome = await sale.run(checkout)
    assert outcome.answered == [], "the answer comes when the payment is settled"
    return Purchase(sale, user, hold.hold_id, checkout)


@pytest.fixture
async def sale(an_event: AnEvent) -> OnSale:
    """An event of 60 seats, on a machine that may be so busy that Redis answers slowly."""
    return await an_event(redis_timeout_seconds=10.0)


@pytest.fixture
async def bought(sale: OnSale) -> AsyncIterator[Purchase]:
    """A purchase whose seats are sold; afterwards the books must agree, whatever the test did."""
    purchase = await a_purchase(sale)
    await purchase.settle()
    yield purchase
    await sale.ledger_agrees_with_seats()


@pytest.fixture
async def paying(sale: OnSale) -> AsyncIterator[Purchase]:
    """A purchase that is being paid; afterwards the books must agree, whatever the test did."""
    yield await a_purchase(sale)
    await sale.ledger_agrees_with_seats()


class Outbox:
    """What the engine has written into the outbox. The table itself is no witness: other tests' relays empty it."""

    def __init__(self, record: Callable[..., Awaitable[None]]) -> None:
        self._record = record
        self._written: list[Value] = []

    async def record_messages(self, tx: Any, messages: Sequence[OutboxMessage]) -> None:
        await self._record(tx, messages)
        self._written += [decode_domain_event(message.body) for message in messages]

    def take(self) -> list[Value]:
        """What has been written since the last time."""
        written, self._written = self._written, []
        return written


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """The engine's outbox, with somebody who reads along."""
    read_along = Outbox(db.outbox.record_messages)
    monkeypatch.setattr(db.outbox, "record_messages", read_along.record_messages)
    return read_along


def told(outcome: Outcome) -> AnyReply:
    """What the one who waits for the order is told."""
    (late,) = outcome.late_replies
    return late.reply


async def time_is_over(purchase: Purchase) -> None:
    """The hold's own time has passed while its payment runs."""
    await purchase.sale.pool.execute(
        "UPDATE holds SET held_until = now() - interval '1 hour' WHERE event_id = $1 AND id = $2",
        *(purchase.sale.event_id, purchase.hold_id),
    )


async def redis_has_forgotten(sale: OnSale) -> None:
    """The filter's locks have run out, so that it is the database which decides."""
    async with Redis.from_url(sale.settings.redis_url) as redis:
        await redis.delete(*(f"seat_lock:{{{sale.event_id}}}:{seat}" for seat in sale.seats))


async def cancel_the_event(sale: OnSale) -> None:
    await sale.pool.execute("UPDATE events SET status = 'cancelled' WHERE id = $1", sale.event_id)


# ---- T1


async def test_while_somebody_pays_nobody_else_gets_the_seats_however_long_it_takes(paying: Purchase) -> None:
    sale = paying.sale
    await time_is_over(paying)
    await redis_has_forgotten(sale)
    assert rejected_as([await sale.reserve(a_user(), sale.seats[:2])]) == ["seats_unavailable"]
    outcome = await sale.run(expire(sale.event_id, paying.hold_id))
    assert outcome.answered[0].reply == Done(changed=False)
    assert await paying.status() == ("pending", "requested", "paying")


async def test_what_is_being_paid_cannot_be_given_back(paying: Purchase) -> None:
    reply = await paying.sale.ask_one(release(paying.sale.event_id, paying.user, paying.hold_id))
    assert rejected_as([reply]) == ["hold_in_payment"]


async def test_a_checkout_asks_for_its_payment(sale: OnSale, outbox: Outbox) -> None:
    purchase = await a_purchase(sale)
    armed, requested = outbox.take()
    assert isinstance(armed, HoldsArmed)
    assert [due.hold_id for due in armed.holds] == [purchase.hold_id]
    assert isinstance(requested, PaymentsRequested)
    (payment,) = requested.payments
    assert (payment.order_id, str(payment.amount), payment.currency) == (purchase.order_id, "90.00", "EUR")


async def test_a_checkout_that_is_delivered_again_asks_for_no_second_payment(paying: Purchase, outbox: Outbox) -> None:
    outbox.take()
    outcome = await paying.sale.run(paying.checkout)
    assert (outcome.answered, outbox.take()) == ([], [])


async def test_a_second_checkout_of_the_same_hold_finds_the_same_order(paying: Purchase) -> None:
    sale = paying.sale
    again = check_out(sale.event_id, paying.user, paying.hold_id)
    reply = await sale.ask_one(again)
    assert isinstance(reply, Rejected)
    assert (reply.code.value, reply.order_id) == ("still_in_progress", paying.order_id)
    await paying.settle()
    reply = await sale.ask_one(again)
    assert isinstance(reply, OrderCompleted)
    assert reply.order_id == paying.order_id
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE event_id = $1", sale.event_id) == 1


async def test_two_checkouts_of_one_hold_in_one_batch_are_one_order(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    first, second = (check_out(sale.event_id, user, hold.hold_id) for _ in range(2))
    outcome = await sale.run(first, second)
    assert rejected_as([answer.reply for answer in outcome.answered]) == ["still_in_progress"]
    assert await sale.pool.fetchval("SELECT count(*) FROM orders WHERE event_id = $1", sale.event_id) == 1


async def test_what_is_taken_and_given_back_in_one_batch_is_free(sale: OnSale) -> None:
    user = a_user()
    wanted = reserve(sale.event_id, user, sale.seats[:2])
    await sale.run(wanted, release(sale.event_id, user, wanted.command_id))
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)


async def test_reserve_and_check_out_fit_into_one_batch(sale: OnSale) -> None:
    user = a_user()
    wanted = reserve(sale.event_id, user, sale.seats[:2])
    checkout = check_out(sale.event_id, user, wanted.command_id)
    outcome = await sale.run(wanted, checkout)
    assert [type(answer.reply) for answer in outcome.answered] == [SeatsReserved]
    assert isinstance(told(await sale.run(settle(sale.event_id, checkout.command_id))), OrderCompleted)
    await sale.ledger_agrees_with_seats()


# ---- T3


async def test_whoever_asked_is_told_when_it_is_settled(paying: Purchase) -> None:
    outcome = await paying.settle()
    (late,) = outcome.late_replies
    assert (late.reply_to, late.correlation_id) == ("tk.reply.test", paying.checkout.correlation_id)
    assert late.command_id == paying.checkout.command_id
    assert isinstance(late.reply, OrderCompleted)
    assert {ticket.seat.seat_id for ticket in late.reply.tickets} == set(paying.sale.seats[:2])
    assert await paying.status() == ("completed", "authorized", "converted")


async def test_a_sale_owes_a_capture_and_a_confirmation(sale: OnSale, outbox: Outbox) -> None:
    purchase = await a_purchase(sale)
    outbox.take()
    reply = told(await purchase.settle())
    captures, confirmed = outbox.take()
    assert isinstance(captures, CapturesDue)
    assert [(due.order_id, due.intent_id) for due in captures.payments] == [
        (purchase.order_id, f"pi_{purchase.order_id}")
    ]
    assert isinstance(confirmed, OrdersConfirmed)
    assert isinstance(reply, OrderCompleted)
    assert confirmed.orders[0].ticket_ids == tuple(ticket.ticket_id for ticket in reply.tickets)


async def test_the_stored_answer_is_the_same_byte_for_byte(bought: Purchase) -> None:
    sale = bought.sale
    stored = await sale.pool.fetchval(
        "SELECT answer FROM orders WHERE event_id = $1 AND id = $2", sale.event_id, bought.order_id
    )
    for _ in range(2):
        retry = bought.checkout.model_copy(update={"correlation_id": a_command_id()})
        reply = await sale.ask_one(retry)
        assert reply.model_dump_json(by_alias=True, exclude_none=True) == stored


async def test_a_retry_with_another_body_is_refused(bought: Purchase) -> None:
    other = bought.checkout.model_copy(update={"request_hash": "another body"})
    assert rejected_as([await bought.sale.ask_one(other)]) == ["idempotency_key_reused"]


async def test_settling_twice_sells_once_and_tells_again(bought: Purchase, outbox: Outbox) -> None:
    sale = bought.sale
    outbox.take()
    outcome = await bought.settle()
    assert isinstance(told(outcome), OrderCompleted)
    assert (told_of_seats(outcome), outbox.take()) == ([], [])
    assert await sale.pool.fetchval("SELECT count(*) FROM tickets WHERE event_id = $1", sale.event_id) == 2


async def test_two_settles_in_one_batch_sell_once(paying: Purchase) -> None:
    sale = paying.sale
    await sale.run(settle(sale.event_id, paying.order_id), settle(sale.event_id, paying.order_id))
    assert await sale.pool.fetchval("SELECT count(*) FROM order_items WHERE event_id = $1", sale.event_id) == 2


async def test_money_for_seats_that_are_gone_is_voided_and_nothing_is_sold(sale: OnSale, outbox: Outbox) -> None:
    purchase = await a_purchase(sale)
    # Nothing of ours does this: as if somebody had mended a record by hand.
    await sale.pool.execute("UPDATE seats SET fence = fence + 1 WHERE id = $1", sale.seats[0])
    outbox.take()
    outcome = await purchase.settle()
    assert outcome.late_replies == [], "nobody is told before the provider says that the payment is dead"
    (voids,) = outbox.take()
    assert isinstance(voids, VoidsDue)
    assert [due.order_id for due in voids.payments] == [purchase.order_id]
    assert await purchase.status() == ("voiding", "authorized", "paying")
    assert "sold" not in (await sale.statuses()).values()
    assert rejected_as([told(await sale.run(cancel_payment(sale.event_id, purchase.order_id)))]) == ["order_cancelled"]
    assert set((await sale.statuses()).values()) == {"available"}


async def test_money_for_an_order_that_was_declined_is_given_back(paying: Purchase, outbox: Outbox) -> None:
    sale = paying.sale
    await sale.run(decline(sale.event_id, paying.order_id))
    outbox.take()
    await paying.settle()
    (voids,) = outbox.take()
    assert isinstance(voids, VoidsDue)
    assert await paying.status() == ("declined", "declined", "active")


# ---- TD


async def test_after_a_decline_the_seats_are_kept_for_another_card(paying: Purchase, outbox: Outbox) -> None:
    sale = paying.sale
    await time_is_over(paying)
    outbox.take()
    outcome = await sale.run(decline(sale.event_id, paying.order_id))
    reply = told(outcome)
    assert isinstance(reply, Rejected)
    assert reply.code.value == "payment_declined"
    assert reply.held_until is not None
    assert reply.held_until > datetime.now(UTC) + timedelta(seconds=sale.settings.decline_grace_seconds - 10)
    (armed,) = outbox.take()
    assert isinstance(armed, HoldsArmed)
    assert [(due.hold_id, due.held_until) for due in armed.holds] == [(paying.hold_id, reply.held_until)]
    await redis_has_forgotten(sale)
    assert rejected_as([await sale.reserve(a_user(), sale.seats[:2])]) == ["seats_unavailable"]


async def test_another_card_pays_the_same_hold(paying: Purchase) -> None:
    sale = paying.sale
    await sale.run(decline(sale.event_id, paying.order_id))
    another = check_out(sale.event_id, paying.user, paying.hold_id, payment_method="pm_another")
    await sale.run(another)
    reply = told(await sale.run(settle(sale.event_id, another.command_id)))
    assert isinstance(reply, OrderCompleted)
    assert reply.order_id == another.command_id
    assert await sale.status_of("orders", paying.order_id) == "declined"


async def test_after_a_decline_and_its_grace_the_seats_are_free(paying: Purchase) -> None:
    sale = paying.sale
    await sale.run(decline(sale.event_id, paying.order_id))
    await sale.end_holds_now(paying.hold_id)
    await sale.run(expire(sale.event_id, paying.hold_id))
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)


# ---- T4, voids and T6


async def test_a_payment_nobody_can_finish_keeps_its_seats_until_it_is_dead(paying: Purchase, outbox: Outbox) -> None:
    sale = paying.sale
    outbox.take()
    await sale.run(void_payment(sale.event_id, paying.order_id))
    (voids,) = outbox.take()
    assert isinstance(voids, VoidsDue)
    assert rejected_as([await sale.reserve(a_user(), sale.seats[:2])]) == ["seats_unavailable"]
    outcome = await sale.run(cancel_payment(sale.event_id, paying.order_id))
    assert rejected_as([told(outcome)]) == ["order_cancelled"]
    assert await paying.status() == ("cancelled", "canceled", "released")
    (cancelled,) = outbox.take()
    assert isinstance(cancelled, OrdersCancelled)
    assert [(notice.order_id, notice.reason) for notice in cancelled.orders] == [
        (paying.order_id, "nobody can finish it")
    ]
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)


async def test_money_that_arrives_while_it_is_voided_sells_nothing(paying: Purchase) -> None:
    sale = paying.sale
    await sale.run(void_payment(sale.event_id, paying.order_id))
    await paying.settle()
    assert (await paying.status())[0] == "voiding"
    assert "sold" not in (await sale.statuses()).values()


async def test_an_authorisation_that_dies_after_the_sale_takes_the_tickets_back(bought: Purchase) -> None:
    sale = bought.sale
    await sale.run(cancel_payment(sale.event_id, bought.order_id))
    assert await bought.status() == ("cancelled", "canceled", "released")
    assert await _ticket_statuses(sale) == {"void"}
    assert isinstance(await sale.reserve(a_user(), sale.seats[:2]), SeatsReserved)


# ---- refunds


async def test_a_refund_puts_the_seats_back_on_sale_and_the_tickets_are_void(bought: Purchase, outbox: Outbox) -> None:
    sale = bought.sale
    outbox.take()
    started = await sale.ask_one(refund(sale.event_id, bought.order_id, correlation_id=a_command_id()))
    assert isinstance(started, RefundStarted)
    refunds, notices = outbox.take()
    assert isinstance(refunds, RefundsDue)
    assert [(due.order_id, due.refund_id) for due in refunds.payments] == [(bought.order_id, started.refund_id)]
    assert isinstance(notices, NoticesDue)
    assert list((await sale.statuses()).values()).count("sold") == 2, "not before the money is back"
    assert await _ticket_statuses(sale) == {"void"}
    await sale.run(payment_refunded(sale.event_id, bought.order_id, started.refund_id))
    assert await bought.status() == ("refunded", "refunded", "converted")
    assert set((await sale.statuses()).values()) == {"available"}


async def test_a_refunded_seat_can_be_bought_at_once(bought: Purchase) -> None:
    sale = bought.sale
    await _is_refunded(sale, bought.order_id)
    await sale.buy(a_user(), sale.seats[:2])
    assert list((await sale.statuses()).values()).count("sold") == 2
    assert await sale.seats_sold_twice() == 0


async def test_a_refund_is_asked_for_once(bought: Purchase, outbox: Outbox) -> None:
    sale = bought.sale
    command = refund(sale.event_id, bought.order_id)
    outbox.take()
    for again in (command, command, refund(sale.event_id, bought.order_id)):
        await sale.run(again)
    assert [type(message) for message in outbox.take()] == [RefundsDue, NoticesDue]


async def test_what_was_refunded_counts_no_longer_against_the_limit(an_event: AnEvent) -> None:
    sale = await an_event(ticket_limit=2)
    user = a_user()
    order_id = await sale.buy(user, sale.seats[:2])
    assert rejected_as([await sale.reserve(user, sale.seats[2:3])]) == ["ticket_limit_exceeded"]
    await _is_refunded(sale, order_id)
    assert isinstance(await sale.reserve(user, sale.seats[2:4]), SeatsReserved)


async def _is_refunded(sale: OnSale, order_id: UUID) -> None:
    command = refund(sale.event_id, order_id)
    await sale.run(command)
    await sale.run(payment_refunded(sale.event_id, order_id, command.command_id))


# ---- a cancelled event


async def test_nothing_of_a_cancelled_event_is_reserved_or_checked_out(sale: OnSale) -> None:
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    await cancel_the_event(sale)
    replies = await sale.ask(
        reserve(sale.event_id, a_user(), sale.seats[4:5]), check_out(sale.event_id, user, hold.hold_id)
    )
    assert rejected_as(replies) == ["event_cancelled"] * 2
    await sale.ledger_agrees_with_seats()


async def test_money_for_a_cancelled_event_is_voided(paying: Purchase, outbox: Outbox) -> None:
    sale = paying.sale
    await cancel_the_event(sale)
    outbox.take()
    await paying.settle()
    (voids,) = outbox.take()
    assert isinstance(voids, VoidsDue)
    assert await paying.status() == ("voiding", "authorized", "paying")
    reply = told(await sale.run(cancel_payment(sale.event_id, paying.order_id)))
    assert isinstance(reply, Rejected)
    assert (reply.code.value, reply.detail) == ("order_cancelled", "the event was cancelled")


async def _ticket_statuses(sale: OnSale) -> set[str]:
    records = await sale.pool.fetch("SELECT DISTINCT status FROM tickets WHERE event_id = $1", sale.event_id)
    return {record["status"] for record in records}
