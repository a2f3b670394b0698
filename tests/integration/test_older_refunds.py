"""Do the books of a sale from before there were refunds, tickets' ends and a money ledger agree after the migration?"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.ids import EventId
from contracts.settings import Settings
from db import migrate as migrating
from db.migrate import migrate, migrations
from db.postgres import open_pool
from ops.verify import verify_event

BEFORE = "0004"


@pytest.fixture
async def old(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """A database of its own, as it was before."""
    name = f"older_{uuid4().hex}"
    server = await asyncpg.connect(settings.postgres_url)
    await server.execute(f"CREATE DATABASE {name}")
    of_old = settings.model_copy(update={"postgres_url": settings.postgres_url.rsplit("/", 1)[0] + f"/{name}"})
    earlier = [migration for migration in migrations() if migration.name < BEFORE]
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "migrations", lambda: earlier)
        await migrate(of_old.postgres_url)
    yield of_old
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


async def test_orders_that_were_refunded_whole_have_their_refunds_and_their_entries(old: Settings) -> None:
    event_id = await _write_old_sale(old)
    await migrate(old.postgres_url)
    async with await open_pool(old, application_name="test", size=1) as pool:
        report = await verify_event(pool, event_id, None)
        assert report.is_clean, [result for result in report.results if result.differences]
        refunds = await pool.fetch("SELECT status, amount, kind FROM refunds ORDER BY status")
    assert [(one["status"], str(one["amount"]), one["kind"]) for one in refunds] == [
        ("refunded", "45.00", "organiser"),
        ("requested", "45.00", "organiser"),
    ]


async def _write_old_sale(old: Settings) -> EventId:
    """One order that is completed, one that is being refunded, and one that is."""
    connection = await asyncpg.connect(old.postgres_url)
    event_id, venue_id, now = EventId(uuid4()), uuid4(), datetime.now(UTC)
    await connection.execute(
        "INSERT INTO venues (id, name, capacity, section_config) VALUES ($1, 'The Old Mill', 3, '{}')", venue_id
    )
    await connection.execute(
        "INSERT INTO events (id, name, venue_id, event_date, on_sale_date, off_sale_date) VALUES ($1, 'Once', $2, $3, $4, $3)",
        *(event_id, venue_id, now + timedelta(days=9), now - timedelta(days=1)),
    )
    await connection.execute("INSERT INTO event_inventory (event_id, capacity) VALUES ($1, 3)", event_id)
    for place, status in enumerate(("completed", "refunding", "refunded")):
        await _write_old_order(connection, event_id, place, status, now)
    await connection.close()
    return event_id


async def _write_old_order(connection: Any, event_id: UUID, place: int, status: str, now: datetime) -> None:
    seat_id, hold_id, order_id, user_id = (uuid4() for _ in range(4))
    is_back = status == "refunded"
    await connection.execute(
        "INSERT INTO seats (event_id, id, seat_index, section, row, seat_number, price, status, hold_id, order_id, fence)"
        " VALUES ($1, $2, $3, 'Stalls', 'A', $4, 45, $5, $6, $7, 1)",
        *(event_id, seat_id, place, str(place), "available" if is_back else "sold"),
        *((None, None) if is_back else (hold_id, order_id)),
    )
    await connection.execute(
        "INSERT INTO holds (event_id, id, user_id, seat_ids, fences, total, status, held_until, reserved_until, created_at)"
        " VALUES ($1, $2, $3, ARRAY[$4::uuid], ARRAY[1], 45, 'converted', $5, $5, $5)",
        *(event_id, hold_id, user_id, seat_id, now),
    )
    await connection.execute(
        "INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)"
        " VALUES ($1, $2, $3, $4, $5, 45, 'EUR', $6, $6)",
        *(event_id, order_id, user_id, hold_id, status, now),
    )
    await connection.execute(
        "INSERT INTO payments (event_id, order_id, provider_key, status, amount, currency, payment_method)"
        " VALUES ($1, $2, $3, $4, 45, 'EUR', 'pm_card_visa')",
        *(event_id, order_id, str(order_id), "refunded" if is_back else "captured"),
    )
    await connection.execute(
        "INSERT INTO order_items (event_id, order_id, seat_id, price, live) VALUES ($1, $2, $3, 45, $4)",
        *(event_id, order_id, seat_id, not is_back),
    )
    await connection.execute(
        "INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *(event_id, uuid4(), order_id, seat_id, user_id, "valid" if status == "completed" else "void", now),
    )
    steps = [("available", "held", hold_id, None), ("held", "sold", hold_id, order_id)]
    steps += [("sold", "available", None, None)] if is_back else []
    for before, after, hold, order in steps:
        await connection.execute(
            "WITH n AS (UPDATE event_inventory SET ledger_seq = ledger_seq + 1 WHERE event_id = $1 RETURNING ledger_seq)"
            " INSERT INTO seat_ledger (event_id, seq, seat_id, from_status, to_status, hold_id, order_id, command_id, at)"
            " SELECT $1, ledger_seq, $2, $3, $4, $5, $6, $7, $8 FROM n",
            *(event_id, seat_id, before, after, hold, order, uuid4(), now),
        )
