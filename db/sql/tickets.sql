-- name: list_own_tickets
-- Whose shows are soonest first; $4 and $5 are the place behind which the page begins (null: from the start). A show that has
-- begun is not over yet.
SELECT t.event_id, t.id
  FROM tickets t
  JOIN events e ON e.id = t.event_id
 WHERE t.user_id = $1
   AND ($2::uuid IS NULL OR t.event_id = $2)
   AND (NOT $3::boolean OR e.event_date > now() - interval '1 day')
   AND ($4::timestamptz IS NULL OR (e.event_date, t.id) > ($4, $5::uuid))
 ORDER BY e.event_date, t.id
 LIMIT $6;

-- name: find_own_ticket
SELECT event_id, id FROM tickets WHERE id = $1 AND user_id = $2;

-- name: list_tickets_of_orders
-- Those that their buyers still have.
SELECT t.event_id, t.id
  FROM tickets t
  JOIN orders o ON o.event_id = t.event_id AND o.id = t.order_id AND o.user_id = t.user_id
 WHERE t.event_id = $1 AND t.order_id = ANY($2::uuid[]) AND t.status = 'valid';

-- name: load_tickets
SELECT t.event_id, t.id, t.order_id, t.user_id, t.bought_by, t.version, t.status, t.ended_because, t.checked_in_at,
       s.seat_index, s.section, s.row, s.seat_number, i.tier, i.price, o.currency,
       e.name AS event_name, e.artist, e.event_date, e.off_sale_date, e.status AS event_status, e.rotating_codes,
       e.transfers, e.resales, e.refund_until, e.refund_fee_rate,
       v.name AS venue_name, v.address AS venue_address, v.city AS venue_city, v.country AS venue_country, v.time_zone,
       coalesce(u.name, '') AS holder,
       f.id AS transfer_id, f.expires_at AS transfer_expires_at, r.id AS resale_id, r.price AS resale_price,
       now() AS loaded_at
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS wanted (event_id, id, place)
  JOIN tickets t ON t.event_id = wanted.event_id AND t.id = wanted.id
  JOIN orders o ON o.event_id = t.event_id AND o.id = t.order_id
  JOIN order_items i ON i.event_id = t.event_id AND i.order_id = t.order_id AND i.seat_id = t.seat_id
  JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
  JOIN events e ON e.id = t.event_id
  JOIN venues v ON v.id = e.venue_id
  LEFT JOIN users u ON u.id = t.user_id
  -- Of each there is one open at most.
  LEFT JOIN transfers f ON f.event_id = t.event_id AND f.ticket_id = t.id AND f.status = 'offered' AND f.expires_at > now()
  LEFT JOIN resales r ON r.event_id = t.event_id AND r.ticket_id = t.id AND r.status = 'open'
 ORDER BY wanted.place;
