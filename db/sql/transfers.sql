-- What is on offer to others: to one e-mail address (transfers), or to everybody (resales). Read for those who have to do with
-- it; whoever may not know of a ticket, transfer or resale gets no record, as if there were none.

-- name: find_ticket_of
-- By its owner, so that the index of owners finds it. Or by whoever has offered it before: a repeated request has to find
-- what it came to, though the ticket is somebody else's by now.
SELECT e.id AS event_id, e.currency
  FROM events e
 WHERE e.id = coalesce((SELECT t.event_id FROM tickets t WHERE t.user_id = $2 AND t.id = $1),
                       (SELECT f.event_id FROM transfers f WHERE f.from_user_id = $2 AND f.ticket_id = $1 LIMIT 1),
                       (SELECT r.event_id FROM resales r WHERE r.seller_id = $2 AND r.ticket_id = $1 LIMIT 1));

-- name: find_transfer_from
SELECT event_id FROM transfers WHERE from_user_id = $2 AND id = $1;

-- name: find_transfer_to
-- An address is lower case in both tables, and each account has another one.
SELECT f.event_id
  FROM users u
  JOIN transfers f ON f.to_email = u.email
 WHERE u.id = $2 AND f.id = $1;

-- name: find_resale_of
SELECT event_id FROM resales WHERE seller_id = $2 AND id = $1;

-- name: list_transfers_from
-- An offer that is over says so, whether it has been swept away or not.
SELECT f.id, f.event_id, e.name AS event_name, e.event_date, f.ticket_id, s.section, s.row, s.seat_number, f.to_email,
       CASE WHEN f.status = 'offered' AND f.expires_at <= now() THEN 'expired' ELSE f.status END AS status,
       f.created_at, f.expires_at, f.ended_at
  FROM transfers f
  JOIN events e ON e.id = f.event_id
  JOIN tickets t ON t.event_id = f.event_id AND t.id = f.ticket_id
  JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
 WHERE f.from_user_id = $1
 ORDER BY f.created_at DESC, f.id DESC
 LIMIT $2;

-- name: list_transfers_to
SELECT f.id, f.event_id, e.name AS event_name, e.event_date, f.ticket_id, s.section, s.row, s.seat_number, f.to_email,
       CASE WHEN f.status = 'offered' AND f.expires_at <= now() THEN 'expired' ELSE f.status END AS status,
       f.created_at, f.expires_at, f.ended_at
  FROM users u
  JOIN transfers f ON f.to_email = u.email
  JOIN events e ON e.id = f.event_id
  JOIN tickets t ON t.event_id = f.event_id AND t.id = f.ticket_id
  JOIN seats s ON s.event_id = t.event_id AND s.id = t.seat_id
 WHERE u.id = $1
 ORDER BY f.created_at DESC, f.id DESC
 LIMIT $2;

-- name: list_resales_of
SELECT r.id, r.event_id, e.name AS event_name, e.event_date, r.ticket_id, s.section, s.row, s.seat_number, r.price,
       e.currency, r.status, r.created_at, r.ended_at
  FROM resales r
  JOIN events e ON e.id = r.event_id
  JOIN seats s ON s.event_id = r.event_id AND s.id = r.seat_id
 WHERE r.seller_id = $1
 ORDER BY r.created_at DESC, r.id DESC
 LIMIT $2;

-- name: find_transfers_over
-- Read from the index of open offers by their end, so it costs what it finds.
SELECT event_id, array_agg(id ORDER BY expires_at) AS transfer_ids
  FROM (SELECT event_id, id, expires_at
          FROM transfers
         WHERE status = 'offered' AND expires_at <= now()
         ORDER BY expires_at
         LIMIT $1) AS over
 GROUP BY event_id;

-- name: find_resales_unsold
-- Nobody can buy these any more: the sale is over, or a door without a network has let the seller in all the same. Of a
-- cancelled event they end with the refund.
SELECT event_id, array_agg(id) AS resale_ids
  FROM (SELECT r.event_id, r.id
          FROM resales r
          JOIN events e ON e.id = r.event_id
          JOIN tickets t ON t.event_id = r.event_id AND t.id = r.ticket_id
          JOIN seats s ON s.event_id = r.event_id AND s.id = r.seat_id
         WHERE r.status = 'open' AND e.status <> 'cancelled'
           AND (e.off_sale_date <= now() OR t.checked_in_at IS NOT NULL)
           -- Whoever has it in his hands may still buy it.
           AND (s.status = 'available' OR (s.status = 'held' AND s.held_until <= now()))
         ORDER BY r.event_id, r.id
         LIMIT $1) AS unsold
 GROUP BY event_id;
