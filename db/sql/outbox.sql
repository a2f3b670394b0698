-- name: record_messages
-- One statement for all messages of a batch: the cost is per batch, not per message.
-- The relay is woken when the transaction commits; equal notifications of one transaction are sent once.
WITH owed AS (
    INSERT INTO outbox (exchange, routing_key, type, message_id, body, traceparent)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::text[])
    RETURNING id
)
SELECT pg_notify('outbox', '') FROM owed LIMIT 1;

-- name: take_messages
-- SKIP LOCKED: several relays share the table, and each message is in one relay's hands at a time. The messages in $2 and
-- all for the destinations in $3 were refused a moment ago and wait for their next try, so that they do not fill every batch.
SELECT id, exchange, routing_key, type, message_id, body, traceparent, created_at
  FROM outbox
 WHERE id <> ALL($2::bigint[])
   AND exchange || ' ' || routing_key <> ALL($3::text[])
 ORDER BY id
 LIMIT $1
   FOR UPDATE SKIP LOCKED;

-- name: delete_messages
DELETE FROM outbox WHERE id = ANY($1::bigint[]);

-- name: find_backlog
-- How much is owed, and since when: the relay's lag.
SELECT count(*) AS message_count,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_seconds
  FROM (SELECT created_at FROM outbox ORDER BY id LIMIT 10000) AS oldest_first;
