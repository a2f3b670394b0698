-- name: read_all_orders
SELECT bought.id AS order_id, bought.created_at, bought.completed_at, bought.status, bought.kind, buyer.email, buyer.name,
       item.seat_count, item.seats, bought.total_amount AS total, item.fee, item.tax, item.reduction,
       coalesce(refund.amount, 0.00) AS refunded, coalesce(refund.fee_kept, 0.00) AS refund_fee_kept, bought.currency, code.code,
       payment.status AS payment_status, payment.intent_id AS payment_intent
  FROM orders AS bought
  LEFT JOIN users AS buyer ON buyer.id = bought.user_id
  LEFT JOIN codes AS code ON code.event_id = bought.event_id AND code.id = bought.code_id
  LEFT JOIN payments AS payment ON payment.event_id = bought.event_id AND payment.order_id = bought.id
 CROSS JOIN LATERAL (
       SELECT count(*) AS seat_count, coalesce(sum(i.fee), 0.00) AS fee, coalesce(sum(i.tax), 0.00) AS tax,
              coalesce(sum(i.reduction), 0.00) AS reduction,
              string_agg(concat_ws(' ', s.section, nullif(s.row || s.seat_number, '')), ', ' ORDER BY s.seat_index) AS seats
         FROM order_items AS i
         JOIN seats AS s ON s.event_id = i.event_id AND s.id = i.seat_id
        WHERE i.event_id = bought.event_id AND i.order_id = bought.id) AS item
 CROSS JOIN LATERAL (
       SELECT sum(r.amount) AS amount, sum(r.fee_kept) AS fee_kept
         FROM refunds AS r
        WHERE r.event_id = bought.event_id AND r.order_id = bought.id) AS refund
 WHERE bought.event_id = $1
 ORDER BY bought.created_at DESC, bought.id;

-- name: read_attendees
-- Whoever may come in, as of now: under the ticket's present owner, in the order of the map.
SELECT ticket.id AS ticket_id, holder.email, holder.name, seat.section, seat.row, seat.seat_number AS seat, seat.kind AS seat_kind,
       item.tier, item.price, bought.currency, bought.kind, ticket.order_id, buyer.email AS buyer_email,
       ticket.user_id <> ticket.bought_by AS transferred, ticket.checked_in_at
  FROM tickets AS ticket
  JOIN seats AS seat ON seat.event_id = ticket.event_id AND seat.id = ticket.seat_id
  JOIN orders AS bought ON bought.event_id = ticket.event_id AND bought.id = ticket.order_id
  JOIN order_items AS item ON item.event_id = ticket.event_id AND item.order_id = ticket.order_id AND item.seat_id = ticket.seat_id
  LEFT JOIN users AS holder ON holder.id = ticket.user_id
  LEFT JOIN users AS buyer ON buyer.id = ticket.bought_by
 WHERE ticket.event_id = $1 AND ticket.status = 'valid'
 ORDER BY seat.seat_index;

-- name: knows_event
SELECT EXISTS (SELECT FROM events WHERE id = $1);
