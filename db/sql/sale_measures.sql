-- name: count_seats
-- A hold that is over counts as available: it can be had, whether or not anybody has given it back.
SELECT count(*) FILTER (WHERE status = 'available' OR (status = 'held' AND held_until <= now())) AS available,
       count(*) FILTER (WHERE status = 'held' AND held_until > now()) AS held,
       count(*) FILTER (WHERE status = 'sold') AS sold,
       (SELECT ledger_seq FROM event_inventory WHERE event_id = $1) AS change_count
  FROM seats
 WHERE event_id = $1;

-- name: measure_checkouts
-- The latest entries of the ledger name the orders that have just been completed: read from its end, so it costs the same at
-- the end of a sale as at its beginning, and no order needs an index by its time for it.
WITH latest AS (
    SELECT order_id, to_status, at
      FROM seat_ledger
     WHERE event_id = $1
     ORDER BY seq DESC
     LIMIT 2000
), sold AS (
    SELECT order_id, count(*) AS seat_count
      FROM latest
     WHERE to_status = 'sold' AND at > now() - make_interval(secs => $2)
     GROUP BY order_id
)
SELECT count(*) AS order_count,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM o.completed_at - o.created_at)::float8) * 1000 AS p95_ms,
       avg(sold.seat_count)::float8 AS seats_per_order,
       coalesce(stddev_pop(sold.seat_count), 0)::float8 AS seats_per_order_deviation
  FROM sold
  JOIN orders AS o ON o.event_id = $1 AND o.id = sold.order_id
 WHERE o.completed_at IS NOT NULL;

-- name: count_unanswered_payments
-- Asked for so long ago, and the provider has said nothing; not those of long ago, which the reconciler has in hand. Of all
-- events, because there is one provider.
SELECT count(*)
  FROM payments
 WHERE status = 'requested'
   AND created_at BETWEEN now() - make_interval(secs => $2) AND now() - make_interval(secs => $1);

-- name: find_changed_sales
-- Events whose ledger has grown past where we last looked, or that we have not looked at.
SELECT i.event_id, i.ledger_seq
  FROM event_inventory AS i
  JOIN unnest($1::uuid[], $2::bigint[]) AS seen (event_id, ledger_seq) ON seen.event_id = i.event_id
 WHERE i.ledger_seq > seen.ledger_seq;

-- name: count_available
-- As count_seats counts, of many events.
SELECT event_id, count(*) AS available
  FROM seats
 WHERE event_id = ANY($1::uuid[]) AND (status = 'available' OR (status = 'held' AND held_until <= now()))
 GROUP BY event_id;
