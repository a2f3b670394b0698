-- name: find_event_entry
SELECT e.id AS event_id, e.name AS event_name, e.artist, e.event_date, e.status AS event_status,
       e.version + v.version AS version, greatest(e.updated_at, v.updated_at) AS changed_at,
       v.name AS venue_name, v.address AS venue_address, v.city AS venue_city, v.country AS venue_country, v.time_zone
  FROM events e
  JOIN venues v ON v.id = e.venue_id
 WHERE e.id = $1;

-- name: find_order_entry
-- A ticket's version goes up when it is passed on, and it ends once: neither ever goes back.
SELECT o.event_id, o.status AS order_status, count(t.id) FILTER (WHERE t.status = 'valid' AND t.user_id = $2) AS ticket_count,
       coalesce(sum(t.version + (t.status = 'void')::integer), 0)::integer AS ticket_changes
  FROM orders o
  LEFT JOIN tickets t ON t.event_id = o.event_id AND t.order_id = o.id
 WHERE o.id = $1 AND o.user_id = $2
 GROUP BY o.event_id, o.id;
