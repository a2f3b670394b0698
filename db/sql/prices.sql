-- What the engine reads of tiers and codes, when a command names one, and what it writes of a hold that a code makes cheaper.

-- name: find_codes
SELECT id, code, opens_presale, percent_off, amount_off, uses_max, uses_per_user_max, valid_from, valid_until, sections,
       disabled_at
  FROM codes
 WHERE event_id = $1 AND code = ANY($2::text[]);

-- name: count_uses
-- A use is a hold that is alive or was paid. Counted under the fence, and never stored: a counter that two paths could
-- decrement would be wrong one day.
SELECT code_id, count(*) AS use_count
  FROM holds
 WHERE event_id = $1 AND code_id = ANY($2::uuid[])
   AND (status IN ('paying', 'converted') OR (status = 'active' AND held_until > now()))
 GROUP BY code_id;

-- name: count_uses_of_users
SELECT code_id, user_id, count(*) AS use_count
  FROM holds
 WHERE event_id = $1 AND code_id = ANY($2::uuid[]) AND user_id = ANY($3::uuid[])
   AND (status IN ('paying', 'converted') OR (status = 'active' AND held_until > now()))
 GROUP BY code_id, user_id;

-- name: find_tiers
SELECT section, name, price FROM price_tiers WHERE event_id = $1 AND section = ANY($2::text[]);

-- name: reprice_holds
-- Arrays of arrays must be rectangular, so each hold's prices travel as one text literal and become an array here.
UPDATE holds h
   SET prices = c.prices::numeric[], reductions = c.reductions::numeric[], code_id = c.code_id
  FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[]) AS c (id, prices, reductions, code_id)
 WHERE h.event_id = $1 AND h.id = c.id;
