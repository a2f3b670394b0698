-- name: insert_event
-- Always 'upcoming': lifecycle opens the sale when its time has come, and nobody else says so.
INSERT INTO events (id, venue_id, name, artist, category, event_date, on_sale_date, off_sale_date, ticket_limit, currency, high_demand)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: insert_event_inventory
INSERT INTO event_inventory (event_id, capacity)
SELECT event.id, venue.capacity
  FROM events AS event
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = $1;

-- name: insert_seats
-- The whole house in one statement, whatever its size: sections in the order of the map, rows from A, seats from 1.
INSERT INTO seats (event_id, id, seat_index, section, row, seat_number, price)
SELECT event.id,
       gen_random_uuid(),
       row_number() OVER (ORDER BY section.position, line.number, place.number) - 1,
       section.config ->> 'name',
       -- A … Z, then AA … ZZ.
       CASE WHEN line.number < 26 THEN '' ELSE chr(64 + line.number / 26) END || chr(65 + line.number % 26),
       place.number::text,
       (section.config ->> 'price')::numeric
  FROM events AS event
  JOIN venues AS venue ON venue.id = event.venue_id
 CROSS JOIN LATERAL jsonb_array_elements(venue.section_config -> 'sections') WITH ORDINALITY AS section (config, position)
 CROSS JOIN LATERAL generate_series(0, (section.config ->> 'rows')::integer - 1) AS line (number)
 CROSS JOIN LATERAL generate_series(1, (section.config ->> 'seatsPerRow')::integer) AS place (number)
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
