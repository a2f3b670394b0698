-- name: insert_endpoint
INSERT INTO webhook_endpoints (id, url, types, event_id, secret, created_by) VALUES ($1, $2, $3, $4, $5, $6);

-- name: list_endpoints
SELECT e.id, e.url, e.types, e.event_id, e.status, e.disabled_because, e.last_sequence, e.created_at, e.version,
       e.secret_before <> '' AS has_two_secrets,
       (SELECT count(*) FROM webhook_messages m WHERE m.endpoint_id = e.id AND m.status = 'pending') AS pending_count,
       (SELECT count(*) FROM webhook_messages m WHERE m.endpoint_id = e.id AND m.status = 'failed') AS failed_count
  FROM webhook_endpoints e
 WHERE $1::uuid IS NULL OR e.id = $1
 ORDER BY e.created_at, e.id;

-- name: lock_endpoint
SELECT url, types, event_id, status, disabled_because, secret, secret_before, version
  FROM webhook_endpoints WHERE id = $1 FOR UPDATE;

-- name: update_endpoint
UPDATE webhook_endpoints
   SET url = $2, types = $3, event_id = $4, status = $5, disabled_because = '', secret = $6, secret_before = $7,
       version = version + 1
 WHERE id = $1;

-- name: delete_endpoint
DELETE FROM webhook_endpoints WHERE id = $1;

-- name: find_listeners
-- In one order, so that two messages about the same endpoints wait for each other, never in a circle. The sequence is given
-- under this lock. A paused endpoint is told as well, later.
SELECT id, types, event_id, last_sequence
  FROM webhook_endpoints
 WHERE status <> 'disabled' AND (event_id IS NULL OR event_id = $1) AND (types = '{}' OR types && $2::text[])
 ORDER BY id
   FOR UPDATE;

-- name: find_told
SELECT source FROM webhook_messages WHERE endpoint_id = $1 AND source = ANY($2::text[]);

-- name: insert_messages
WITH numbered AS (
    UPDATE webhook_endpoints SET last_sequence = last_sequence + cardinality($2::text[]) WHERE id = $1
)
INSERT INTO webhook_messages (endpoint_id, sequence, source, id, type, body)
SELECT $1, m.sequence, m.source, m.id, m.type, m.body
  FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[]) AS m (source, sequence, id, type, body);

-- name: take_due
-- Taking is a lease: who dies with a message in hand leaves it to the next. First come first of each endpoint, and of no
-- endpoint so many that the others wait.
UPDATE webhook_messages m
   SET next_attempt_at = now() + make_interval(secs => $2), attempt_count = m.attempt_count + 1
  FROM (SELECT m.endpoint_id, m.sequence, e.url, e.secret, e.secret_before
          FROM webhook_endpoints e
         CROSS JOIN LATERAL (
               SELECT d.endpoint_id, d.sequence
                 FROM webhook_messages d
                WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.next_attempt_at <= now()
                ORDER BY d.sequence
                LIMIT $1) AS m
         WHERE e.status = 'active') AS due
 WHERE m.endpoint_id = due.endpoint_id AND m.sequence = due.sequence
   AND m.status = 'pending' AND m.next_attempt_at <= now()
RETURNING m.endpoint_id, m.sequence, m.id, m.type, m.body, m.attempt_count, due.url, due.secret, due.secret_before;

-- name: record_attempt
INSERT INTO webhook_attempts (endpoint_id, sequence, number, http_status, problem, took_ms)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING;

-- name: settle_message
-- Only the newest attempt decides: one whose lease ran out while it was being sent has been taken by somebody else.
UPDATE webhook_messages
   SET status = $4::text, delivered_at = CASE WHEN $4::text = 'delivered' THEN now() END,
       next_attempt_at = now() + make_interval(secs => $5)
 WHERE endpoint_id = $1 AND sequence = $2 AND attempt_count = $3 AND status = 'pending';

-- name: put_back
-- It was taken and not tried: that was no attempt.
UPDATE webhook_messages
   SET attempt_count = attempt_count - 1, next_attempt_at = now() + make_interval(secs => $4)
 WHERE endpoint_id = $1 AND sequence = $2 AND attempt_count = $3 AND status = 'pending';

-- name: disable_endpoint
UPDATE webhook_endpoints
   SET status = 'disabled', disabled_because = $2, version = version + 1
 WHERE id = $1 AND status = 'active';

-- name: list_messages
SELECT sequence, id, type, body, status, attempt_count, next_attempt_at, created_at, delivered_at
  FROM webhook_messages
 WHERE endpoint_id = $1 AND sequence > $2
 ORDER BY sequence
 LIMIT $3;

-- name: list_attempts
SELECT sequence, number, at, http_status, problem, took_ms
  FROM webhook_attempts
 WHERE endpoint_id = $1 AND sequence = $2
 ORDER BY number;

-- name: replay_messages
UPDATE webhook_messages
   SET status = 'pending', next_attempt_at = now(), delivered_at = NULL, attempt_count = 0
 WHERE endpoint_id = $1 AND sequence BETWEEN $2 AND $3;

-- name: forget_attempts
DELETE FROM webhook_attempts WHERE endpoint_id = $1 AND sequence BETWEEN $2 AND $3;

-- name: forget_old
-- What was delivered long ago; what failed stays a while longer, for whoever comes back and asks for it.
DELETE FROM webhook_messages
 WHERE (status = 'delivered' AND delivered_at < now() - make_interval(days => $1))
    OR (status = 'failed' AND next_attempt_at < now() - make_interval(days => $1));
