-- name: store_intents
-- T2: only while the order still waits for this payment; whoever finds it gone does not confirm. The orders are locked, so
-- that none is being voided between our looking and our storing.
WITH waiting AS (
    SELECT c.event_id, c.order_id, c.intent_id
      FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS c (event_id, order_id, intent_id)
      JOIN orders o ON o.event_id = c.event_id AND o.id = c.order_id
     WHERE o.status = 'pending'
     ORDER BY o.id
       FOR SHARE OF o
)
UPDATE payments p
   SET intent_id = w.intent_id, status = CASE WHEN p.status = 'requested' THEN 'created' ELSE p.status END,
       touched_at = now()
  FROM waiting w
 WHERE p.event_id = w.event_id AND p.order_id = w.order_id
RETURNING p.order_id;

-- name: mark_captured
UPDATE payments p
   SET status = 'captured', touched_at = now()
  FROM unnest($1::uuid[], $2::uuid[]) AS c (event_id, order_id)
 WHERE p.event_id = c.event_id AND p.order_id = c.order_id AND p.status = 'authorized'
RETURNING p.order_id;

-- name: mark_action_needed
UPDATE payments p
   SET status = 'action_needed', client_secret = $3, touched_at = now()
  FROM orders o
 WHERE p.event_id = $1 AND p.order_id = $2 AND p.status IN ('created', 'action_needed')
   AND o.event_id = p.event_id AND o.id = p.order_id AND o.status = 'pending'
RETURNING o.reply_to, o.correlation_id;

-- name: store_refund_key
UPDATE payments SET refund_key = $3, touched_at = now() WHERE event_id = $1 AND order_id = $2;

-- name: was_never_sent
-- The intent's id is stored before the payment is confirmed: without one, no card has been asked.
SELECT status = 'requested' AND intent_id IS NULL FROM payments WHERE event_id = $1 AND order_id = $2;

-- name: take_silent
-- Touching claims: a second reconciler finds these fresh and leaves them alone.
UPDATE payments p
   SET touched_at = now()
  FROM (SELECT p.event_id, p.order_id, o.status AS order_status, o.correlation_id,
               extract(epoch FROM now() - o.created_at)::float8 AS age_seconds
          FROM payments p
          JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
         WHERE (o.status IN ('pending', 'voiding')
                -- Sold, and the money not taken yet: due also where it goes back, because not all of it need to.
                OR (o.status IN ('completed', 'refunding', 'refunded') AND p.status = 'authorized'))
           AND p.touched_at < now() - make_interval(secs => $1)
         ORDER BY p.touched_at
         LIMIT $2
           FOR UPDATE OF p SKIP LOCKED) AS silent
 WHERE p.event_id = silent.event_id AND p.order_id = silent.order_id
RETURNING p.event_id, p.order_id, p.provider_key, p.intent_id, p.amount, p.currency, p.payment_method, p.status,
          silent.order_status, silent.correlation_id, silent.age_seconds;

-- name: take_silent_refunds
-- Claimed like payments.
UPDATE refunds r
   SET touched_at = now()
  FROM (SELECT r.event_id, r.id, p.intent_id
          FROM refunds r
          JOIN payments p ON p.event_id = r.event_id AND p.order_id = r.order_id
         WHERE r.status = 'requested' AND r.touched_at < now() - make_interval(secs => $1)
         ORDER BY r.touched_at
         LIMIT $2
           FOR UPDATE OF r SKIP LOCKED) AS silent
 WHERE r.event_id = silent.event_id AND r.id = silent.id
RETURNING r.event_id, r.order_id, r.id AS refund_id, r.provider_key, silent.intent_id, r.amount, r.currency;

-- name: find_by_intents
-- What has been refunded for so long that the provider's list must show it, and what it may show or not.
SELECT p.event_id, p.order_id, p.intent_id, p.amount, p.currency, p.provider_key, p.status, o.status AS order_status,
       coalesce(r.refunded, 0) AS refunded, coalesce(r.going_back, 0) AS going_back
  FROM payments p
  JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
  LEFT JOIN LATERAL (
       SELECT sum(amount) FILTER (WHERE settled) AS refunded, sum(amount) FILTER (WHERE NOT settled) AS going_back
         FROM (SELECT amount, refunded_at IS NOT NULL AND refunded_at < now() - make_interval(secs => $2) AS settled
                 FROM refunds WHERE event_id = p.event_id AND order_id = p.order_id) AS each) AS r ON true
 WHERE p.intent_id = ANY($1::text[]);

-- name: find_by_orders
SELECT p.event_id, p.order_id, p.intent_id, p.amount, p.currency, o.status AS order_status
  FROM payments p
  JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
 WHERE o.id = ANY($1::uuid[]);

-- name: find_sold_with_refunds
-- The provider knows a refund by our id of it, and the one that may follow a void by its key.
SELECT p.event_id, p.order_id, p.intent_id, p.amount, p.currency, o.status AS order_status,
       array_remove(array_agg(r.id::text) || p.refund_key, NULL) AS refund_ids
  FROM payments p
  JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
  LEFT JOIN refunds r ON r.event_id = p.event_id AND r.order_id = p.order_id
 WHERE p.intent_id = ANY($1::text[]) AND o.status = ANY($2::text[])
 GROUP BY p.event_id, p.order_id, o.status;

-- name: find_oldest_waiting
SELECT min(o.created_at)
  FROM payments p
  JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
 WHERE o.status IN ('pending', 'voiding') AND p.intent_id IS NULL;

-- name: count_unknown
SELECT count(*) AS order_count, coalesce(extract(epoch FROM now() - min(o.created_at)), 0)::float8 AS oldest_seconds
  FROM orders o
  JOIN payments p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.status IN ('pending', 'voiding') AND o.created_at < now() - make_interval(secs => $1)
   AND NOT (o.status = 'pending' AND p.status = 'action_needed');

-- name: record_break
INSERT INTO breaks (kind, event_id, order_id, intent_id, detail)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, intent_id) WHERE repaired_at IS NULL DO NOTHING;

-- name: has_open_break
SELECT EXISTS (SELECT FROM breaks WHERE kind = $1 AND intent_id = $2 AND repaired_at IS NULL);

-- name: close_break
UPDATE breaks SET repaired_at = now() WHERE kind = $1 AND intent_id = $2 AND repaired_at IS NULL;
