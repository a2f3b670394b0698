-- How a sale goes, for its organiser. Read together, as of one moment.

-- name: find_event
SELECT event.name, event.status, event.currency, event.event_date, event.off_sale_date, inventory.capacity, now() AS read_at,
       -- Somebody with a code may buy before the others.
       coalesce(event.presale_date, event.on_sale_date) AS began_at,
       EXISTS (SELECT FROM waiting_rooms AS room WHERE room.event_id = event.id) AS has_room
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
 WHERE event.id = $1;

-- name: count_seats
-- A hold that is over counts as available: it can be had, whether or not anybody has given it back.
SELECT section, count(*) AS capacity,
       count(*) FILTER (WHERE status = 'available' OR (status = 'held' AND held_until <= now())) AS available,
       count(*) FILTER (WHERE status = 'held' AND held_until > now()) AS held,
       count(*) FILTER (WHERE status = 'sold') AS sold,
       count(*) FILTER (WHERE status = 'withheld') AS withheld,
       count(*) FILTER (WHERE resale_id IS NOT NULL) AS on_resale
  FROM seats
 WHERE event_id = $1
 GROUP BY section
 ORDER BY min(seat_index);

-- name: sum_items
-- What was paid for the tickets that count as sold now.
SELECT seat.section, sum(item.price) AS revenue, sum(item.fee) AS fees, sum(item.tax) AS tax
  FROM order_items AS item
  JOIN seats AS seat ON seat.event_id = item.event_id AND seat.id = item.seat_id
 WHERE item.event_id = $1 AND item.live
 GROUP BY seat.section;

-- name: list_minutes
-- The last $2 minutes, the one that is running among them; nothing was sold in those that have no record.
SELECT minute.minute_at, coalesce(counted.seats_reserved, 0) AS seats_reserved, coalesce(counted.seats_sold, 0) AS seats_sold,
       coalesce(counted.orders_completed, 0) AS orders_completed, coalesce(counted.revenue, 0.00) AS revenue
  FROM generate_series(date_trunc('minute', now()) - make_interval(mins => $2 - 1), date_trunc('minute', now()),
                       interval '1 minute') AS minute (minute_at)
  LEFT JOIN sales_per_minute AS counted ON counted.event_id = $1 AND counted.minute_at = minute.minute_at
 ORDER BY minute.minute_at;

-- name: sum_ledger
-- Whatever went from one account to another, by whether it was because of a refund.
SELECT debit, credit, refund_id IS NOT NULL AS is_refund, sum(amount) AS amount
  FROM money_ledger
 WHERE event_id = $1
 GROUP BY debit, credit, refund_id IS NOT NULL;

-- name: count_orders
SELECT kind, status, count(*) AS order_count
  FROM orders
 WHERE event_id = $1
 GROUP BY kind, status;

-- name: count_tickets
SELECT count(*) FILTER (WHERE ticket.status = 'valid') AS valid,
       count(*) FILTER (WHERE ticket.status = 'void') AS void,
       count(*) FILTER (WHERE ticket.status = 'valid' AND ticket.user_id <> ticket.bought_by) AS transferred,
       count(*) FILTER (WHERE ticket.checked_in_at IS NOT NULL) AS checked_in,
       count(*) FILTER (WHERE ticket.status = 'valid' AND bought.kind = 'complimentary') AS complimentary
  FROM tickets AS ticket
  JOIN orders AS bought ON bought.event_id = ticket.event_id AND bought.id = ticket.order_id
 WHERE ticket.event_id = $1;

-- name: sum_refunds
SELECT status, count(*) AS refund_count, sum(amount) AS amount, sum(fee_kept) AS fee_kept
  FROM refunds
 WHERE event_id = $1
 GROUP BY status;

-- name: count_people
-- How many got how far. What the organiser gave away was neither chosen nor paid by anybody.
SELECT (SELECT count(DISTINCT hold.user_id)
          FROM holds AS hold
         WHERE hold.event_id = $1
           AND hold.id NOT IN (SELECT given.hold_id FROM orders AS given WHERE given.event_id = $1 AND given.kind = 'complimentary')
       ) AS reserved,
       count(DISTINCT user_id) AS checked_out,
       count(DISTINCT user_id) FILTER (WHERE completed_at IS NOT NULL) AS paid
  FROM orders
 WHERE event_id = $1 AND kind = 'sale';

-- name: count_waiting_list
SELECT status, count(*) AS people, sum(seat_count) AS seats
  FROM waiting_list
 WHERE event_id = $1
 GROUP BY status;
