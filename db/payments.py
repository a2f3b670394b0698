"""How far has each payment come?

The payment stage's own notes: they say what was asked of the provider and what it said. What an order and its seats become
of it is the engine's to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from contracts.ids import CommandId, EventId, OrderId, RefundId
from db.named_queries import queries
from db.postgres import Pool, changed_count

_sql = queries("payments")

PaymentId = tuple[EventId, OrderId]


@dataclass(frozen=True)
class SilentPayment:
    """A payment of which nothing has been heard for a while."""

    event_id: EventId
    order_id: OrderId
    provider_key: str
    intent_id: str | None
    amount: Decimal
    currency: str
    payment_method: str
    status: str
    order_status: str
    age_seconds: float
    # Of the request that checked the order out.
    correlation_id: UUID | None


@dataclass(frozen=True)
class SilentRefund:
    """A refund of which nothing has been heard for a while; `provider_key` is its own."""

    event_id: EventId
    order_id: OrderId
    refund_id: RefundId
    provider_key: str
    intent_id: str | None
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class KnownPayment:
    """Our side of a payment that the provider has listed: `refunded` of it went back some time ago, `going_back` is on its way
    or has just arrived."""

    event_id: EventId
    order_id: OrderId
    intent_id: str
    amount: Decimal
    currency: str
    provider_key: str
    status: str
    order_status: str
    refunded: Decimal
    going_back: Decimal


@dataclass(frozen=True)
class OrderPaid:
    """An order of ours and its payment, for comparing with a provider whose books go on where ours end."""

    event_id: EventId
    order_id: OrderId
    intent_id: str | None
    amount: Decimal
    currency: str
    order_status: str
    # Of the refunds that we have of it, as the provider knows them.
    refund_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnknownPayments:
    """Orders whose payment may have happened or not, and how old the oldest of them is (0: there is none)."""

    order_count: int
    oldest_seconds: float


@dataclass(frozen=True)
class WaitingAsker:
    """Who waits for the outcome of an order."""

    reply_to: str
    correlation_id: CommandId


async def store_intents(pool: Pool, intents: Sequence[tuple[EventId, OrderId, str]]) -> set[OrderId]:
    """Store which intent pays which order; returns the orders that still wait for it."""
    records = await pool.fetch(_sql.store_intents, *map(list, zip(*intents, strict=True)))
    return {OrderId(record["order_id"]) for record in records}


async def mark_captured(pool: Pool, payments: Sequence[PaymentId]) -> None:
    """The money of these has been taken."""
    await pool.fetch(_sql.mark_captured, *map(list, zip(*payments, strict=True)))


async def mark_action_needed(pool: Pool, payment: PaymentId, client_secret: str) -> WaitingAsker | None:
    """The buyer must act; returns who is to be told, None when nobody waits or the order does not either."""
    record = await pool.fetchrow(_sql.mark_action_needed, *payment, client_secret)
    if record is None or record["reply_to"] is None or record["correlation_id"] is None:
        return None
    return WaitingAsker(record["reply_to"], CommandId(record["correlation_id"]))


async def store_refund_key(pool: Pool, payment: PaymentId, key: str) -> None:
    """Before the provider is asked, so that every retry asks with the same key."""
    await pool.execute(_sql.store_refund_key, *payment, key)


async def was_never_sent(pool: Pool, payment: PaymentId) -> bool:
    """Whether it is certain that no card has been asked for this payment."""
    return bool(await pool.fetchval(_sql.was_never_sent, *payment))


async def take_silent(pool: Pool, *, silent_seconds: float, limit: int) -> list[SilentPayment]:
    """Claim payments that have been silent for so long."""
    return [SilentPayment(**record) for record in await pool.fetch(_sql.take_silent, silent_seconds, limit)]


async def take_silent_refunds(pool: Pool, *, silent_seconds: float, limit: int) -> list[SilentRefund]:
    """Claim refunds that have been silent for so long."""
    return [SilentRefund(**record) for record in await pool.fetch(_sql.take_silent_refunds, silent_seconds, limit)]


async def find_by_intents(pool: Pool, intent_ids: Sequence[str], *, settled_seconds: float) -> dict[str, KnownPayment]:
    """Our payments by the provider's intent ids. What was refunded so long ago is settled: every list of the provider's that is
    younger must show it."""
    records = await pool.fetch(_sql.find_by_intents, list(intent_ids), settled_seconds)
    return {record["intent_id"]: KnownPayment(**record) for record in records}


async def find_by_orders(pool: Pool, order_ids: Sequence[OrderId]) -> list[OrderPaid]:
    """Those of these orders that we know."""
    return [OrderPaid(**record) for record in await pool.fetch(_sql.find_by_orders, list(order_ids))]


async def find_sold_with_refunds(pool: Pool, intent_ids: Sequence[str], *, sold: Sequence[str]) -> list[OrderPaid]:
    """Those orders paid by these intents that have one of the statuses `sold`, with their refunds."""
    found = await pool.fetch(_sql.find_sold_with_refunds, list(intent_ids), list(sold))
    return [OrderPaid(**{**record, "refund_ids": tuple(record["refund_ids"])}) for record in found]


async def find_oldest_waiting(pool: Pool) -> datetime | None:
    """When the oldest order was made that waits for a payment of which we do not even know the provider's id."""
    oldest: datetime | None = await pool.fetchval(_sql.find_oldest_waiting)
    return oldest


async def count_unknown(pool: Pool, *, silent_seconds: float) -> UnknownPayments:
    """How many orders have waited for so long to hear what has become of their payment, and the oldest of them. One whose
    buyer has something to do at the bank is not among them: of that we know."""
    return UnknownPayments(**await pool.fetchrow(_sql.count_unknown, silent_seconds))


async def record_break(
    pool: Pool, kind: str, *, event_id: UUID | None, order_id: UUID | None, intent_id: str, detail: str
) -> bool:
    """Write a difference down, once while it is open; False when it was there already."""
    return changed_count(await pool.execute(_sql.record_break, kind, event_id, order_id, intent_id, detail)) > 0


async def has_open_break(pool: Pool, kind: str, intent_id: str) -> bool:
    """Whether such a difference waits for a person."""
    return bool(await pool.fetchval(_sql.has_open_break, kind, intent_id))


async def close_break(pool: Pool, kind: str, intent_id: str) -> None:
    """The difference is no more."""
    await pool.execute(_sql.close_break, kind, intent_id)
