-- name: find_recipients
SELECT o.id AS order_id, u.email, u.name AS buyer_name, o.total_amount, o.currency,
       e.name AS event_name, e.artist, e.event_date,
       v.name AS venue_name, v.address AS venue_address, v.city AS venue_city
  FROM orders AS o
  JOIN users AS u ON u.id = o.user_id
  JOIN events AS e ON e.id = o.event_id
  JOIN venues AS v ON v.id = e.venue_id
 WHERE o.event_id = $1 AND o.id = ANY($2::uuid[]);
