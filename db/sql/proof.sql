-- Everything that is known of one event, for `boxoffice verify`. All of these run in one REPEATABLE READ transaction, so
-- they show one moment. The columns are in the order of the fields of the records in db/proof.py.

-- name: let_reads_take_their_time
-- The books of a stadium are a million records; a sale's five seconds are not meant for them.
SELECT set_config('statement_timeout', $1, true);

-- name: find_inventory
SELECT event.id, event.name, event.currency, event.status, inventory.capacity, inventory.ledger_seq,
       inventory.cancelled_at IS NOT NULL AS is_fenced_off, now() AS read_at
  FROM event_inventory AS inventory
  JOIN events AS event ON event.id = inventory.event_id
 WHERE inventory.event_id = $1;

-- name: list_seats
SELECT id, seat_index, status, hold_id, held_until, order_id, fence, resale_id
  FROM seats
 WHERE event_id = $1
 ORDER BY seat_index;

-- name: list_ledger
SELECT seq, seat_id, from_status, to_status, hold_id, order_id
  FROM seat_ledger
 WHERE event_id = $1
 ORDER BY seq;

-- name: list_holds
SELECT id, seat_ids, fences, status, held_until
  FROM holds
 WHERE event_id = $1;

-- name: list_orders
SELECT id, hold_id, user_id, status, total_amount, currency, completed_at
  FROM orders
 WHERE event_id = $1;

-- name: list_items
SELECT order_id, seat_id, price, live, fee, tax, refund_id
  FROM order_items
 WHERE event_id = $1;

-- name: list_tickets
SELECT id, order_id, seat_id, status
  FROM tickets
 WHERE event_id = $1;

-- name: list_resales
SELECT r.id, r.order_id, r.seat_id, r.status, r.price, f.kind AS refund_kind, f.amount AS refund_amount
  FROM resales AS r
  LEFT JOIN refunds AS f ON f.event_id = r.event_id AND f.id = r.refund_id
 WHERE r.event_id = $1;

-- name: list_payments
SELECT order_id, status, intent_id, amount, currency, touched_at
  FROM payments
 WHERE event_id = $1;

-- name: list_refunds
SELECT id, order_id, kind, ticket_ids, amount, fee_kept, currency, status
  FROM refunds
 WHERE event_id = $1;

-- name: list_money
SELECT order_id, debit, credit, amount, currency
  FROM money_ledger
 WHERE event_id = $1;

-- name: find_cancellation
SELECT cancelled_at, finished_at
  FROM cancellations
 WHERE event_id = $1;

-- name: list_owners
-- The provider's log knows no events, so money for another event's order must not look like money for nobody's.
SELECT id, event_id
  FROM orders;

-- name: count_late_messages
SELECT count(*)
  FROM outbox
 WHERE created_at < now() - make_interval(secs => $1::double precision);

-- name: list_events_seen
-- An event of which the ledger has nothing, and that is not on sale, has nothing that could be wrong.
SELECT *
  FROM (
    SELECT event.id, inventory.ledger_seq, inventory.capacity,
           (event.status NOT IN ('cancelled', 'completed') AND now() < event.off_sale_date
            AND least(event.on_sale_date, event.presale_date) <= now())
           OR event.off_sale_date BETWEEN now() - make_interval(secs => $1) AND now()
           OR (event.status IN ('cancelled', 'completed') AND event.updated_at > now() - make_interval(secs => $1))
           AS is_current
      FROM events AS event
      JOIN event_inventory AS inventory ON inventory.event_id = event.id
  ) AS seen
 WHERE is_current OR ledger_seq > 0;

-- name: list_event_ids
SELECT event_id
  FROM event_inventory
 ORDER BY event_id;
