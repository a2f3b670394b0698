-- name: describe
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
       current_database() AS database, pg_database_size(current_database()) AS bytes, clock_timestamp() AS now;

-- name: export_snapshot
SELECT pg_export_snapshot();

-- name: count_records
-- What somebody who looks at a backup asks first: how much of a shop is in it?
SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM events) AS events,
       (SELECT count(*) FROM seats) AS seats, (SELECT count(*) FROM holds) AS holds,
       (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM payments) AS payments,
       (SELECT count(*) FROM refunds) AS refunds, (SELECT count(*) FROM tickets) AS tickets,
       (SELECT count(*) FROM seat_ledger) AS seat_ledger, (SELECT count(*) FROM waiting_room_log) AS waiting_room_log;

-- name: list_migrations
SELECT name, checksum FROM schema_migrations ORDER BY name;

-- name: find_tables
SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations';

-- name: find_other_sessions
-- Whoever of ours is still connected: a shop must be closed while its books are exchanged.
SELECT DISTINCT application_name FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name ~ '^(boxoffice|ingress)'
 ORDER BY 1;

-- name: record_restore
INSERT INTO restores (snapshot_at) VALUES ($1);

-- name: find_open_restore
SELECT snapshot_at FROM restores WHERE reconciled_at IS NULL ORDER BY id DESC LIMIT 1;

-- name: close_restores
UPDATE restores SET reconciled_at = now() WHERE reconciled_at IS NULL;

-- name: count_unfinished
-- What the provider or the broker is still owed; and of these orders, those whose refund has not even begun.
SELECT (SELECT count(*) FROM orders WHERE status IN ('pending', 'voiding', 'refunding'))
     + (SELECT count(*) FROM payments p JOIN orders o ON o.event_id = p.event_id AND o.id = p.order_id
         WHERE o.status = 'completed' AND p.status = 'authorized')
     + (SELECT count(*) FROM refunds WHERE status = 'requested')
     + (SELECT count(*) FROM orders WHERE id = ANY($1::uuid[]) AND status = 'completed')
     + (SELECT count(*) FROM outbox);

-- name: list_rooms
SELECT event_id FROM waiting_rooms WHERE forgotten_at IS NULL AND ended_at IS NULL ORDER BY event_id;
