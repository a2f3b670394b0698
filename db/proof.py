"""What do the tables say about one event at one moment?"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from contracts.ids import EventId
from db.named_queries import queries
from db.postgres import Pool

_SQL = queries("proof")

# The relay is woken at once and polls every second: what has waited this long is not being sent.
OUTBOX_LATE_SECONDS = 60.0
READ_SECONDS_MAX = 120.0


class UnknownEvent(LookupError):
    """There is no such event to verify."""


class SeatRecord(NamedTuple):
    """A seat as it is now."""

    id: UUID
    seat_index: int
    status: str
    hold_id: UUID | None
    held_until: datetime | None
    order_id: UUID | None
    fence: int
    resale_id: UUID | None


class LedgerRecord(NamedTuple):
    """One seat going from one status to another."""

    seq: int
    seat_id: UUID
    from_status: str
    to_status: str
    hold_id: UUID | None
    order_id: UUID | None


class HoldRecord(NamedTuple):
    """A hold, with the fence of each of its seats when it took them."""

    id: UUID
    seat_ids: list[UUID]
    fences: list[int]
    status: str
    held_until: datetime


class OrderRecord(NamedTuple):
    """An order and what it costs."""

    id: UUID
    hold_id: UUID
    user_id: UUID
    status: str
    total_amount: Decimal
    currency: str
    completed_at: datetime | None = None


class ItemRecord(NamedTuple):
    """A seat in an order; live while it is sold to it. `refund_id`: what gives its money back."""

    order_id: UUID
    seat_id: UUID
    price: Decimal
    live: bool
    fee: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    refund_id: UUID | None = None


class TicketRecord(NamedTuple):
    """A ticket, valid or void."""

    id: UUID
    order_id: UUID
    seat_id: UUID
    status: str


class RefundRecord(NamedTuple):
    """Money of an order that goes back, or has."""

    id: UUID
    order_id: UUID
    kind: str
    ticket_ids: list[UUID]
    amount: Decimal
    fee_kept: Decimal
    currency: str
    status: str


class MoneyRecord(NamedTuple):
    """An amount that went from `credit` to `debit`."""

    order_id: UUID
    debit: str
    credit: str
    amount: Decimal
    currency: str


class CancellationRecord(NamedTuple):
    """That the event was cancelled, and that everybody has had their money back."""

    cancelled_at: datetime
    finished_at: datetime | None


class ResaleRecord(NamedTuple):
    """A seat that its owner sells on: on sale, and still his order's until somebody has paid for it."""

    id: UUID
    order_id: UUID
    seat_id: UUID
    status: str
    price: Decimal
    refund_kind: str | None
    refund_amount: Decimal | None


class PaymentRecord(NamedTuple):
    """What we believe of an order's payment."""

    order_id: UUID
    status: str
    intent_id: str | None
    amount: Decimal
    currency: str
    touched_at: datetime


@dataclass(frozen=True)
class Books:
    """Every record of one event, as of `read_at` by the database's clock."""

    event_id: EventId
    event_name: str
    capacity: int
    ledger_seq: int
    read_at: datetime
    seats: list[SeatRecord]
    ledger: list[LedgerRecord]
    holds: list[HoldRecord]
    orders: list[OrderRecord]
    items: list[ItemRecord]
    tickets: list[TicketRecord]
    resales: list[ResaleRecord]
    payments: list[PaymentRecord]
    refunds: list[RefundRecord]
    money: list[MoneyRecord]
    event_status: str
    # Whether whoever gets the event's fence sees that it is cancelled.
    is_fenced_off: bool
    cancellation: CancellationRecord | None
    late_message_count: int


async def read_books(pool: Pool, event_id: EventId, *, statement_seconds: float = READ_SECONDS_MAX) -> Books:
    """All of it in one snapshot, locking nothing: it may be read while the sale runs. Raises UnknownEvent."""
    async with (
        pool.acquire(timeout=10.0) as connection,
        # READ COMMITTED would show the seats of one moment and the ledger of the next.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(_SQL.let_reads_take_their_time, f"{statement_seconds:.0f}s")
        inventory = await connection.fetchrow(_SQL.find_inventory, event_id)
        if inventory is None:
            raise UnknownEvent(f"there is no event {event_id}")
        return Books(
            event_id=event_id,
            event_name=inventory["name"],
            capacity=inventory["capacity"],
            ledger_seq=inventory["ledger_seq"],
            read_at=inventory["read_at"],
            seats=await _read(connection, _SQL.list_seats, event_id, SeatRecord),
            ledger=await _read(connection, _SQL.list_ledger, event_id, LedgerRecord),
            holds=await _read(connection, _SQL.list_holds, event_id, HoldRecord),
            orders=await _read(connection, _SQL.list_orders, event_id, OrderRecord),
            items=await _read(connection, _SQL.list_items, event_id, ItemRecord),
            tickets=await _read(connection, _SQL.list_tickets, event_id, TicketRecord),
            resales=await _read(connection, _SQL.list_resales, event_id, ResaleRecord),
            payments=await _read(connection, _SQL.list_payments, event_id, PaymentRecord),
            refunds=await _read(connection, _SQL.list_refunds, event_id, RefundRecord),
            money=await _read(connection, _SQL.list_money, event_id, MoneyRecord),
            event_status=inventory["status"],
            is_fenced_off=inventory["is_fenced_off"],
            cancellation=next(
                iter(await _read(connection, _SQL.find_cancellation, event_id, CancellationRecord)), None
            ),
            late_message_count=await connection.fetchval(_SQL.count_late_messages, OUTBOX_LATE_SECONDS),
        )


class EventSeen(NamedTuple):
    """An event that might be verified: how much is written of it, and whether it is on sale or was a short while ago."""

    event_id: EventId
    ledger_seq: int
    capacity: int
    is_current: bool


async def list_events_seen(pool: Pool, *, ended_within_seconds: float) -> list[EventSeen]:
    """Every event of which anything can have changed, a small record each."""
    return [EventSeen(*record.values()) for record in await pool.fetch(_SQL.list_events_seen, ended_within_seconds)]


async def list_owners(pool: Pool) -> dict[UUID, EventId]:
    """Which event each order of the database is for."""
    return {record["id"]: EventId(record["event_id"]) for record in await pool.fetch(_SQL.list_owners, timeout=120.0)}


async def list_event_ids(pool: Pool) -> list[EventId]:
    """Every event that has seats."""
    return [EventId(record["event_id"]) for record in await pool.fetch(_SQL.list_event_ids)]


Kind = TypeVar("Kind", bound=tuple[Any, ...])


async def _read(connection: Any, sql: str, event_id: EventId, kind: type[Kind]) -> list[Kind]:
    make = kind._make  # type: ignore[attr-defined]  # every kind here is a NamedTuple, which typing cannot bound by
    return [make(record.values()) for record in await connection.fetch(sql, event_id, timeout=120.0)]
