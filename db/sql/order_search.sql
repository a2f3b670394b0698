-- name: list_orders
-- Newest first, and by id among those of one moment; a filter that is null does not matter, and is gone before PostgreSQL plans
-- (see db/catalogue.py). $14 and $15 are the place after which the page begins. The arrays are found first, and then an index of
-- orders is asked for what is in them; written with IN, behind an OR, PostgreSQL would look at every order there is.
SELECT bought.id, bought.event_id, event.name AS event_name, bought.status, bought.kind, bought.total_amount, bought.currency,
       bought.user_id, buyer.email, buyer.name, bought.created_at, bought.completed_at,
       (SELECT count(*) FROM order_items AS item WHERE item.event_id = bought.event_id AND item.order_id = bought.id
       ) AS seat_count,
       (SELECT coalesce(sum(refund.amount), 0.00) FROM refunds AS refund
         WHERE refund.event_id = bought.event_id AND refund.order_id = bought.id) AS refunded_amount
  FROM orders AS bought
  JOIN events AS event ON event.id = bought.event_id
  LEFT JOIN users AS buyer ON buyer.id = bought.user_id
 WHERE ($1::uuid IS NULL OR bought.event_id = $1)
   AND ($2::text IS NULL OR bought.user_id = ANY (ARRAY(SELECT id FROM users WHERE email = $2)))
   AND ($3::text IS NULL OR bought.user_id = ANY (ARRAY(SELECT id FROM users WHERE email LIKE $3)))
   AND ($4::uuid IS NULL OR bought.id BETWEEN $4 AND $5)
   AND ($6::text IS NULL OR bought.status = $6)
   AND ($7::text IS NULL OR bought.id = ANY (ARRAY(
        SELECT item.order_id
          FROM seats AS seat
          JOIN order_items AS item ON item.event_id = seat.event_id AND item.seat_id = seat.id
         WHERE seat.event_id = $1 AND seat.section = $7
           AND ($8::text IS NULL OR seat.row = $8) AND ($9::text IS NULL OR seat.seat_number = $9))))
   AND ($10::timestamptz IS NULL OR bought.created_at >= $10)
   AND ($11::timestamptz IS NULL OR bought.created_at < $11)
   AND ($12::uuid IS NULL OR bought.id = ANY (ARRAY(SELECT order_id FROM tickets WHERE id = $12)))
   AND ($13::text IS NULL OR bought.id = ANY (ARRAY(SELECT order_id FROM payments WHERE intent_id = $13)))
   AND ($14::timestamptz IS NULL
        OR (bought.created_at <= $14 AND (bought.created_at < $14 OR bought.id > $15::uuid)))
 ORDER BY bought.created_at DESC, bought.id
 LIMIT $16;
