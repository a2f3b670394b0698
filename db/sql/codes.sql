-- name: find_sections
-- Of an event; null when there is none.
SELECT ARRAY(SELECT section ->> 'name' FROM jsonb_array_elements(section_config -> 'sections') AS section)
  FROM events
 WHERE id = $1;

-- name: insert_codes
INSERT INTO codes (event_id, id, code, opens_presale, percent_off, amount_off, uses_max, uses_per_user_max, valid_from,
                   valid_until, sections, request_hash)
SELECT $1, c.id, c.code, $4, $5, $6, $7, $8, $9, $10, $11::text[], $12
  FROM unnest($2::uuid[], $3::text[]) AS c (id, code);

-- name: find_creation
-- What a request has made, in the order in which it answered.
SELECT code.id, code.code, code.request_hash
  FROM unnest($2::uuid[]) WITH ORDINALITY AS made (id, position)
  JOIN codes AS code ON code.event_id = $1 AND code.id = made.id
 ORDER BY made.position;

-- name: list_codes
-- In the order of the alphabet, after the code $3. A use is a hold that is alive or was paid, as the engine counts it.
SELECT c.id, c.code, c.opens_presale, c.percent_off, c.amount_off, c.uses_max, c.uses_per_user_max, c.valid_from,
       c.valid_until, c.sections, c.disabled_at, c.created_at, used.use_count, used.paid_count
  FROM (SELECT * FROM codes
         WHERE event_id = $1 AND starts_with(code, $2) AND code > $3 COLLATE "C"
         ORDER BY code COLLATE "C"
         LIMIT $4) AS c
 CROSS JOIN LATERAL (
       SELECT count(*) AS use_count, count(*) FILTER (WHERE h.status = 'converted') AS paid_count
         FROM holds AS h
        WHERE h.event_id = c.event_id AND h.code_id = c.id
          AND (h.status IN ('paying', 'converted') OR (h.status = 'active' AND h.held_until > now()))) AS used
 ORDER BY c.code COLLATE "C";

-- name: find_code
SELECT c.id, c.code, c.opens_presale, c.percent_off, c.amount_off, c.uses_max, c.uses_per_user_max, c.valid_from,
       c.valid_until, c.sections, c.disabled_at, c.created_at, used.use_count, used.paid_count
  FROM codes AS c
 CROSS JOIN LATERAL (
       SELECT count(*) AS use_count, count(*) FILTER (WHERE h.status = 'converted') AS paid_count
         FROM holds AS h
        WHERE h.event_id = c.event_id AND h.code_id = c.id
          AND (h.status IN ('paying', 'converted') OR (h.status = 'active' AND h.held_until > now()))) AS used
 WHERE c.event_id = $1 AND c.id = $2;

-- name: lock_code
SELECT code, uses_max, uses_per_user_max, valid_from, valid_until, disabled_at
  FROM codes
 WHERE event_id = $1 AND id = $2
   FOR NO KEY UPDATE;

-- name: update_code
UPDATE codes
   SET uses_max = $3, uses_per_user_max = $4, valid_from = $5, valid_until = $6,
       disabled_at = CASE WHEN $7 THEN coalesce(disabled_at, now()) END
 WHERE event_id = $1 AND id = $2;
