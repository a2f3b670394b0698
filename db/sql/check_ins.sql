-- What the door reads and writes. Everything in a scan's transaction comes after `lock_tickets`.

-- name: lock_tickets
-- One trip for the lock, for what was told before, and for the roles as they are now: whoever is no scanner any more may still
-- have a session that says so. In the order of their ids, as the engine locks them. What was told is as of before the lock was
-- had: a nonce that is recorded meanwhile is found by its primary key.
WITH locked AS MATERIALIZED (
    SELECT id FROM tickets WHERE event_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR UPDATE
), told AS MATERIALIZED (
    SELECT nonce, code_hash, answer FROM check_ins WHERE event_id = $1 AND nonce = ANY($3::uuid[])
)
SELECT (SELECT count(*) FROM locked) AS locked_count, clock_timestamp() AS now, e.status = 'cancelled' AS is_cancelled,
       e.rotating_codes,
       ARRAY(SELECT u.id FROM users u WHERE u.id = ANY($4::uuid[]) AND u.role IN ('scanner', 'admin')) AS scanners,
       ARRAY(SELECT nonce FROM told ORDER BY nonce) AS nonces,
       ARRAY(SELECT code_hash FROM told ORDER BY nonce) AS code_hashes,
       ARRAY(SELECT answer FROM told ORDER BY nonce) AS answers
  FROM events e
 WHERE e.id = $1;

-- name: tickets_at_the_door
-- A statement of its own, because it must see what was committed while we waited for the lock; and joined to a lock, a ticket that was transferred while we waited would find the name of its old
-- owner, or nothing.
SELECT t.id, t.version, t.status, t.ended_because, s.section, s.row, s.seat_number, i.tier, coalesce(u.name, '') AS holder,
       EXISTS (SELECT FROM resales r WHERE r.event_id = t.event_id AND r.ticket_id = t.id AND r.status = 'open')
       AS is_on_resale,
       c.nonce AS first_nonce, c.gate AS first_gate, c.scanned_at AS first_scanned_at, c.offline AS first_offline
  FROM tickets t
  JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
  JOIN order_items i ON i.event_id = t.event_id AND i.order_id = t.order_id AND i.seat_id = t.seat_id
  LEFT JOIN users u ON u.id = t.user_id
  LEFT JOIN check_ins c ON c.event_id = t.event_id AND c.ticket_id = t.id AND c.counts
 WHERE t.event_id = $1 AND t.id = ANY($2::uuid[]);

-- name: record_scans
-- With it, the tickets of those that count are marked as used: there is one such scan of a ticket at most.
WITH scans AS MATERIALIZED (
    SELECT *
      FROM unnest($2::uuid[], $3::bytea[], $4::uuid[], $5::text[], $6::boolean[], $7::text[], $8::uuid[],
                  $9::timestamptz[], $10::boolean[], $11::uuid[], $12::text[], $13::boolean[])
           AS c (nonce, code_hash, ticket_id, result, admitted, gate, scanned_by, scanned_at, offline, first_nonce, answer,
                 counts)
), used AS (
    UPDATE tickets t
       SET checked_in_at = c.scanned_at
      FROM scans c
     WHERE t.event_id = $1 AND t.id = c.ticket_id AND c.counts
)
INSERT INTO check_ins (event_id, nonce, code_hash, ticket_id, result, admitted, gate, scanned_by, scanned_at, offline,
                       first_nonce, answer, counts)
SELECT $1, nonce, code_hash, ticket_id, result, admitted, gate, scanned_by, scanned_at, offline, first_nonce, answer, counts
  FROM scans;

-- name: give_way
-- The one that counted, and those that came after it.
UPDATE check_ins SET counts = false, first_nonce = $3
 WHERE event_id = $1 AND ticket_id = $2 AND admitted AND (counts OR first_nonce IS NOT NULL);

-- name: may_scan
SELECT EXISTS (SELECT FROM users WHERE id = $1 AND role IN ('scanner', 'admin'));

-- name: list_version
SELECT e.name AS event_name, e.status = 'cancelled' AS is_cancelled, e.rotating_codes,
       t.ticket_count, t.versions, t.void, t.used, r.resales, r.resales_ended
  FROM events e,
       LATERAL (SELECT count(*) AS ticket_count, coalesce(sum(version), 0) AS versions,
                       count(*) FILTER (WHERE status = 'void') AS void, count(checked_in_at) AS used
                  FROM tickets WHERE event_id = e.id) t,
       LATERAL (SELECT count(*) AS resales, count(ended_at) AS resales_ended FROM resales WHERE event_id = e.id) r
 WHERE e.id = $1;

-- name: read_list
SELECT t.id, t.version,
       CASE WHEN t.status = 'void' THEN t.ended_because
            WHEN t.checked_in_at IS NOT NULL THEN 'already_used'
            WHEN EXISTS (SELECT FROM resales r
                          WHERE r.event_id = t.event_id AND r.ticket_id = t.id AND r.status = 'open') THEN 'on_resale'
            ELSE 'valid' END AS status,
       s.section, s.row, s.seat_number, i.tier
  FROM tickets t
  JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
  JOIN order_items i ON i.event_id = t.event_id AND i.order_id = t.order_id AND i.seat_id = t.seat_id
 WHERE t.event_id = $1
 ORDER BY t.id;

-- name: count_used
SELECT count(t.id) FILTER (WHERE t.status = 'valid') AS tickets,
       count(t.checked_in_at) FILTER (WHERE t.status = 'valid') AS checked_in,
       (SELECT count(*) FROM check_ins c
         WHERE c.event_id = e.id AND c.admitted AND (c.result <> 'valid' OR NOT c.counts)) AS conflict_count
  FROM events e
  LEFT JOIN tickets t ON t.event_id = e.id
 WHERE e.id = $1
 GROUP BY e.id;

-- name: count_by_gate
SELECT gate, result, count(*) FILTER (WHERE admitted) AS admitted, count(*) FILTER (WHERE NOT admitted) AS refused,
       count(*) FILTER (WHERE offline) AS offline
  FROM check_ins
 WHERE event_id = $1
 GROUP BY gate, result
 ORDER BY gate, result;

-- name: list_conflicts
-- Newest first. Of one that gave way, `first` is the scan that it gave way to.
SELECT c.ticket_id, coalesce(s.section, '') AS section, coalesce(s.row, '') AS row,
       coalesce(s.seat_number, '') AS seat_number, c.result, c.gate, c.scanned_at, c.recorded_at, c.scanned_by,
       f.gate AS first_gate, f.scanned_at AS first_scanned_at
  FROM check_ins c
  LEFT JOIN tickets t ON t.event_id = c.event_id AND t.id = c.ticket_id
  LEFT JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
  LEFT JOIN check_ins f ON f.event_id = c.event_id AND f.nonce = c.first_nonce
 WHERE c.event_id = $1 AND c.admitted AND (c.result <> 'valid' OR NOT c.counts)
 ORDER BY c.recorded_at DESC, c.nonce
 LIMIT $2;
