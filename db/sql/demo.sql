-- name: lock_seeding
-- Any number will do, as long as it is always this one: of two that seed at once the second finds nothing left to do.
SELECT pg_advisory_xact_lock(7262012);

-- name: known_users
SELECT id FROM users WHERE id = ANY($1::uuid[]);

-- name: known_venues
SELECT id FROM venues WHERE id = ANY($1::uuid[]);

-- name: known_events
SELECT id FROM events WHERE id = ANY($1::uuid[]);

-- name: insert_people
-- The address may belong to somebody who registered with it; then it stays theirs.
INSERT INTO users (id, email, name, role, password_hash)
SELECT person.id, person.email, person.name, person.role, $5
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS person (id, email, name, role)
    ON CONFLICT DO NOTHING;

-- name: insert_venues
INSERT INTO venues (id, name, address, city, country, time_zone, latitude, longitude, capacity, section_config, search_text)
SELECT venue.id, venue.name, venue.address, venue.city, venue.country, venue.time_zone, venue.latitude, venue.longitude,
       venue.capacity, venue.section_config::jsonb, searchable(venue.name || ' ' || venue.city)
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::double precision[],
              $8::double precision[], $9::integer[], $10::text[])
       AS venue (id, name, address, city, country, time_zone, latitude, longitude, capacity, section_config);

-- name: insert_events
INSERT INTO events (id, venue_id, name, artist, category, event_date, on_sale_date, off_sale_date, status, price_min, price_max,
                    section_config, search_text)
SELECT event.id, event.venue_id, event.name, event.artist, event.category, event.event_date, event.on_sale_date,
       event.event_date, event.status, event.price_min, event.price_max, venue.section_config,
       searchable(event.name || ' ' || event.artist) || E'\n' || venue.search_text
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[],
              $9::numeric[], $10::numeric[])
       AS event (id, venue_id, name, artist, category, event_date, on_sale_date, status, price_min, price_max)
  JOIN venues AS venue ON venue.id = event.venue_id;

-- name: insert_inventories
INSERT INTO event_inventory (event_id, capacity)
SELECT event.id, venue.capacity
  FROM events AS event
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = ANY($1::uuid[]);

-- name: insert_search_words
-- Of everything, so that it is one statement for many events; in the order in which all write them.
INSERT INTO search_words (word)
SELECT found.word
  FROM (SELECT unnest(tsvector_to_array(search_vector)) AS word FROM events
         UNION
        SELECT unnest(tsvector_to_array(search_vector)) FROM venues) AS found
 ORDER BY found.word COLLATE "C"
    ON CONFLICT DO NOTHING;

-- name: vacuum_catalogue
VACUUM (ANALYZE) venues, events, event_inventory, search_words;

-- name: list_sold_seats
SELECT order_id, seat_id
  FROM order_items
 WHERE event_id = $1 AND live;

-- name: list_free_seats
SELECT id
  FROM seats
 WHERE event_id = $1
   AND (status = 'available' OR (status = 'held' AND held_until <= now()));

-- name: count_seats_by_status
SELECT status, count(*) AS seat_count
  FROM seats
 WHERE event_id = $1
 GROUP BY status;

-- name: count_undecided
-- What still moves: orders without an outcome, and payments that are to be captured, voided or given back.
SELECT count(*)
  FROM orders AS o
  JOIN payments AS p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.event_id = $1
   AND (o.status IN ('pending', 'voiding', 'refunding') OR (o.status = 'completed' AND p.status <> 'captured'));

-- name: read_ledger_times
SELECT seq, at FROM seat_ledger WHERE event_id = $1;

-- name: find_event_status
SELECT status FROM events WHERE id = $1;
