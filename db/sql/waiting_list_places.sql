-- name: find_place
-- The user's place of this event: the live one, or what became of the last one. How many wait before it is counted.
SELECT w.id, w.event_id, e.name AS event_name, w.status, w.seat_count, w.section, w.accessible, w.joined_at,
       CASE WHEN w.status = 'waiting' THEN (
            SELECT count(*) FROM waiting_list b
             WHERE b.event_id = w.event_id AND b.status = 'waiting' AND b.position < w.position) END AS people_ahead,
       CASE WHEN w.status = 'offered' THEN w.hold_id END AS hold_id,
       CASE WHEN w.status = 'offered' THEN h.held_until END AS held_until
  FROM waiting_list w
  JOIN events e ON e.id = w.event_id
  LEFT JOIN holds h ON h.event_id = w.event_id AND h.id = w.hold_id
 WHERE w.event_id = $1 AND w.user_id = $2
 ORDER BY w.position DESC
 LIMIT 1;

-- name: list_places
SELECT w.id, w.event_id, e.name AS event_name, w.status, w.seat_count, w.section, w.accessible, w.joined_at,
       CASE WHEN w.status = 'waiting' THEN (
            SELECT count(*) FROM waiting_list b
             WHERE b.event_id = w.event_id AND b.status = 'waiting' AND b.position < w.position) END AS people_ahead,
       CASE WHEN w.status = 'offered' THEN w.hold_id END AS hold_id,
       CASE WHEN w.status = 'offered' THEN h.held_until END AS held_until
  FROM waiting_list w
  JOIN events e ON e.id = w.event_id
  LEFT JOIN holds h ON h.event_id = w.event_id AND h.id = w.hold_id
 WHERE w.user_id = $1
 ORDER BY w.joined_at DESC, w.id
 LIMIT $2;
