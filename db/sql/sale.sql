-- What the engine reads and writes of one event, in one transaction, each statement once per batch.

-- name: lock_event
-- The fence: whoever has this record has the event. Everything below is read after it and is therefore the truth. So are the
-- columns of this record; those of the event may be older, if somebody else had the fence when we asked for it.
SELECT i.ledger_seq, i.waiting_count, i.waiting_serial, e.on_sale_date, e.off_sale_date, e.presale_date, e.event_date,
       i.cancelled_at IS NOT NULL OR e.status = 'cancelled' AS cancelled, e.high_demand, e.ticket_limit, e.currency,
       e.fee_rate, e.tax_rate, e.refund_until, e.refund_fee_rate, e.transfers, e.resales, now() AS now
  FROM event_inventory i
  JOIN events e ON e.id = i.event_id
 WHERE i.event_id = $1
   FOR UPDATE OF i;

-- name: lock_holds
SELECT id, user_id, seat_ids, fences, total, status, held_until, reserved_until, request_hash, created_at,
       prices, tiers, reductions, code_id, waiting_id
  FROM holds
 WHERE event_id = $1 AND id = ANY($2::uuid[])
 ORDER BY id
   FOR UPDATE;

-- name: lock_orders
-- By their own ids, or the live ones that stand on these holds.
SELECT o.id, o.user_id, o.hold_id, o.status, o.total_amount, o.currency, o.request_hash, o.reply_to, o.correlation_id,
       o.ended_because, o.answer, o.created_at, o.completed_at, o.kind, o.code_id,
       p.status AS payment_status, p.provider_key, p.intent_id, p.client_secret, p.payment_method
  FROM orders o
  JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.event_id = $1
   AND (o.id = ANY($2::uuid[])
        OR (o.hold_id = ANY($3::uuid[]) AND o.status NOT IN ('declined', 'cancelled')))
 ORDER BY o.id
   FOR UPDATE OF o;

-- name: lock_seats
-- Ordered, so that overlapping batches queue up instead of deadlocking; a record somebody else has locked is as good as
-- taken (SKIP LOCKED is NOWAIT for a batch).
SELECT id, seat_index, section, row, seat_number, price, status, hold_id, held_until, order_id, fence, resale_id
  FROM seats
 WHERE event_id = $1 AND id = ANY($2::uuid[])
 ORDER BY id
   FOR UPDATE SKIP LOCKED;

-- name: known_seats
-- Which of these are seats of the event at all: a seat that was not locked is taken, one that does not exist is unknown.
SELECT id, seat_index, section, row, seat_number, price
  FROM seats
 WHERE event_id = $1 AND id = ANY($2::uuid[]);

-- name: try_seat_locks
-- The filter while Redis is away: transaction-scoped, so that no lock outlives its batch on a pooled connection.
SELECT seat_id, pg_try_advisory_xact_lock(hashtextextended($1::uuid::text || seat_id::text, 0)) AS locked
  FROM unnest($2::uuid[]) AS seat_id
 ORDER BY seat_id;

-- name: count_seats_of_users
-- One index probe per user. Written as a join or with = ANY, the planner may scan the table instead, and on a table that was
-- never analysed it did (28 ms for a batch that takes 5).
SELECT u.user_id,
       live.seat_count
     -- What he bought counts, whoever has it now: passing tickets on must not make room for more. So does what he was given.
     + (SELECT count(*) FROM tickets t WHERE t.event_id = $1 AND t.bought_by = u.user_id AND t.status = 'valid')
     + (SELECT count(*) FROM tickets t
         WHERE t.event_id = $1 AND t.user_id = u.user_id AND t.bought_by <> u.user_id AND t.status = 'valid')
       AS seat_count,
       live.hold_count
  FROM unnest($2::uuid[]) AS u (user_id)
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(cardinality(h.seat_ids)), 0) AS seat_count, count(*) AS hold_count
         FROM holds h
        WHERE h.event_id = $1 AND h.user_id = u.user_id
          AND h.status IN ('active', 'paying') AND (h.status = 'paying' OR h.held_until > now())) AS live;

-- name: read_answers
SELECT command_id, request_hash, reply FROM command_inbox WHERE event_id = $1 AND command_id = ANY($2::uuid[]);

-- name: read_seat_map
SELECT id, section, row, kind, status, held_until
  FROM seats
 WHERE event_id = $1
 ORDER BY seat_index;

-- name: read_ledger_seq
SELECT ledger_seq FROM event_inventory WHERE event_id = $1;

-- name: save_seats
-- The fence in the predicate: a writer whose knowledge is stale changes nothing, and the record count tells on it.
UPDATE seats s
   SET status = c.status, hold_id = c.hold_id, held_until = c.held_until, order_id = c.order_id, fence = c.fence,
       resale_id = c.resale_id
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[], $6::uuid[], $7::bigint[], $8::bigint[], $9::uuid[])
       AS c (id, status, hold_id, held_until, order_id, fence, fence_read, resale_id)
 WHERE s.event_id = $1 AND s.id = c.id AND s.fence = c.fence_read;

-- name: append_ledger
-- The numbers are taken and used in one statement; if somebody else has taken numbers meanwhile, nothing is appended.
WITH numbers AS (
    UPDATE event_inventory SET ledger_seq = $2 + cardinality($4::uuid[]) WHERE event_id = $1 AND ledger_seq = $2
    RETURNING event_id
)
INSERT INTO seat_ledger (event_id, seq, seat_id, from_status, to_status, hold_id, order_id, command_id, at)
SELECT n.event_id, $2 + e.position, e.seat_id, e.from_status, e.to_status, e.hold_id, e.order_id, e.command_id, $3
  FROM numbers n,
       unnest($4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::uuid[], $9::uuid[])
       WITH ORDINALITY AS e (seat_id, from_status, to_status, hold_id, order_id, command_id, position);

-- name: save_prices
UPDATE seats s
   SET price = c.price
  FROM unnest($2::uuid[], $3::numeric[]) AS c (id, price)
 WHERE s.event_id = $1 AND s.id = c.id;

-- name: keep_prices_of_holds
-- Before prices change: a live hold that is older than its column of prices costs what its seats cost, so it is written
-- down what that was. Of any other event this finds nothing, by an index.
UPDATE holds h
   SET prices = (SELECT array_agg(s.price ORDER BY p.position)
                   FROM unnest(h.seat_ids) WITH ORDINALITY AS p (seat_id, position)
                   JOIN seats s ON s.event_id = h.event_id AND s.id = p.seat_id)
 WHERE h.event_id = $1 AND h.prices IS NULL AND h.status IN ('active', 'paying');

-- name: follow_prices
-- What the catalogue shows: of the seats that may still be sold, or of all where there are none. Of a seat that its owner
-- offers to others, what it usually costs. The version goes up, so that whoever keeps the prices and has not heard of the
-- change sees that they are no longer these.
UPDATE events e
   SET price_min = p.low, price_max = p.high, version = e.version + 1, updated_at = now()
  FROM (SELECT coalesce(min(usual) FILTER (WHERE status <> 'sold'), min(usual)) AS low,
               coalesce(max(usual) FILTER (WHERE status <> 'sold'), max(usual)) AS high
          FROM (SELECT s.status, coalesce(r.usual_price, s.price) AS usual
                  FROM seats s
                  LEFT JOIN resales r ON r.event_id = s.event_id AND r.id = s.resale_id
                 WHERE s.event_id = $1) AS seat) AS p
 WHERE e.id = $1;

-- name: insert_holds
-- Arrays of arrays must be rectangular, so each hold's seats travel as one text literal and become an array here.
INSERT INTO holds (event_id, id, user_id, seat_ids, fences, total, status, held_until, reserved_until, request_hash, prices,
                   tiers, reductions, code_id, waiting_id, created_at)
SELECT $1, h.id, h.user_id, h.seat_ids::uuid[], h.fences::bigint[], h.total, h.status, h.held_until, h.reserved_until,
       h.request_hash, h.prices::numeric[], h.tiers::text[], h.reductions::numeric[], h.code_id, h.waiting_id, $2
  FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::text[], $9::timestamptz[],
              $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::uuid[])
       AS h (id, user_id, seat_ids, fences, total, status, held_until, reserved_until, request_hash, prices, tiers,
             reductions, code_id, waiting_id);

-- name: update_holds
UPDATE holds h
   SET status = c.status, held_until = c.held_until, total = c.total
  FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::numeric[]) AS c (id, status, held_until, total)
 WHERE h.event_id = $1 AND h.id = c.id;

-- name: insert_orders
-- An order and its one payment are born together. One that costs nothing is completed from its first moment.
WITH born AS (
    SELECT *
      FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::numeric[], $8::text[], $9::text[], $10::text[],
                  $11::uuid[], $12::text[], $13::text[], $14::text[], $15::text[], $16::uuid[], $17::text[],
                  $18::timestamptz[])
           AS o (id, user_id, hold_id, status, total, currency, request_hash, reply_to, correlation_id,
                 provider_key, payment_status, payment_method, kind, code_id, answer, completed_at)
), new_orders AS (
    INSERT INTO orders (event_id, id, user_id, hold_id, status, total_amount, currency, request_hash, reply_to,
                        correlation_id, kind, code_id, answer, completed_at, created_at)
    SELECT $1, id, user_id, hold_id, status, total, currency, request_hash, reply_to, correlation_id, kind, code_id, answer,
           completed_at, $2
      FROM born
)
INSERT INTO payments (event_id, order_id, provider_key, status, amount, currency, payment_method)
SELECT $1, id, provider_key, payment_status, total, currency, payment_method FROM born;

-- name: update_orders
WITH changed AS (
    SELECT *
      FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::uuid[], $9::text[],
                  $10::text[])
           AS c (id, status, ended_because, answer, completed_at, reply_to, correlation_id, payment_status, intent_id)
), paid AS (
    UPDATE payments p
       SET status = c.payment_status, intent_id = coalesce(c.intent_id, p.intent_id), touched_at = now()
      FROM changed c
     WHERE p.event_id = $1 AND p.order_id = c.id AND p.status <> c.payment_status
       -- The payment stage captures without the fence: what it has written since we looked stays.
       AND NOT (p.status = 'captured' AND c.payment_status = 'authorized')
)
UPDATE orders o
   SET status = c.status, ended_because = c.ended_because, answer = c.answer, completed_at = c.completed_at,
       reply_to = c.reply_to, correlation_id = c.correlation_id
  FROM changed c
 WHERE o.event_id = $1 AND o.id = c.id;

-- name: insert_tickets
-- A seat of an order and its ticket.
WITH sold AS (
    SELECT *
      FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::numeric[], $8::numeric[], $9::numeric[],
                  $10::numeric[], $11::text[])
           AS s (ticket_id, order_id, seat_id, user_id, price, fee, tax, reduction, tier)
), items AS (
    INSERT INTO order_items (event_id, order_id, seat_id, price, fee, tax, reduction, tier)
    SELECT $1, order_id, seat_id, price, fee, tax, reduction, tier FROM sold
)
INSERT INTO tickets (event_id, id, order_id, seat_id, user_id, bought_by, created_at)
SELECT $1, ticket_id, order_id, seat_id, user_id, user_id, $2 FROM sold;

-- name: lock_tickets
-- All of these orders. Locked, because the door writes check-ins without the fence.
SELECT t.id, t.order_id, t.seat_id, t.user_id, t.bought_by, i.price, i.fee, i.tax, i.reduction, i.tier, t.version, t.status,
       t.ended_because, t.checked_in_at, i.live, i.refund_id
  FROM tickets t
  JOIN order_items i ON i.event_id = t.event_id AND i.order_id = t.order_id AND i.seat_id = t.seat_id
 WHERE t.event_id = $1 AND t.order_id = ANY($2::uuid[])
 ORDER BY t.id
   FOR UPDATE OF t;

-- name: update_tickets
WITH changed AS (
    SELECT *
      FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::text[], $8::text[], $9::boolean[],
                  $10::uuid[])
           AS c (id, order_id, seat_id, user_id, version, status, ended_because, live, refund_id)
), items AS (
    UPDATE order_items i
       SET live = c.live, refund_id = c.refund_id
      FROM changed c
     WHERE i.event_id = $1 AND i.order_id = c.order_id AND i.seat_id = c.seat_id
)
UPDATE tickets t
   SET user_id = c.user_id, version = c.version, status = c.status, ended_because = c.ended_because
  FROM changed c
 WHERE t.event_id = $1 AND t.id = c.id;

-- name: insert_answers
INSERT INTO command_inbox (event_id, command_id, request_hash, reply, at)
SELECT $1, a.command_id, a.request_hash, a.reply, $2
  FROM unnest($3::uuid[], $4::text[], $5::text[]) AS a (command_id, request_hash, reply);
