-- name: insert_deed
INSERT INTO audit_log (user_id, action, event_id, subject, before, after)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb);

-- name: list_deeds
-- Newest first; a filter that is null does not matter, and is gone before PostgreSQL plans (see db/catalogue.py). $6 is the
-- place after which the page begins.
SELECT entry.id, entry.at, entry.user_id, entry.action, entry.event_id, entry.subject, entry.before, entry.after,
       person.name AS user_name, person.email AS user_email, event.name AS event_name
  FROM audit_log AS entry
  LEFT JOIN users AS person ON person.id = entry.user_id
  LEFT JOIN events AS event ON event.id = entry.event_id
 WHERE ($1::uuid IS NULL OR entry.event_id = $1)
   AND ($2::uuid IS NULL OR entry.user_id = $2)
   AND ($3::text IS NULL OR entry.action = $3)
   AND ($4::timestamptz IS NULL OR entry.at >= $4)
   AND ($5::timestamptz IS NULL OR entry.at < $5)
   AND ($6::bigint IS NULL OR entry.id < $6)
 ORDER BY entry.id DESC
 LIMIT $7;
