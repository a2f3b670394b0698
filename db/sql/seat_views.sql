-- name: read_sales
-- How the sales of these events stand, and how far their ledgers have come: one look at everything that is being watched.
SELECT e.id, e.status, e.on_sale_date, e.off_sale_date, e.version, i.ledger_seq, e.high_demand,
       now() AS now
  FROM events AS e
  JOIN event_inventory AS i ON i.event_id = e.id
 WHERE e.id = ANY($1::uuid[]);

-- name: read_house
SELECT currency, section_config FROM events WHERE id = $1;

-- name: read_seats
SELECT id, seat_index, section, row, seat_number, kind, price, status, held_until
  FROM seats
 WHERE event_id = $1
 ORDER BY seat_index;
