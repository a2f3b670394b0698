-- Everything there is of one order. Read together, as of one moment.

-- name: find_order
SELECT bought.id, bought.event_id, event.name AS event_name, event.event_date, bought.status, bought.kind, bought.hold_id,
       bought.total_amount, bought.currency, bought.ended_because, bought.created_at, bought.completed_at,
       bought.user_id, buyer.email, buyer.name, code.code,
       payment.status AS payment_status, payment.intent_id, payment.provider_key, payment.payment_method,
       payment.amount AS payment_amount, payment.created_at AS payment_created_at, payment.touched_at AS payment_touched_at
  FROM orders AS bought
  JOIN events AS event ON event.id = bought.event_id
  LEFT JOIN users AS buyer ON buyer.id = bought.user_id
  LEFT JOIN codes AS code ON code.event_id = bought.event_id AND code.id = bought.code_id
  LEFT JOIN payments AS payment ON payment.event_id = bought.event_id AND payment.order_id = bought.id
 WHERE bought.id = $1;

-- name: list_items
SELECT item.seat_id, seat.section, seat.row, seat.seat_number, item.tier, item.price, item.fee, item.tax, item.reduction,
       item.live, item.refund_id
  FROM order_items AS item
  JOIN seats AS seat ON seat.event_id = item.event_id AND seat.id = item.seat_id
 WHERE item.event_id = $1 AND item.order_id = $2
 ORDER BY seat.seat_index;

-- name: list_tickets
SELECT ticket.id, ticket.seat_id, ticket.status, ticket.ended_because, ticket.version, ticket.user_id, holder.email, holder.name,
       ticket.created_at, ticket.checked_in_at
  FROM tickets AS ticket
  JOIN seats AS seat ON seat.event_id = ticket.event_id AND seat.id = ticket.seat_id
  LEFT JOIN users AS holder ON holder.id = ticket.user_id
 WHERE ticket.event_id = $1 AND ticket.order_id = $2
 ORDER BY seat.seat_index;

-- name: list_refunds
SELECT refund.id, refund.kind, refund.status, refund.ticket_ids, refund.amount, refund.fee_kept, refund.currency, refund.reason,
       refund.requested_by, asker.email AS requested_by_email, refund.created_at, refund.refunded_at
  FROM refunds AS refund
  LEFT JOIN users AS asker ON asker.id = refund.requested_by
 WHERE refund.event_id = $1 AND refund.order_id = $2
 ORDER BY refund.created_at, refund.id;

-- name: list_transfers
SELECT transfer.id, transfer.ticket_id, transfer.status, transfer.from_user_id, giver.email AS from_email, transfer.to_email,
       transfer.to_user_id, transfer.created_at, transfer.expires_at, transfer.ended_at
  FROM tickets AS ticket
  JOIN transfers AS transfer ON transfer.event_id = ticket.event_id AND transfer.ticket_id = ticket.id
  LEFT JOIN users AS giver ON giver.id = transfer.from_user_id
 WHERE ticket.event_id = $1 AND ticket.order_id = $2
 ORDER BY transfer.created_at, transfer.id;

-- name: list_resales
SELECT id, ticket_id, status, seller_id, price, refund_id, created_at, ended_at
  FROM resales
 WHERE event_id = $1 AND order_id = $2
 ORDER BY created_at, id;

-- name: list_check_ins
-- Every scan of these tickets, those that were sent away among them.
SELECT scan.ticket_id, scan.result, scan.admitted, scan.gate, scan.scanned_at, scan.recorded_at, scan.offline
  FROM check_ins AS scan
 WHERE scan.event_id = $1
   AND scan.ticket_id IN (SELECT ticket.id FROM tickets AS ticket WHERE ticket.event_id = $1 AND ticket.order_id = $2)
 ORDER BY scan.scanned_at, scan.nonce;

-- name: list_entries
SELECT id, at, debit, credit, amount, currency, refund_id
  FROM money_ledger
 WHERE event_id = $1 AND order_id = $2
 ORDER BY id;

-- name: list_deeds
-- What organisers did to it.
SELECT entry.at, entry.action, entry.user_id, person.email
  FROM audit_log AS entry
  LEFT JOIN users AS person ON person.id = entry.user_id
 WHERE entry.event_id = $1 AND entry.subject = 'order ' || $2::uuid::text
 ORDER BY entry.id;
