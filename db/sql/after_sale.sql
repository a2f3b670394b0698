-- What the engine reads and writes of orders that are sold, each statement once per batch.

-- name: find_orders_of_tickets
SELECT DISTINCT order_id FROM tickets WHERE event_id = $1 AND id = ANY($2::uuid[]);

-- name: lock_refunds
SELECT id, order_id, kind, ticket_ids, amount, fee_kept, currency, status, provider_key, requested_by, reason, created_at,
       refunded_at
  FROM refunds
 WHERE event_id = $1 AND order_id = ANY($2::uuid[])
 ORDER BY id
   FOR UPDATE;

-- name: insert_refunds
INSERT INTO refunds (event_id, id, order_id, kind, ticket_ids, amount, fee_kept, currency, status, provider_key,
                     requested_by, reason, created_at, refunded_at)
SELECT $1, r.id, r.order_id, r.kind, r.ticket_ids::uuid[], r.amount, r.fee_kept, r.currency, r.status, r.provider_key,
       r.requested_by, r.reason, $2, r.refunded_at
  FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::numeric[], $9::text[], $10::text[],
              $11::text[], $12::uuid[], $13::text[], $14::timestamptz[])
       AS r (id, order_id, kind, ticket_ids, amount, fee_kept, currency, status, provider_key, requested_by, reason,
             refunded_at);

-- name: update_refunds
UPDATE refunds r
   SET status = c.status, refunded_at = c.refunded_at, touched_at = now()
  FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS c (id, status, refunded_at)
 WHERE r.event_id = $1 AND r.id = c.id;

-- name: lock_transfers
-- By their own ids, and those open on these tickets: a ticket that is refunded or resold is on offer to nobody.
SELECT id, ticket_id, ticket_version, from_user_id, to_email, to_user_id, status, created_at, expires_at, ended_at
  FROM transfers
 WHERE event_id = $1 AND (id = ANY($2::uuid[]) OR (ticket_id = ANY($3::uuid[]) AND status = 'offered'))
 ORDER BY id
   FOR UPDATE;

-- name: insert_transfers
-- As they are by now: one may have been offered and ended in one batch.
INSERT INTO transfers (event_id, id, ticket_id, ticket_version, from_user_id, to_email, expires_at, status, to_user_id,
                       ended_at, created_at)
SELECT $1, t.id, t.ticket_id, t.ticket_version, t.from_user_id, t.to_email, t.expires_at, t.status, t.to_user_id, t.ended_at,
       $2
  FROM unnest($3::uuid[], $4::uuid[], $5::integer[], $6::uuid[], $7::text[], $8::timestamptz[], $9::text[], $10::uuid[],
              $11::timestamptz[])
       AS t (id, ticket_id, ticket_version, from_user_id, to_email, expires_at, status, to_user_id, ended_at);

-- name: update_transfers
UPDATE transfers t
   SET status = c.status, to_user_id = c.to_user_id, ended_at = c.ended_at
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[]) AS c (id, status, to_user_id, ended_at)
 WHERE t.event_id = $1 AND t.id = c.id;

-- name: lock_resales
-- By their own ids, and those open on these tickets.
SELECT id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id, status, refund_id, created_at, ended_at
  FROM resales
 WHERE event_id = $1 AND (id = ANY($2::uuid[]) OR (ticket_id = ANY($3::uuid[]) AND status = 'open'))
 ORDER BY id
   FOR UPDATE;

-- name: insert_resales
-- As they are by now.
INSERT INTO resales (event_id, id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id, status, refund_id,
                     ended_at, created_at)
SELECT $1, r.id, r.ticket_id, r.order_id, r.seat_id, r.seller_id, r.price, r.usual_price, r.hold_id, r.status, r.refund_id,
       r.ended_at, $2
  FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::numeric[], $9::numeric[], $10::uuid[],
              $11::text[], $12::uuid[], $13::timestamptz[])
       AS r (id, ticket_id, order_id, seat_id, seller_id, price, usual_price, hold_id, status, refund_id, ended_at);

-- name: update_resales
UPDATE resales r
   SET status = c.status, refund_id = c.refund_id, ended_at = c.ended_at, usual_price = c.usual_price
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[], $6::numeric[])
       AS c (id, status, refund_id, ended_at, usual_price)
 WHERE r.event_id = $1 AND r.id = c.id;

-- name: insert_money
INSERT INTO money_ledger (event_id, order_id, refund_id, debit, credit, amount, currency, command_id, at)
SELECT $1, m.order_id, m.refund_id, m.debit, m.credit, m.amount, m.currency, m.command_id, $2
  FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::text[], $9::uuid[])
       AS m (order_id, refund_id, debit, credit, amount, currency, command_id);

-- name: insert_audits
INSERT INTO audit_log (at, user_id, action, event_id, subject, before, after)
SELECT $2, a.user_id, a.action, $1, a.subject, a.before::jsonb, a.after::jsonb
  FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
       AS a (user_id, action, subject, before, after);

-- name: find_cancellation
SELECT cancelled_by, reason, cancelled_at, finished_at FROM cancellations WHERE event_id = $1 FOR UPDATE;

-- name: find_orders_to_refund
-- Never more than so many on their way at once: a stadium's refunds must not stand in front of everybody else's payments.
-- What the provider has not been able to give back for a while holds nobody up.
SELECT id
  FROM orders
 WHERE event_id = $1 AND status = 'completed'
 ORDER BY id
 LIMIT greatest(0, $2 - (SELECT count(*)
                           FROM refunds
                          WHERE event_id = $1 AND kind = 'cancellation' AND status = 'requested'
                            AND created_at > now() - make_interval(secs => $3)));

-- name: count_orders_to_end
SELECT count(*) FILTER (WHERE status = 'completed') AS to_refund, count(*) AS under_way
  FROM orders
 WHERE event_id = $1 AND status IN ('pending', 'voiding', 'completed', 'refunding');

-- name: cancel_event
-- In the transaction that has the fence: whoever gets it next sees it.
WITH fenced AS (
    UPDATE event_inventory SET cancelled_at = $2 WHERE event_id = $1 RETURNING event_id
), recorded AS (
    INSERT INTO cancellations (event_id, cancelled_by, reason, cancelled_at)
    SELECT event_id, $3, $4, $2 FROM fenced
)
UPDATE events
   SET status = 'cancelled', version = version + 1, updated_at = $2
 WHERE id = $1;

-- name: finish_cancellation
UPDATE cancellations SET finished_at = $2 WHERE event_id = $1 AND finished_at IS NULL;
