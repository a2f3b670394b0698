-- name: insert_event
-- Always 'upcoming': lifecycle opens the sale when its time has come, and nobody else says so.
-- The house is copied: the venue may be rebuilt later, these seats stay where they are. Without that venue, the foreign key
-- says so; what would have come from it is left empty until then.
INSERT INTO events (id, venue_id, name, artist, category, event_date, on_sale_date, off_sale_date, ticket_limit, currency,
                    high_demand, description, request_hash, presale_date, fee_rate, tax_rate, refund_until,
                    refund_fee_rate, transfers, resales, rotating_codes, section_config, price_min, price_max, search_text)
SELECT $1, $2, $3::text, $4::text, $5, $6, $7, $8, $9, $10,
       $11, $12, $13, $14, $15, $16, $17,
       $18, $19, $20, $21, venue.section_config, coalesce(price.low, 0), coalesce(price.high, 0),
       searchable($3::text || ' ' || $4::text) || E'\n' || coalesce(searchable(venue.name || ' ' || venue.city), '')
  FROM (VALUES (1)) AS one
  LEFT JOIN venues AS venue ON venue.id = $2
  LEFT JOIN LATERAL (
        SELECT min((section ->> 'price')::numeric) AS low, max((section ->> 'price')::numeric) AS high
          FROM jsonb_array_elements(venue.section_config -> 'sections') AS section
       ) AS price ON true;

-- name: insert_event_inventory
INSERT INTO event_inventory (event_id, capacity)
SELECT event.id, venue.capacity
  FROM events AS event
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = $1;

-- name: insert_seats
-- The whole house in one statement, whatever its size: sections in the order of the map, rows from A, seats from 1; the
-- places of a general-admission section have neither.
WITH section AS (
    SELECT config, position, config ->> 'name' AS name, (config ->> 'price')::numeric AS price,
           coalesce(config ->> 'type', 'seated') = 'general_admission' AS is_standing
      FROM events AS event
     CROSS JOIN LATERAL jsonb_array_elements(event.section_config -> 'sections') WITH ORDINALITY AS s (config, position)
     WHERE event.id = $1
), place AS (
    SELECT position, line, number, name, price,
           -- A … Z, then AA … ZZ.
           CASE WHEN line < 26 THEN '' ELSE chr(64 + line / 26) END || chr(65 + line % 26) AS row, false AS is_standing, config
      FROM section
     CROSS JOIN LATERAL generate_series(0, (config ->> 'rows')::integer - 1) AS line
     CROSS JOIN LATERAL generate_series(1, (config ->> 'seatsPerRow')::integer) AS number
     WHERE NOT is_standing
    UNION ALL
    SELECT position, 0, number, name, price, '', true, config
      FROM section
     CROSS JOIN LATERAL generate_series(1, (config ->> 'capacity')::integer) AS number
     WHERE is_standing
)
INSERT INTO seats (event_id, id, seat_index, section, row, seat_number, price, kind)
SELECT $1, gen_random_uuid(), row_number() OVER (ORDER BY position, line, number) - 1, name, row,
       CASE WHEN is_standing THEN '' ELSE number::text END, price,
       CASE WHEN is_standing THEN 'standing'
            WHEN config -> 'accessible' -> row @> to_jsonb(number) THEN 'accessible'
            WHEN config -> 'companion' -> row @> to_jsonb(number) THEN 'companion'
            ELSE 'seat' END
  FROM place;

-- name: insert_price_tiers
INSERT INTO price_tiers (event_id, section, name, price)
SELECT event.id, section ->> 'name', tier ->> 'name', (tier ->> 'price')::numeric
  FROM events AS event
 CROSS JOIN LATERAL jsonb_array_elements(event.section_config -> 'sections') AS section
 CROSS JOIN LATERAL jsonb_array_elements(section -> 'tiers') AS tier
 WHERE event.id = $1;

-- name: insert_search_words
-- Only what is new, and in order: two who add the same words at the same time wait for each other, never in a circle.
INSERT INTO search_words (word)
SELECT found.word
  FROM events AS event
 CROSS JOIN LATERAL unnest(tsvector_to_array(event.search_vector)) AS found (word)
 WHERE event.id = $1
   AND NOT EXISTS (SELECT FROM search_words AS known WHERE known.word = found.word)
 ORDER BY found.word COLLATE "C"
    ON CONFLICT DO NOTHING;

-- name: lock_prices
-- The venue stays as it is until the event is made: its prices were judged, and its name is in the event's search_text.
SELECT ARRAY(SELECT DISTINCT (priced ->> 'price')::numeric
               FROM jsonb_array_elements(section_config -> 'sections') AS section
              CROSS JOIN LATERAL jsonb_array_elements(jsonb_build_array(section) || coalesce(section -> 'tiers', '[]'))
                    AS priced)
  FROM venues
 WHERE id = $1
   FOR SHARE;

-- name: lock_event
-- What an update is judged by; nobody else updates it meanwhile.
SELECT event.venue_id, event.name, event.artist, event.category, event.description, event.event_date, event.on_sale_date,
       event.off_sale_date, event.ticket_limit, event.currency, event.high_demand, event.status, event.version,
       event.presale_date, event.fee_rate, event.tax_rate, event.refund_until, event.refund_fee_rate, event.transfers,
       event.resales, event.rotating_codes, event.on_sale_date <= now() AS has_begun,
       coalesce(event.presale_date, event.on_sale_date) <= now() AS has_sold
  FROM events AS event
 WHERE event.id = $1
   FOR NO KEY UPDATE;

-- name: update_event
UPDATE events AS event
   SET name = $2::text, artist = $3::text, category = $4, description = $5, event_date = $6, on_sale_date = $7,
       off_sale_date = $8, ticket_limit = $9, high_demand = $10, presale_date = $11, fee_rate = $12, tax_rate = $13,
       refund_until = $14, refund_fee_rate = $15, transfers = $16, resales = $17, rotating_codes = $18,
       version = event.version + 1, updated_at = now(),
       search_text = searchable($2::text || ' ' || $3::text) || E'\n' || searchable(venue.name || ' ' || venue.city)
  FROM venues AS venue
 WHERE event.id = $1 AND venue.id = event.venue_id;

-- name: find_creation
SELECT event.request_hash, inventory.capacity
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
 WHERE event.id = $1;

-- name: analyze_seats
-- A table that was never analysed is believed to be small, and the per-user count of a batch then takes 28 ms instead of 1.
ANALYZE events, event_inventory, seats, holds, orders, order_items, payments, tickets;

-- name: find_event
SELECT event.id, event.venue_id, event.name, event.artist, event.category, event.event_date, event.on_sale_date,
       event.off_sale_date, event.status, event.high_demand, event.currency, event.ticket_limit, inventory.capacity
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
 WHERE event.id = $1;

-- name: list_events
SELECT event.id, event.venue_id, event.name, event.artist, event.category, event.event_date, event.on_sale_date,
       event.off_sale_date, event.status, event.high_demand, event.currency, event.ticket_limit, inventory.capacity
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
 ORDER BY event.event_date, event.id;

-- name: list_seats
SELECT id, seat_index, section, row, seat_number, price
  FROM seats
 WHERE event_id = $1
 ORDER BY seat_index;
