-- name: add_sales
-- Ordered, so that two copies that count the same minutes cannot lock each other out.
INSERT INTO sales_per_minute AS s
       (event_id, minute_at, seats_reserved, seats_sold, orders_completed, revenue, currency)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::numeric[], $7::text[])
           AS counted (event_id, minute_at, seats_reserved, seats_sold, orders_completed, revenue, currency)
 ORDER BY event_id, minute_at
    ON CONFLICT (event_id, minute_at) DO UPDATE
   SET seats_reserved   = s.seats_reserved + excluded.seats_reserved,
       seats_sold       = s.seats_sold + excluded.seats_sold,
       orders_completed = s.orders_completed + excluded.orders_completed,
       revenue          = s.revenue + excluded.revenue;
