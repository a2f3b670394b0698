-- name: list_orders
-- Newest first; $2 and $3 are the place after which the page begins (null: from the start).
SELECT o.id, o.event_id, e.name AS event_name, e.event_date, o.status, o.total_amount, o.currency, o.created_at,
       o.completed_at,
       (SELECT count(*) FROM order_items i WHERE i.event_id = o.event_id AND i.order_id = o.id) AS seat_count
  FROM orders o
  JOIN events e ON e.id = o.event_id
 WHERE o.user_id = $1
   AND ($2::timestamptz IS NULL OR (o.created_at, o.id) < ($2, $3))
 ORDER BY o.created_at DESC, o.id DESC
 LIMIT $4;

-- name: find_order
SELECT o.id, o.event_id, e.name AS event_name, e.event_date, o.status, o.total_amount, o.currency, o.created_at,
       o.completed_at, o.hold_id, o.ended_because, p.status AS payment_status, p.client_secret
  FROM orders o
  JOIN events e ON e.id = o.event_id
  JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.id = $1 AND o.user_id = $2;

-- name: list_order_items
SELECT i.seat_id, s.section, s.row, s.seat_number, i.price, i.live, t.id AS ticket_id, t.status AS ticket_status
  FROM order_items i
  JOIN seats s ON s.event_id = i.event_id AND s.id = i.seat_id
  LEFT JOIN tickets t ON t.event_id = i.event_id AND t.order_id = i.order_id AND t.seat_id = i.seat_id
 WHERE i.event_id = $1 AND i.order_id = $2
 ORDER BY s.seat_index;
