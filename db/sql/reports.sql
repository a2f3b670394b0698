-- The accounts of one event, from the books and, without looking at them, from what was sold and given back. Read together, as
-- of one moment.

-- name: find_event
SELECT event.name, event.status, event.currency, event.event_date, venue.time_zone, now() AS read_at
  FROM events AS event
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = $1;

-- name: sum_accounts
SELECT account, sum(debit) AS debit, sum(credit) AS credit
  FROM (SELECT debit AS account, amount AS debit, 0 AS credit FROM money_ledger WHERE event_id = $1
         UNION ALL
        SELECT credit, 0, amount FROM money_ledger WHERE event_id = $1) AS side
 GROUP BY account;

-- name: sum_days
-- Days as they are where the show is. What was kept of a refund is not part of what was given back.
SELECT (at AT TIME ZONE $2)::date AS day,
       coalesce(sum(amount) FILTER (WHERE debit = 'provider' AND credit <> 'refund_fees'), 0.00) AS sold,
       coalesce(sum(amount) FILTER (WHERE credit = 'provider'), 0.00)
     - coalesce(sum(amount) FILTER (WHERE debit = 'provider' AND credit = 'refund_fees'), 0.00) AS given_back,
       coalesce(sum(amount) FILTER (WHERE debit = 'provider'), 0.00)
     - coalesce(sum(amount) FILTER (WHERE credit = 'provider'), 0.00) AS net,
       count(DISTINCT order_id) FILTER (WHERE debit = 'provider' AND credit <> 'refund_fees') AS orders_sold,
       count(DISTINCT refund_id) AS refunds
  FROM money_ledger
 WHERE event_id = $1
 GROUP BY day
 ORDER BY day;

-- name: count_tickets
-- Of orders that were sold: what is sold, what was given back, what is on its way back, and what the organiser gave away.
SELECT count(*) FILTER (WHERE bought.kind = 'sale') AS sold,
       count(*) FILTER (WHERE bought.kind = 'sale' AND (refund.status = 'refunded' OR refund.id IS NULL AND bought.status = 'refunded')) AS refunded,
       count(*) FILTER (WHERE bought.kind = 'sale' AND refund.status = 'requested') AS refunds_under_way,
       count(*) FILTER (WHERE bought.kind = 'complimentary') AS complimentary
  FROM orders AS bought
  JOIN order_items AS item ON item.event_id = bought.event_id AND item.order_id = bought.id
  LEFT JOIN refunds AS refund ON refund.event_id = item.event_id AND refund.id = item.refund_id
 WHERE bought.event_id = $1 AND bought.status IN ('completed', 'refunding', 'refunded');

-- name: sum_refunds_under_way
SELECT coalesce(sum(amount), 0.00)
  FROM refunds
 WHERE event_id = $1 AND status = 'requested';

-- name: sum_sales
SELECT account, sum(amount) AS amount
  FROM money_by_sales($1)
 GROUP BY account;

-- name: list_differences
-- The orders of which the books say something else than the sale does, by account; at most $2.
WITH side AS (
    SELECT order_id, account, amount AS by_sales, 0 AS by_ledger FROM money_by_sales($1)
     UNION ALL
    SELECT order_id, debit, 0, amount FROM money_ledger WHERE event_id = $1
     UNION ALL
    SELECT order_id, credit, 0, -amount FROM money_ledger WHERE event_id = $1
)
SELECT order_id, account, sum(by_sales) AS by_sales, sum(by_ledger) AS by_ledger
  FROM side
 GROUP BY order_id, account
HAVING sum(by_sales) <> sum(by_ledger)
 ORDER BY order_id, account
 LIMIT $2;

-- name: sum_other_currencies
-- Everything of an event is in its currency; an entry in another one cannot be added to the rest.
SELECT coalesce(sum(amount), 0.00)
  FROM money_ledger
 WHERE event_id = $1 AND currency <> $2;
