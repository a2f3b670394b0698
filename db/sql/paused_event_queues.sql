-- name: pause
-- A second pause keeps the moment of the first, and takes the newer reason.
INSERT INTO paused_event_queues (event_id, reason) VALUES ($1, $2)
ON CONFLICT (event_id) DO UPDATE SET reason = excluded.reason
RETURNING event_id, paused_at, reason;

-- name: resume
DELETE FROM paused_event_queues WHERE event_id = $1
RETURNING event_id, paused_at, reason;

-- name: find_paused
SELECT event_id FROM paused_event_queues;

-- name: list_paused
SELECT event_id, paused_at, reason FROM paused_event_queues ORDER BY paused_at;

-- name: find_event
-- Its name, and whether it has a queue of its own: as long as its sale is open (see sale_clock.find_open_sales).
SELECT name,
       (on_sale_date <= now() OR presale_date <= now()) AND now() < off_sale_date
       AND status NOT IN ('cancelled', 'completed') AS is_open
  FROM events
 WHERE id = $1;
