-- name: lock_seeding
-- Any number will do, as long as it is always this one: of two that seed at once the second finds nothing left to do.
SELECT pg_advisory_xact_lock(7262012);

-- name: known_users
SELECT id FROM users WHERE id = ANY($1::uuid[]);

-- name: known_venues
SELECT id FROM venues WHERE id = ANY($1::uuid[]);

-- name: known_events
SELECT id FROM events WHERE id = ANY($1::uuid[]);

-- name: insert_people
-- The address may belong to somebody who registered with it; then it stays theirs.
INSERT INTO users (id, email, name, role, password_hash)
SELECT person.id, person.email, person.name, person.role, $5
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS person (id, email, name, role)
    ON CONFLICT DO NOTHING;

-- name: list_sold_seats
SELECT order_id, seat_id
  FROM order_items
 WHERE event_id = $1 AND live;

-- name: count_seats_by_status
SELECT status, count(*) AS seat_count
  FROM seats
 WHERE event_id = $1
 GROUP BY status;

-- name: count_undecided
-- What still moves: orders without an outcome, and payments that are to be captured, voided or given back.
SELECT count(*)
  FROM orders AS o
  JOIN payments AS p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.event_id = $1
   AND (o.status IN ('pending', 'voiding', 'refunding') OR (o.status = 'completed' AND p.status <> 'captured'));

-- name: find_event_status
SELECT status FROM events WHERE id = $1;
