"""What does the engine read and write of one event?

Every function is one statement of `db/sql/sale.sql` inside the engine's transaction; records go in and out as whole
batches, because a round trip per record would cost more than the sale. Only consumers may import this.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from db.named_queries import queries
from db.postgres import Pool, Transaction, changed_count, columns

Records = list[asyncpg.Record]
Row = Sequence[Any]

SQL = queries("sale")


class StaleWrite(Exception):
    """Fewer records changed than were written: somebody else changed them first. Nothing is saved; try again."""


async def lock_event(tx: Transaction, event_id: UUID) -> asyncpg.Record | None:
    """Take the event's fence, and read its terms and the database's clock; None when there is no such event."""
    return await tx.fetchrow(SQL.lock_event, event_id)


async def lock_holds(tx: Transaction, event_id: UUID, hold_ids: Collection[UUID]) -> Records:
    """The holds with these ids; the missing are simply not there."""
    return list(await tx.fetch(SQL.lock_holds, event_id, list(hold_ids))) if hold_ids else []


async def lock_orders(
    tx: Transaction, event_id: UUID, order_ids: Collection[UUID], hold_ids: Collection[UUID]
) -> Records:
    """The orders with these ids, and the live ones on these holds, each with its payment."""
    if not order_ids and not hold_ids:
        return []
    return list(await tx.fetch(SQL.lock_orders, event_id, list(order_ids), list(hold_ids)))


async def lock_seats(tx: Transaction, event_id: UUID, seat_ids: Collection[UUID]) -> Records:
    """The seats with these ids that nobody else has locked."""
    return list(await tx.fetch(SQL.lock_seats, event_id, list(seat_ids))) if seat_ids else []


async def known_seats(tx: Transaction, event_id: UUID, seat_ids: Collection[UUID]) -> Records:
    """Which of these seats exist, locked or not."""
    return list(await tx.fetch(SQL.known_seats, event_id, list(seat_ids))) if seat_ids else []


async def try_seat_locks(tx: Transaction, event_id: UUID, seat_ids: Collection[UUID]) -> set[UUID]:
    """Advisory locks until the transaction ends, where they can be had; returns the seats that could not be locked."""
    if not seat_ids:
        return set()
    records = await tx.fetch(SQL.try_seat_locks, event_id, list(seat_ids))
    return {record["seat_id"] for record in records if not record["locked"]}


async def count_seats_of_users(tx: Transaction, event_id: UUID, user_ids: Collection[UUID]) -> Records:
    """(user_id, seat_count, hold_count): how many seats each of these users holds or owns, and in how many live holds."""
    return list(await tx.fetch(SQL.count_seats_of_users, event_id, list(user_ids))) if user_ids else []


async def read_answers(tx: Transaction, event_id: UUID, command_ids: Collection[UUID]) -> Records:
    """What these commands were answered before, if they were."""
    return list(await tx.fetch(SQL.read_answers, event_id, list(command_ids))) if command_ids else []


async def read_seat_map(pool: Pool, event_id: UUID) -> tuple[int, Records]:
    """The ledger number and all seats in map order, as of one moment."""
    async with (
        pool.acquire(timeout=5.0) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        ledger_seq = await connection.fetchval(SQL.read_ledger_seq, event_id)
        return ledger_seq or 0, list(await connection.fetch(SQL.read_seat_map, event_id))


async def read_seats_of_map(tx: Transaction, event_id: UUID) -> Records:
    """All seats in map order, as they are for this transaction before it writes any."""
    return list(await tx.fetch(SQL.read_seat_map, event_id))


async def save_seats(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Seats as (id, status, hold_id, held_until, order_id, fence, fence_read, resale_id); raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(SQL.save_seats, event_id, *columns(rows)), "seats")


async def save_prices(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Seats as (id, price); raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(SQL.save_prices, event_id, *columns(rows)), "prices")


async def keep_prices_of_holds(tx: Transaction, event_id: UUID) -> None:
    """Whoever holds seats pays what he was told, whatever they cost from now on; call it before `save_prices`."""
    await tx.execute(SQL.keep_prices_of_holds, event_id)


async def follow_prices(tx: Transaction, event_id: UUID) -> None:
    """The event's lowest and highest price, and its version, follow its seats'; call it after `save_prices`."""
    await tx.execute(SQL.follow_prices, event_id)


async def append_ledger(tx: Transaction, event_id: UUID, *, last_seq: int, at: datetime, rows: Sequence[Row]) -> None:
    """Entries as (seat_id, from_status, to_status, hold_id, order_id, command_id), numbered on from `last_seq` without a
    gap. Raises StaleWrite when somebody else has numbered meanwhile."""
    if rows:
        changed = await tx.execute(SQL.append_ledger, event_id, last_seq, at, *columns(rows))
        expect_changed(len(rows), changed, "ledger entries")


async def insert_holds(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Holds as (id, user_id, seat_ids, fences, total, status, held_until, reserved_until, request_hash,
    prices, tiers, reductions, code_id, waiting_id)."""
    if rows:
        await tx.execute(SQL.insert_holds, event_id, at, *columns(rows))


async def update_holds(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Holds as (id, status, held_until, total); raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(SQL.update_holds, event_id, *columns(rows)), "holds")


async def insert_orders(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Orders with their payments, as (id, user_id, hold_id, status, total, currency, request_hash, reply_to,
    correlation_id, provider_key, payment_status, payment_method, kind, code_id, answer, completed_at)."""
    if rows:
        await tx.execute(SQL.insert_orders, event_id, at, *columns(rows))


async def update_orders(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Orders with their payments, as (id, status, ended_because, answer, completed_at, reply_to, correlation_id,
    payment_status, intent_id); raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(SQL.update_orders, event_id, *columns(rows)), "orders")


async def insert_tickets(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Tickets with their order items, as (ticket_id, order_id, seat_id, user_id, price, fee, tax, reduction, tier); a seat that
    is sold already violates `a_seat_is_sold_once`."""
    if rows:
        await tx.execute(SQL.insert_tickets, event_id, at, *columns(rows))


async def lock_tickets(tx: Transaction, event_id: UUID, order_ids: Collection[UUID]) -> Records:
    """All tickets of these orders, with their order items."""
    return list(await tx.fetch(SQL.lock_tickets, event_id, list(order_ids))) if order_ids else []


async def update_tickets(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Tickets with their order items, as (id, order_id, seat_id, user_id, version, status, ended_because, live, refund_id);
    raises StaleWrite."""
    if rows:
        expect_changed(len(rows), await tx.execute(SQL.update_tickets, event_id, *columns(rows)), "tickets")


async def insert_answers(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Answers as (command_id, request_hash, reply)."""
    if rows:
        await tx.execute(SQL.insert_answers, event_id, at, *columns(rows))


def expect_changed(wanted: int, command_tag: str, what: str) -> None:
    """Raises StaleWrite when fewer records (or more) were changed than were written; `what` says which."""
    changed = changed_count(command_tag)
    if changed != wanted:
        raise StaleWrite(f"{changed} of {wanted} {what} could be changed")
