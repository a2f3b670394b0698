-- name: list_orders
-- Newest first; $3 and $4 are the place after which the page begins (null: from the start).
SELECT o.id, o.event_id, e.name AS event_name, e.event_date, v.time_zone, o.kind, o.status, o.total_amount, o.currency,
       o.created_at, o.completed_at,
       (SELECT count(*) FROM order_items i WHERE i.event_id = o.event_id AND i.order_id = o.id) AS seat_count
  FROM orders o
  JOIN events e ON e.id = o.event_id
  JOIN venues v ON v.id = e.venue_id
 WHERE o.user_id = $1
   AND ($2::uuid IS NULL OR o.event_id = $2)
   AND ($3::timestamptz IS NULL OR (o.created_at, o.id) < ($3, $4::uuid))
 ORDER BY o.created_at DESC, o.id DESC
 LIMIT $5;

-- name: find_order
-- An order for which nothing was to be paid may have no payment.
SELECT o.id, o.event_id, e.name AS event_name, e.event_date, v.time_zone, o.kind, o.status, o.total_amount, o.currency,
       o.created_at, o.completed_at, o.hold_id, o.ended_because, p.status AS payment_status, p.client_secret,
       p.amount AS payment_amount, p.touched_at AS payment_changed_at,
       e.off_sale_date, e.status = 'cancelled' AS cancelled, e.transfers, e.resales, e.refund_until, e.refund_fee_rate,
       now() AS loaded_at
  FROM orders o
  JOIN events e ON e.id = o.event_id
  JOIN venues v ON v.id = e.venue_id
  LEFT JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.id = $1 AND o.user_id = $2;

-- name: list_order_items
-- What its owner has on offer, and whether it has let him in, is his business: $3 sees it only while it is his.
SELECT i.seat_id, s.section, s.row, s.seat_number, i.tier, i.price, i.fee, i.tax, i.reduction, i.live,
       t.id AS ticket_id, t.status AS ticket_status, t.ended_because, t.user_id = $3 AS is_his,
       CASE WHEN t.user_id = $3 THEN t.checked_in_at END AS checked_in_at, f.id AS transfer_id, r.id AS resale_id
  FROM order_items i
  JOIN seats s ON s.event_id = i.event_id AND s.id = i.seat_id
  LEFT JOIN tickets t ON t.event_id = i.event_id AND t.order_id = i.order_id AND t.seat_id = i.seat_id
  LEFT JOIN transfers f ON f.event_id = t.event_id AND f.ticket_id = t.id AND f.status = 'offered' AND f.expires_at > now()
       AND t.user_id = $3
  LEFT JOIN resales r ON r.event_id = t.event_id AND r.ticket_id = t.id AND r.status = 'open' AND t.user_id = $3
 WHERE i.event_id = $1 AND i.order_id = $2
 ORDER BY s.seat_index, s.id;

-- name: list_refunds_of_order
SELECT id, kind, amount, fee_kept, currency, status, ticket_ids, created_at, refunded_at
  FROM refunds
 WHERE event_id = $1 AND order_id = $2
 ORDER BY created_at, id;
