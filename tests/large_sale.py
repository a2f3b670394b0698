"""How does a test get a sale with tens of thousands of tickets, without selling them one by one?

Written straight into the tables, as the engine would leave them: seats from the first on are sold, two to an order, the next
ones are held, the rest are available.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from contracts.ids import EventId, VenueId
from db.events import create_event
from db.postgres import transaction
from db.venues import create_venue

# $1 is the event, $2 the number of orders, $3 how long the names are.
BUYERS = """
INSERT INTO users (id, email, password_hash, name)
SELECT md5($1::uuid::text || 'user' || n)::uuid, md5($1::uuid::text || n) || '@example.org', 'x', rpad('Buyer ' || n, $3, '.')
  FROM generate_series(1, ($2 + 1) / 2) AS n
"""
BOUGHT = """
INSERT INTO bought
SELECT $1, md5($1::uuid::text || 'order' || n)::uuid, md5($1::uuid::text || 'hold' || n)::uuid,
       md5($1::uuid::text || 'user' || (n + 1) / 2)::uuid, s.id, s.seat_index % 2 = 0,
       now() - make_interval(secs => ($2 - n) * 0.01)
  FROM seats AS s
 CROSS JOIN LATERAL (SELECT s.seat_index / 2 + 1 AS n) AS numbered
 WHERE s.event_id = $1 AND n <= $2
"""
TABLES = """
CREATE TEMPORARY TABLE bought (event_id uuid, order_id uuid, hold_id uuid, user_id uuid, seat_id uuid, is_first boolean,
                               at timestamptz) ON COMMIT DROP
"""
SALE = """
INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, created_at, completed_at)
SELECT event_id, order_id, user_id, hold_id, 'completed', 40, 'EUR', at, at FROM bought WHERE is_first;

INSERT INTO payments (event_id, order_id, provider_key, intent_id, status, amount, currency, payment_method)
SELECT event_id, order_id, order_id::text, 'pi_' || order_id, 'captured', 40, 'EUR', 'pm_card_visa' FROM bought WHERE is_first;

INSERT INTO order_items (event_id, order_id, seat_id, price, fee, tax)
SELECT event_id, order_id, seat_id, 20, 1.68, 3.19 FROM bought;

INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, bought_by, created_at)
SELECT event_id, md5(seat_id::text)::uuid, order_id, seat_id, user_id, user_id, at FROM bought;

INSERT INTO holds (event_id, id, user_id, seat_ids, fences, total, status, held_until, reserved_until, created_at)
SELECT event_id, hold_id, user_id, array_agg(seat_id), array_agg(1), 40, 'converted', at, at, at
  FROM bought
 GROUP BY event_id, hold_id, user_id, at;

UPDATE seats AS s
   SET status = 'sold', hold_id = b.hold_id, order_id = b.order_id, fence = 1
  FROM bought AS b
 WHERE s.event_id = b.event_id AND s.id = b.seat_id;

INSERT INTO money_ledger (event_id, order_id, debit, credit, amount, currency, command_id, at)
SELECT event_id, order_id, 'provider', account, amount, 'EUR', order_id, at
  FROM bought
 CROSS JOIN (VALUES ('tickets', 30.26), ('fees', 3.36), ('tax', 6.38)) AS part (account, amount)
 WHERE is_first
"""


async def a_large_sale(pool: Any, *, seats: int, orders: int, held: int = 0, name_length: int = 12) -> EventId:
    """An event of so many seats at 20.00, of which `orders` people have bought two each, and `held` more are held."""
    event_id, venue_id, now = EventId(uuid4()), VenueId(uuid4()), datetime.now(UTC)
    sections = [{"name": f"Block {n}", "rows": 10, "seatsPerRow": seats // 100, "price": "20.00"} for n in range(10)]
    async with transaction(pool) as tx:
        await tx.execute("SET LOCAL statement_timeout = '60s'")
        await create_venue(tx, venue_id=venue_id, name="The Field", section_config={"sections": sections})
        await create_event(
            tx,
            event_id=event_id,
            venue_id=venue_id,
            name="Everybody comes",
            event_date=now + timedelta(days=30),
            on_sale_date=now - timedelta(minutes=5),
        )
        await tx.execute(TABLES)
        await tx.execute(BUYERS, event_id, orders, name_length, timeout=60)
        await tx.execute(BOUGHT, event_id, orders, timeout=60)
        await tx.execute(SALE, timeout=60)
        await tx.execute(
            "UPDATE seats SET status = 'held', hold_id = gen_random_uuid(), held_until = now() + interval '9 minutes'"
            " WHERE event_id = $1 AND seat_index >= $2 AND seat_index < $2 + $3",
            *(event_id, 2 * orders, held),
        )
    await pool.execute("ANALYZE events, seats, holds, orders, order_items, payments, tickets, money_ledger, users")
    return event_id
