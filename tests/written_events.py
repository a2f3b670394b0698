"""Events, holds and orders as they are found in the database, written there without an engine."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from contracts.ids import EventId, HoldId, OrderId, SeatId, UserId
from db.postgres import Pool


async def write_event(
    pool: Pool,
    *,
    seat_count: int = 2,
    status: str = "on_sale",
    on_sale_in: timedelta = timedelta(hours=-1),
    off_sale_in: timedelta = timedelta(hours=1),
    starts_in: timedelta | None = None,
    name: str = "The Test Event",
) -> EventId:
    """An event whose dates lie so far from the database's now."""
    venue_id, event_id = uuid4(), uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO venues (id, name, address, city, capacity, section_config)"
            " VALUES ($1, 'Hall <One>', 'Long Street 1', 'Test Town', $2,"
            ' \'{"sections": [{"name": "A", "rows": 1, "seatsPerRow": 1, "price": "45.00"}]}\')',
            venue_id,
            max(seat_count, 1),
        )
        await connection.execute(
            "INSERT INTO events (id, name, artist, venue_id, status, event_date, on_sale_date, off_sale_date)"
            " VALUES ($1, $2, 'A & B', $3, $4, now() + $5::interval, now() + $6::interval, now() + $7::interval)",
            *(event_id, name, venue_id, status, starts_in or off_sale_in, on_sale_in, off_sale_in),
        )
        await connection.execute(
            "INSERT INTO event_inventory (event_id, capacity) VALUES ($1, $2)", event_id, seat_count
        )
        await connection.executemany(
            "INSERT INTO seats (event_id, id, seat_index, section, row, seat_number, price)"
            " VALUES ($1, $2, $3, 'A', '1', $4, 45)",
            [(event_id, uuid4(), index, str(index + 1)) for index in range(seat_count)],
        )
    return EventId(event_id)


async def seats_of(pool: Pool, event_id: EventId) -> list[SeatId]:
    """The event's seats in the order of the map."""
    records = await pool.fetch("SELECT id FROM seats WHERE event_id = $1 ORDER BY seat_index", event_id)
    return [SeatId(record["id"]) for record in records]


async def write_hold(
    pool: Pool, event_id: EventId, *, ends_in: timedelta, status: str = "active", seat_ids: Sequence[UUID] = ()
) -> HoldId:
    """A hold that ends so far from the database's now; its seats are not touched."""
    hold_id = uuid4()
    await pool.execute(
        "INSERT INTO holds (event_id, id, user_id, seat_ids, fences, total, status, held_until, reserved_until, created_at)"
        " VALUES ($1, $2, $3, $4, $5, 45, $6, now() + $7::interval, now() + $7::interval, now())",
        *(event_id, hold_id, uuid4(), list(seat_ids) or [uuid4()], [1] * (len(seat_ids) or 1), status, ends_in),
    )
    return HoldId(hold_id)


async def write_order(pool: Pool, event_id: EventId, *, email: str | None = None) -> tuple[OrderId, UserId, str]:
    """A completed order of a new user: its id, the user's, and the user's address."""
    order_id, user_id = uuid4(), uuid4()
    address = email or f"buyer-{user_id}@example.org"
    await pool.execute(
        "INSERT INTO users (id, email, password_hash, name) VALUES ($1, $2, '-', 'Ann <Buyer>')", user_id, address
    )
    await pool.execute(
        "INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)"
        " VALUES ($1, $2, $3, $4, 'completed', 90, 'EUR', now(), now())",
        *(event_id, order_id, user_id, uuid4()),
    )
    return OrderId(order_id), UserId(user_id), address
