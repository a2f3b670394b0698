-- name: list_seats
-- Held means held only while its time lasts: an expired hold is shown as what it is, available.
SELECT id, seat_index, section, row, seat_number, price,
       CASE WHEN status = 'held' AND held_until <= now() THEN 'available' ELSE status END AS status
  FROM seats
 WHERE event_id = $1
 ORDER BY seat_index;
