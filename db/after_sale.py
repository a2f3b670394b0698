"""What does the engine read and write of orders that are sold: refunds, transfers, resales, the books and the audit log?

Every function is one statement inside the engine's transaction. Only consumers may import this.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from db.named_queries import queries
from db.postgres import Transaction, columns
from db.sale import Records, Row, expect_changed

_sql = queries("after_sale")


async def find_orders_of_tickets(tx: Transaction, event_id: UUID, ticket_ids: Collection[UUID]) -> set[UUID]:
    """Whose these tickets are; unknown ones are nobody's."""
    if not ticket_ids:
        return set()
    return {record["order_id"] for record in await tx.fetch(_sql.find_orders_of_tickets, event_id, list(ticket_ids))}


async def lock_refunds(tx: Transaction, event_id: UUID, order_ids: Collection[UUID]) -> Records:
    """All refunds of these orders."""
    return list(await tx.fetch(_sql.lock_refunds, event_id, list(order_ids))) if order_ids else []


async def insert_refunds(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Refunds as (id, order_id, kind, ticket_ids, amount, fee_kept, currency, status, provider_key, requested_by, reason,
    refunded_at); the ticket ids as an array literal."""
    if rows:
        await tx.execute(_sql.insert_refunds, event_id, at, *columns(rows))


async def update_refunds(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Refunds as (id, status, refunded_at); raises StaleWrite."""
    await _update(tx, _sql.update_refunds, event_id, rows)


async def lock_transfers(
    tx: Transaction, event_id: UUID, transfer_ids: Collection[UUID], ticket_ids: Collection[UUID]
) -> Records:
    """The transfers with these ids, and the open ones of these tickets."""
    if not transfer_ids and not ticket_ids:
        return []
    return list(await tx.fetch(_sql.lock_transfers, event_id, list(transfer_ids), list(ticket_ids)))


async def insert_transfers(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Transfers as (id, ticket_id, ticket_version, from_user_id, to_email, expires_at, status, to_user_id, ended_at)."""
    if rows:
        await tx.execute(_sql.insert_transfers, event_id, at, *columns(rows))


async def update_transfers(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Transfers as (id, status, to_user_id, ended_at); raises StaleWrite."""
    await _update(tx, _sql.update_transfers, event_id, rows)


async def lock_resales(
    tx: Transaction, event_id: UUID, resale_ids: Collection[UUID], ticket_ids: Collection[UUID]
) -> Records:
    """The resales with these ids, and the open ones of these tickets."""
    if not resale_ids and not ticket_ids:
        return []
    return list(await tx.fetch(_sql.lock_resales, event_id, list(resale_ids), list(ticket_ids)))


async def insert_resales(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Resales as (id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id, status, refund_id, ended_at)."""
    if rows:
        await tx.execute(_sql.insert_resales, event_id, at, *columns(rows))


async def update_resales(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Resales as (id, status, refund_id, ended_at, usual_price); raises StaleWrite."""
    await _update(tx, _sql.update_resales, event_id, rows)


async def insert_money(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Entries as (order_id, refund_id, debit, credit, amount, currency, command_id)."""
    if rows:
        await tx.execute(_sql.insert_money, event_id, at, *columns(rows))


async def insert_audits(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Entries as (user_id, action, subject, before, after), the last two as JSON."""
    if rows:
        await tx.execute(_sql.insert_audits, event_id, at, *columns(rows))


async def find_cancellation(tx: Transaction, event_id: UUID) -> asyncpg.Record | None:
    """(cancelled_by, reason, cancelled_at, finished_at) of an event that was cancelled."""
    return await tx.fetchrow(_sql.find_cancellation, event_id)


async def find_orders_to_refund(
    tx: Transaction, event_id: UUID, *, at_once_max: int, patience_seconds: float
) -> set[UUID]:
    """Some of the orders that have not been given back: as many as make `at_once_max` with those that are on their way, not
    counting those that have been for longer than that."""
    records = await tx.fetch(_sql.find_orders_to_refund, event_id, at_once_max, patience_seconds)
    return {record["id"] for record in records}


async def count_orders_to_end(tx: Transaction, event_id: UUID) -> tuple[int, int]:
    """How many orders have something that could be given back, and how many have not come to their end, those included."""
    record = await tx.fetchrow(_sql.count_orders_to_end, event_id)
    return (record["to_refund"], record["under_way"]) if record is not None else (0, 0)


async def cancel_event(tx: Transaction, event_id: UUID, *, at: datetime, cancelled_by: UUID, reason: str) -> None:
    """From the commit on, whoever gets the event's fence finds it cancelled."""
    await tx.execute(_sql.cancel_event, event_id, at, cancelled_by, reason)


async def finish_cancellation(tx: Transaction, event_id: UUID, *, at: datetime) -> None:
    """Nobody's money is left to give back."""
    await tx.execute(_sql.finish_cancellation, event_id, at)


async def _update(tx: Transaction, statement: str, event_id: UUID, rows: Sequence[Row]) -> None:
    if rows:
        expect_changed(len(rows), await tx.execute(statement, event_id, *columns(rows)), "records")
