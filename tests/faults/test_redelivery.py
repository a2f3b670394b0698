"""Does a command that is delivered twice change and answer the same as one that is delivered once?

RabbitMQ delivers at least once, and after a lost COMMIT the engine itself tries again: every kind of command must bear it.
"""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from consumers.event_commands.handlers import HANDLERS, decide_not_offered
from contracts.commands import (
    COMMAND_TYPES,
    AnyCommand,
    CancelEvent,
    Checkout,
    Command,
    ExpireHolds,
    ExtendHold,
    PaymentCanceled,
    PaymentDeclined,
    PaymentRefunded,
    RefundOrder,
    ReleaseSeats,
    ReserveSeats,
    SettlePayment,
    TransferTicket,
    VoidPayment,
)
from contracts.ids import CommandId, OrderId, TicketId, UserId
from tests.builders import (
    OnSale,
    a_command_id,
    a_user,
    cancel_payment,
    check_out,
    decline,
    expire,
    extend,
    release,
    reserve,
    settle,
)

Prepare = Callable[[OnSale], Awaitable[AnyCommand]]

# What a sale writes; touched_at says only when somebody last looked, and the outbox is owed at least once.
TABLES = ("seats", "holds", "orders", "order_items", "tickets", "seat_ledger", "command_inbox", "event_inventory")


async def a_reservation(sale: OnSale) -> ReserveSeats:
    return reserve(sale.event_id, a_user(), sale.seats[:2])


async def a_release(sale: OnSale) -> ReleaseSeats:
    user = a_user()
    return release(sale.event_id, user, (await sale.hold(user, sale.seats[:2])).hold_id)


async def an_extension(sale: OnSale) -> ExtendHold:
    user = a_user()
    return extend(sale.event_id, user, (await sale.hold(user, sale.seats[:2])).hold_id)


async def a_checkout(sale: OnSale) -> Checkout:
    user = a_user()
    return check_out(sale.event_id, user, (await sale.hold(user, sale.seats[:2])).hold_id)


async def a_pending_order(sale: OnSale) -> OrderId:
    checkout = await a_checkout(sale)
    await sale.run(checkout)
    return OrderId(checkout.command_id)


async def a_settled_payment(sale: OnSale) -> SettlePayment:
    return settle(sale.event_id, await a_pending_order(sale))


async def a_declined_payment(sale: OnSale) -> PaymentDeclined:
    return decline(sale.event_id, await a_pending_order(sale))


async def a_canceled_payment(sale: OnSale) -> PaymentCanceled:
    return cancel_payment(sale.event_id, await a_pending_order(sale))


async def a_void(sale: OnSale) -> VoidPayment:
    order_id = await a_pending_order(sale)
    return VoidPayment(command_id=a_command_id(), event_id=sale.event_id, order_id=order_id, reason="given up")


async def a_refund(sale: OnSale) -> RefundOrder:
    order_id = await sale.buy(a_user(), sale.seats[:2])
    return RefundOrder(
        command_id=a_command_id(),
        correlation_id=a_command_id(),
        event_id=sale.event_id,
        order_id=order_id,
        requested_by=a_user(),
    )


async def a_refunded_payment(sale: OnSale) -> PaymentRefunded:
    refund = await a_refund(sale)
    await sale.run(refund)
    return PaymentRefunded(command_id=a_command_id(), event_id=sale.event_id, order_id=refund.order_id)


async def an_expiry(sale: OnSale) -> ExpireHolds:
    hold = await sale.hold(a_user(), sale.seats[:2])
    await sale.end_holds_now(hold.hold_id)
    return expire(sale.event_id, hold.hold_id)


async def a_cancellation(sale: OnSale) -> CancelEvent:
    return CancelEvent(command_id=a_command_id(), event_id=sale.event_id, admin_id=a_user())


async def a_transfer(sale: OnSale) -> TransferTicket:
    return TransferTicket(
        command_id=CommandId(uuid4()),
        event_id=sale.event_id,
        ticket_id=TicketId(uuid4()),
        from_user_id=UserId(uuid4()),
        to_user_id=UserId(uuid4()),
    )


REDELIVERED: dict[type[Command], Prepare] = {
    ReserveSeats: a_reservation,
    ReleaseSeats: a_release,
    ExtendHold: an_extension,
    Checkout: a_checkout,
    SettlePayment: a_settled_payment,
    PaymentDeclined: a_declined_payment,
    PaymentCanceled: a_canceled_payment,
    PaymentRefunded: a_refunded_payment,
    VoidPayment: a_void,
    ExpireHolds: an_expiry,
    RefundOrder: a_refund,
    CancelEvent: a_cancellation,
    TransferTicket: a_transfer,
}


def test_every_command_is_delivered_twice() -> None:
    assert set(REDELIVERED) == set(COMMAND_TYPES)


@pytest.mark.parametrize("kind", REDELIVERED, ids=lambda kind: kind.__name__)
async def test_a_command_delivered_twice_happens_once(sale: OnSale, kind: type[Command]) -> None:
    command = await REDELIVERED[kind](sale)
    untouched = await books_of(sale)
    first = await answers_to(sale, command)
    once = await books_of(sale)
    assert (once == untouched) == (HANDLERS[kind] is decide_not_offered)
    # To another engine, as when the first has died: it knows nothing but what is written.
    assert same(await answers_to(sale, command, another=True), first)
    assert await books_of(sale) == once
    await sale.ledger_agrees_with_seats()


@pytest.mark.parametrize("kind", REDELIVERED, ids=lambda kind: kind.__name__)
async def test_a_command_delivered_twice_in_one_batch_happens_once(sale: OnSale, kind: type[Command]) -> None:
    command = await REDELIVERED[kind](sale)
    ledger_before = await ledger_length(sale)
    outcome = await sale.run(command, command)
    assert outcome.not_processed == []
    happened = await ledger_length(sale) - ledger_before
    assert happened in (0, 2)
    books = await books_of(sale)
    await sale.run(command)
    assert await books_of(sale) == books
    await sale.ledger_agrees_with_seats()


async def answers_to(sale: OnSale, command: AnyCommand, *, another: bool = False) -> list[str]:
    """What the asker, and those who wait since earlier batches, are told."""
    outcome = await sale.run(command, engine=sale.another_engine() if another else None)
    assert outcome.not_processed == []
    told = [(answer.asked.command.correlation_id, answer.reply) for answer in outcome.answered]
    told += [(late.correlation_id, late.reply) for late in outcome.late_replies]
    return sorted(f"{asker} {reply.model_dump_json()}" for asker, reply in told)


def same(again: list[str], first: list[str]) -> bool:
    """Word for word, but that a role's own command may be told that there was nothing left to change."""

    def as_told(answers: list[str]) -> list[str]:
        return [answer.replace('"changed":false', '"changed":true') for answer in answers]

    return as_told(again) == as_told(first)


async def books_of(sale: OnSale) -> dict[str, list[str]]:
    """Every record of the event that a command may change, and its payments but for when they were touched."""
    books = {}
    for table in TABLES:
        sql = f"SELECT t::text AS record FROM {table} AS t WHERE event_id = $1 ORDER BY 1"  # noqa: S608 -- our own names
        books[table] = [row["record"] for row in await sale.pool.fetch(sql, sale.event_id)]
    payments = await sale.pool.fetch(
        "SELECT order_id, intent_id, status, refund_key FROM payments WHERE event_id = $1 ORDER BY 1", sale.event_id
    )
    return books | {"payments": [str(tuple(row)) for row in payments]}


async def ledger_length(sale: OnSale) -> int:
    return int(await sale.pool.fetchval("SELECT count(*) FROM seat_ledger WHERE event_id = $1", sale.event_id))
