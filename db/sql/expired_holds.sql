-- name: find_ends
-- How long these holds have yet to run by this database's clock, which alone decides; those that are no longer active
-- (given back, paying, sold) are not in the answer.
SELECT id, extract(epoch FROM held_until - now())::float8 AS seconds_left
  FROM holds
 WHERE event_id = $1 AND id = ANY($2::uuid[]) AND status = 'active' AND held_until <> 'infinity';

-- name: find_overdue
-- Read from the index of active holds by their end, so it costs what it finds.
SELECT event_id, array_agg(id ORDER BY held_until) AS hold_ids
  FROM (SELECT event_id, id, held_until
          FROM holds
         WHERE status = 'active' AND held_until < now()
         ORDER BY held_until
         LIMIT $1) AS overdue
 GROUP BY event_id;
