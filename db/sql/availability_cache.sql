-- name: read_availability
-- One statement, so one snapshot: the characters are those of that ledger number. The first letter of a status is its
-- character: available, held, sold, withheld. A hold that is over stays `h` until the ledger says otherwise, because one
-- version must never look two ways.
SELECT e.status, i.ledger_seq,
       extract(epoch FROM CASE WHEN e.presale_date > now() THEN e.presale_date ELSE e.on_sale_date END - now())::double precision
       AS opens_in_seconds, coalesce(e.presale_date <= now() AND now() < e.on_sale_date, false) AS is_presale,
       (SELECT coalesce(string_agg(left(s.status, 1), '' ORDER BY s.seat_index), '') FROM seats AS s WHERE s.event_id = e.id)
       AS seats
  FROM events AS e
  JOIN event_inventory AS i ON i.event_id = e.id
 WHERE e.id = $1;
