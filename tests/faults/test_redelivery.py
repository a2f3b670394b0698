"""Does a command that is delivered twice change and answer the same as one that is delivered once?

RabbitMQ delivers at least once, and after a lost COMMIT the engine itself tries again: every kind of command must bear it.
"""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from contracts.commands import (
    COMMAND_TYPES,
    AcceptTransfer,
    AnyCommand,
    ApplyCode,
    CancelEvent,
    ChangePrices,
    Checkout,
    Command,
    DeclineTransfer,
    ExpireHolds,
    ExpireResales,
    ExpireTransfers,
    ExtendHold,
    GiveSeats,
    JoinWaitingList,
    LeaveWaitingList,
    OfferResale,
    OfferTransfer,
    PaymentCanceled,
    PaymentDeclined,
    PaymentRefunded,
    RefundCancelled,
    RefundOrder,
    ReleaseSeats,
    ReserveSeats,
    ReturnSeats,
    SettlePayment,
    VoidPayment,
    WithdrawResale,
    WithdrawTransfer,
    WithholdSeats,
)
from contracts.ids import OrderId, SeatId, UserId
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
from tests.sale_on_paper import payment_refunded, refund
from tests.ticket_offers import (
    accept,
    keep,
    offer,
    resales_over,
    resell,
    take_off_sale,
    transfers_over,
    turn_down,
)

Prepare = Callable[[OnSale], Awaitable[AnyCommand]]

# What a sale writes; touched_at says only when somebody last looked, and the outbox is owed at least once.
TABLES = (
    "seats",
    "holds",
    "orders",
    "order_items",
    "tickets",
    "seat_ledger",
    "command_inbox",
    "event_inventory",
    "transfers",
    "resales",
    "waiting_list",
    "cancellations",
    "money_ledger",
    "audit_log",
)


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
    return refund(sale.event_id, order_id, correlation_id=a_command_id())


async def a_refunded_payment(sale: OnSale) -> PaymentRefunded:
    asked = await a_refund(sale)
    await sale.run(asked)
    return payment_refunded(sale.event_id, asked.order_id, asked.command_id)


async def an_expiry(sale: OnSale) -> ExpireHolds:
    hold = await sale.hold(a_user(), sale.seats[:2])
    await sale.end_holds_now(hold.hold_id)
    return expire(sale.event_id, hold.hold_id)


async def a_cancellation(sale: OnSale) -> CancelEvent:
    await sale.buy(a_user(), sale.seats[:2])
    return CancelEvent(
        command_id=a_command_id(), correlation_id=a_command_id(), event_id=sale.event_id, user_id=a_user()
    )


async def a_round_of_refunds(sale: OnSale) -> RefundCancelled:
    await sale.run(await a_cancellation(sale))
    return RefundCancelled(command_id=a_command_id(), event_id=sale.event_id)


async def a_ticket(sale: OnSale) -> tuple[UserId, UUID]:
    """Somebody's, with its owner."""
    user = a_user()
    order_id = await sale.buy(user, sale.seats[:1])
    return user, await sale.pool.fetchval("SELECT id FROM tickets WHERE order_id = $1", order_id)


async def an_offer(sale: OnSale) -> OfferTransfer:
    return offer(sale.event_id, *(await a_ticket(sale)))


async def an_acceptance(sale: OnSale) -> AcceptTransfer:
    offered = await an_offer(sale)
    await sale.run(offered)
    return accept(sale.event_id, a_user(), offered.command_id)


async def a_refusal(sale: OnSale) -> DeclineTransfer:
    offered = await an_offer(sale)
    await sale.run(offered)
    return turn_down(sale.event_id, a_user(), offered.command_id)


async def a_withdrawal(sale: OnSale) -> WithdrawTransfer:
    offered = await an_offer(sale)
    await sale.run(offered)
    return keep(sale.event_id, offered.user_id, offered.command_id)


async def an_offer_that_is_over(sale: OnSale) -> ExpireTransfers:
    offered = await an_offer(sale)
    await sale.run(offered)
    await sale.pool.execute(
        "UPDATE transfers SET expires_at = now() - interval '1 second' WHERE id = $1", offered.command_id
    )
    return transfers_over(sale.event_id, offered.command_id)


async def a_resale(sale: OnSale) -> OfferResale:
    return resell(sale.event_id, *(await a_ticket(sale)))


async def a_withdrawn_resale(sale: OnSale) -> WithdrawResale:
    offered = await a_resale(sale)
    await sale.run(offered)
    return take_off_sale(sale.event_id, offered.user_id, offered.command_id)


async def a_resale_that_is_over(sale: OnSale) -> ExpireResales:
    offered = await a_resale(sale)
    await sale.run(offered)
    await sale.pool.execute("UPDATE events SET off_sale_date = now() WHERE id = $1", sale.event_id)
    return resales_over(sale.event_id, offered.command_id)


async def a_code(sale: OnSale) -> ApplyCode:
    await sale.pool.execute(
        "INSERT INTO codes (event_id, id, code, percent_off) VALUES ($1, gen_random_uuid(), 'SPRING', 10)",
        sale.event_id,
    )
    user = a_user()
    hold = await sale.hold(user, sale.seats[:2])
    return ApplyCode(**asked(sale), user_id=user, hold_id=hold.hold_id, code="SPRING")


async def a_place_on_the_list(sale: OnSale) -> JoinWaitingList:
    await sale.run(await a_block(sale, sale.seats))
    return JoinWaitingList(**asked(sale), user_id=a_user(), seat_count=1)


async def a_place_given_up(sale: OnSale) -> LeaveWaitingList:
    joined = await a_place_on_the_list(sale)
    await sale.run(joined)
    return LeaveWaitingList(**asked(sale), user_id=joined.user_id)


async def a_block(sale: OnSale, seats: Sequence[SeatId] = ()) -> WithholdSeats:
    return WithholdSeats(**asked(sale), user_id=a_user(), seat_ids=tuple(seats or sale.seats[:2]))


async def a_block_given_back(sale: OnSale) -> ReturnSeats:
    await sale.run(await a_block(sale))
    return ReturnSeats(**asked(sale), user_id=a_user(), seat_ids=tuple(sale.seats[:2]))


async def other_prices(sale: OnSale) -> ChangePrices:
    return ChangePrices(**asked(sale), user_id=a_user(), seat_ids=tuple(sale.seats[:2]), price=Decimal("12.00"))


async def a_present(sale: OnSale) -> GiveSeats:
    return GiveSeats(**asked(sale), user_id=a_user(), to_user_id=a_user(), seat_ids=tuple(sale.seats[:2]))


def asked(sale: OnSale) -> dict[str, Any]:
    return {"command_id": a_command_id(), "correlation_id": a_command_id(), "event_id": sale.event_id}


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
    RefundCancelled: a_round_of_refunds,
    OfferTransfer: an_offer,
    AcceptTransfer: an_acceptance,
    DeclineTransfer: a_refusal,
    WithdrawTransfer: a_withdrawal,
    ExpireTransfers: an_offer_that_is_over,
    OfferResale: a_resale,
    WithdrawResale: a_withdrawn_resale,
    ExpireResales: a_resale_that_is_over,
    ApplyCode: a_code,
    JoinWaitingList: a_place_on_the_list,
    LeaveWaitingList: a_place_given_up,
    WithholdSeats: a_block,
    ReturnSeats: a_block_given_back,
    ChangePrices: other_prices,
    GiveSeats: a_present,
}


def test_every_command_is_delivered_twice() -> None:
    assert set(REDELIVERED) == set(COMMAND_TYPES)


@pytest.mark.parametrize("kind", REDELIVERED, ids=lambda kind: kind.__name__)
async def test_a_command_delivered_twice_happens_once(sale: OnSale, kind: type[Command]) -> None:
    command = await REDELIVERED[kind](sale)
    untouched = await books_of(sale)
    first = await answers_to(sale, command)
    once = await books_of(sale)
    assert once != untouched
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
    assert happened in (0, 1, 2), "no seat twice"
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
    refunds = await sale.pool.fetch(
        "SELECT id, order_id, ticket_ids, amount, status FROM refunds WHERE event_id = $1 ORDER BY 1", sale.event_id
    )
    return books | {"payments": list(map(str, payments)), "refunds": list(map(str, refunds))}


async def ledger_length(sale: OnSale) -> int:
    return int(await sale.pool.fetchval("SELECT count(*) FROM seat_ledger WHERE event_id = $1", sale.event_id))
