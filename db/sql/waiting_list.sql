-- name: find_places
-- What those who ask about their own have.
SELECT id, user_id, position, seat_count, section, accessible, status, hold_id, joined_at, offered_at, ended_at
  FROM waiting_list
 WHERE event_id = $1 AND user_id = ANY($2::uuid[]) AND status IN ('waiting', 'offered')
   FOR UPDATE;

-- name: find_line
SELECT id, user_id, position, seat_count, section, accessible, status, hold_id, joined_at, offered_at, ended_at
  FROM waiting_list
 WHERE event_id = $1 AND status = 'waiting'
 ORDER BY position
 LIMIT $2
   FOR UPDATE;

-- name: count_free_seats
SELECT section, kind IN ('accessible', 'companion') AS accessible, count(*) AS free_count
  FROM seats
 WHERE event_id = $1 AND status = 'available'
 GROUP BY 1, 2;

-- name: insert_places
INSERT INTO waiting_list (event_id, id, user_id, position, seat_count, section, accessible, joined_at)
SELECT $1, p.id, p.user_id, p.position, p.seat_count, p.section, p.accessible, $2
  FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::integer[], $7::text[], $8::boolean[])
       AS p (id, user_id, position, seat_count, section, accessible);

-- name: update_places
UPDATE waiting_list w
   SET status = c.status, hold_id = c.hold_id, offered_at = c.offered_at, ended_at = c.ended_at
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[])
       AS c (id, status, hold_id, offered_at, ended_at)
 WHERE w.event_id = $1 AND w.id = c.id;

-- name: end_offers
UPDATE waiting_list w
   SET status = c.status, ended_at = $2
  FROM unnest($3::uuid[], $4::text[]) AS c (id, status)
 WHERE w.event_id = $1 AND w.id = c.id AND w.status = 'offered';

-- name: save_counts
UPDATE event_inventory SET waiting_count = $2, waiting_serial = $3 WHERE event_id = $1;
