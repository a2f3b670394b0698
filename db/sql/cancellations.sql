-- How far the cancellations of events have come. What they do, the engine writes (after_sale.sql).

-- name: find_unfinished
SELECT event_id FROM cancellations WHERE finished_at IS NULL ORDER BY cancelled_at LIMIT $1;

-- name: find_progress
-- Of the orders that came to something: what is given back, is on its way, and is left; and who was paying when it happened.
SELECT c.event_id, c.cancelled_by, c.reason, c.cancelled_at, c.finished_at, e.currency,
       o.refunded AS orders_refunded, o.refunding AS orders_refunding, o.waiting AS orders_waiting,
       o.voiding AS orders_voiding, o.total AS orders_total, coalesce(r.refunded, 0) AS amount_refunded,
       coalesce(r.refunding, 0) AS amount_refunding
  FROM cancellations c
  JOIN events e ON e.id = c.event_id
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE status = 'refunded') AS refunded,
              count(*) FILTER (WHERE status = 'refunding') AS refunding,
              count(*) FILTER (WHERE status = 'completed') AS waiting,
              count(*) FILTER (WHERE status IN ('pending', 'voiding')) AS voiding,
              count(*) FILTER (WHERE status IN ('completed', 'refunding', 'refunded')) AS total
         FROM orders WHERE event_id = c.event_id) AS o
  LEFT JOIN LATERAL (
       SELECT sum(amount) FILTER (WHERE status = 'refunded') AS refunded,
              sum(amount) FILTER (WHERE status = 'requested') AS refunding
         FROM refunds WHERE event_id = c.event_id AND kind = 'cancellation') AS r ON true
 WHERE c.event_id = $1;
