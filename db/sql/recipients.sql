-- name: find_recipients
SELECT o.id AS order_id, u.email, u.name AS buyer_name, o.total_amount, o.currency, parts.fee, parts.tax, parts.reduction,
       e.id AS event_id, e.name AS event_name, e.artist, e.event_date, e.rotating_codes,
       v.name AS venue_name, v.address AS venue_address, v.city AS venue_city, v.country AS venue_country, v.time_zone
  FROM orders AS o
  JOIN users AS u ON u.id = o.user_id
  JOIN events AS e ON e.id = o.event_id
  JOIN venues AS v ON v.id = e.venue_id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(i.fee), 0) AS fee, coalesce(sum(i.tax), 0) AS tax, coalesce(sum(i.reduction), 0) AS reduction
         FROM order_items AS i
        WHERE i.event_id = o.event_id AND i.order_id = o.id) AS parts
 WHERE o.event_id = $1 AND o.id = ANY($2::uuid[]);

-- name: find_notice_recipients
-- By the ids a notice has, and nothing else. What it is about has an id of one kind only, so at most one of the joins finds
-- something. Whom a ticket is offered to is an address and need not be a user.
SELECT n.subject_id, n.user_id, coalesce(u.email, f.to_email) AS email, coalesce(u.name, '') AS recipient_name,
       e.currency,
       coalesce(giver.name, '') AS giver_name, f.to_email AS offered_to, f.status AS transfer_status,
       r.fee_kept, r.kind AS refund_kind, r.created_at AS refund_at,
       w.hold_id, w.seat_count, w.status AS waiting_status,
       e.id AS event_id, e.name AS event_name, e.artist, e.event_date, e.rotating_codes,
       v.name AS venue_name, v.address AS venue_address, v.city AS venue_city, v.country AS venue_country, v.time_zone
  FROM unnest($2::uuid[], $3::uuid[]) AS n (subject_id, user_id)
  JOIN events AS e ON e.id = $1
  JOIN venues AS v ON v.id = e.venue_id
  LEFT JOIN users AS u ON u.id = n.user_id
  LEFT JOIN transfers AS f ON f.event_id = $1 AND f.id = n.subject_id
  LEFT JOIN users AS giver ON giver.id = f.from_user_id
  LEFT JOIN refunds AS r ON r.event_id = $1 AND r.id = n.subject_id
  LEFT JOIN waiting_list AS w ON w.event_id = $1 AND w.id = n.subject_id
 WHERE n.user_id IS NOT DISTINCT FROM u.id;

-- name: list_places
-- The seats of these tickets, as their owners know them.
SELECT t.id, s.section, s.row, s.seat_number AS seat
  FROM tickets AS t
  JOIN seats AS s ON s.event_id = t.event_id AND s.id = t.seat_id
 WHERE t.event_id = $1 AND t.id = ANY($2::uuid[]);
