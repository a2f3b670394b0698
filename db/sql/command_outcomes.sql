-- name: find_hold_of_command
SELECT h.id, h.user_id, h.seat_ids, h.total, h.reserved_until, e.currency,
       array_agg(s.id ORDER BY p.position) AS ids, array_agg(s.section ORDER BY p.position) AS sections,
       array_agg(s.row ORDER BY p.position) AS rows, array_agg(s.seat_number ORDER BY p.position) AS numbers,
       array_agg(coalesce(h.prices[p.position], s.price) ORDER BY p.position) AS prices
  FROM holds h
  JOIN events e ON e.id = h.event_id
  JOIN unnest(h.seat_ids) WITH ORDINALITY AS p (seat_id, position) ON true
  JOIN seats s ON s.event_id = h.event_id AND s.id = p.seat_id
 WHERE h.event_id = $1 AND h.id = $2 AND h.user_id = $3
 GROUP BY h.id, h.user_id, h.seat_ids, h.total, h.reserved_until, e.currency;

-- name: find_order_of_command
SELECT o.status, o.answer, p.status AS payment_status, p.client_secret
  FROM orders o
  JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.event_id = $1 AND o.id = $2 AND o.user_id = $3;

-- name: find_answer_of_command
SELECT i.reply
  FROM command_inbox i
 WHERE i.event_id = $1 AND i.command_id = $2;
