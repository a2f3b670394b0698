-- name: renew_lease
-- Ours, for another while; then everybody's that has not lapsed. Ours is added, because this statement cannot see it yet.
WITH renewed AS (
    INSERT INTO consumer_leases (role, worker_id, name) VALUES ($1, $2, $3)
    ON CONFLICT (role, worker_id) DO UPDATE SET renewed_at = now()
    RETURNING worker_id
)
SELECT worker_id, extract(epoch FROM now() - renewed_at)::float8 AS silent_seconds
  FROM consumer_leases
 WHERE role = $1 AND worker_id <> $2 AND renewed_at >= now() - make_interval(secs => $4)
 UNION ALL
SELECT worker_id, 0 FROM renewed;

-- name: end_lease
DELETE FROM consumer_leases WHERE role = $1 AND worker_id = $2;

-- name: remove_lapsed_leases
-- Long after they have lapsed: whoever was only held up finds his own. Two who clear up at once leave it to the first.
DELETE FROM consumer_leases
 WHERE (role, worker_id) IN (
    SELECT role, worker_id
      FROM consumer_leases
     WHERE role = $1 AND renewed_at < now() - make_interval(secs => $2)
       FOR UPDATE SKIP LOCKED);

-- name: list_leases
SELECT worker_id, name, started_at, extract(epoch FROM now() - renewed_at)::float8 AS silent_seconds
  FROM consumer_leases
 WHERE role = $1
 ORDER BY name, started_at;
