-- name: insert_venue
INSERT INTO venues (id, name, address, city, capacity, section_config, country, time_zone, latitude, longitude, request_hash,
                    search_text)
VALUES ($1, $2::text, $3, $4::text, $5, $6::jsonb, $7, $8, $9, $10, $11, searchable($2::text || ' ' || $4::text));

-- name: insert_search_words
-- Only what is new, and in order: two who add the same words at the same time wait for each other, never in a circle.
INSERT INTO search_words (word)
SELECT found.word
  FROM venues AS venue
 CROSS JOIN LATERAL unnest(tsvector_to_array(venue.search_vector)) AS found (word)
 WHERE venue.id = $1
   AND NOT EXISTS (SELECT FROM search_words AS known WHERE known.word = found.word)
 ORDER BY found.word COLLATE "C"
    ON CONFLICT DO NOTHING;

-- name: lock_venue
-- What an update is judged by, and how it was before.
SELECT version, name, address, city, country, time_zone, latitude, longitude, section_config
  FROM venues
 WHERE id = $1
   FOR NO KEY UPDATE;

-- name: update_venue
UPDATE venues
   SET name = $2::text, address = $3, city = $4::text, capacity = $5, section_config = $6::jsonb, country = $7,
       time_zone = $8, latitude = $9, longitude = $10,
       version = version + 1, updated_at = now(), search_text = searchable($2::text || ' ' || $4::text)
 WHERE id = $1;

-- name: update_search_text_of_events
-- Their second line is the venue's.
UPDATE events AS event
   SET search_text = split_part(event.search_text, E'\n', 1) || E'\n' || venue.search_text
  FROM venues AS venue
 WHERE venue.id = $1 AND event.venue_id = venue.id
   AND split_part(event.search_text, E'\n', 2) <> venue.search_text;

-- name: find_creation
SELECT request_hash
  FROM venues
 WHERE id = $1;

-- name: find_venue
SELECT id, name, address, city, country, time_zone, latitude, longitude, capacity, section_config, version
  FROM venues
 WHERE id = $1;

-- name: list_venues
SELECT id, name, address, city, country, time_zone, latitude, longitude, capacity, section_config, version
  FROM venues
 ORDER BY city, name;
