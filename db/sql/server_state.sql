-- name: read_setting
-- As this session sees it: a role or a database may have been told otherwise than the server.
SELECT current_setting($1);

-- name: read_milliseconds
-- In the setting's own unit, without words: current_setting would say 5s.
SELECT setting FROM pg_settings WHERE name = $1;

-- name: is_standby
SELECT pg_is_in_recovery();

-- name: are_we_superuser
SELECT rolsuper FROM pg_roles WHERE rolname = current_user;

-- name: connection_limits
-- -1: no limit of its own.
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS server,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database;

-- name: is_empty
SELECT to_regclass('public.schema_migrations') IS NULL;

-- name: list_applied
SELECT name, checksum FROM schema_migrations;

-- name: read_clock
SELECT extract(epoch FROM clock_timestamp())::float8;
