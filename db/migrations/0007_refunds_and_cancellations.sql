-- Money that goes back: what the fence must show of a cancelled event, and refunds of orders from before there were refunds.

ALTER TABLE event_inventory
    -- Written with events.status = 'cancelled'. It stands here too because an engine that waits for the fence is shown this
    -- record as it is when it gets it, but the event's as it was when it began to wait: it would sell on after the cancellation.
    ADD COLUMN cancelled_at timestamptz;
UPDATE event_inventory AS inventory
   SET cancelled_at = event.updated_at
  FROM events AS event
 WHERE event.id = inventory.event_id AND event.status = 'cancelled';

-- Orders used to be refunded whole, and the payment was all that knew of it.
INSERT INTO refunds (event_id, id, order_id, kind, ticket_ids, amount, currency, status, provider_key, requested_by, reason,
                     created_at, refunded_at)
SELECT o.event_id, o.id, o.id, 'organiser',
       (SELECT array_agg(t.id) FROM tickets AS t WHERE t.event_id = o.event_id AND t.order_id = o.id),
       o.total_amount, o.currency, CASE o.status WHEN 'refunded' THEN 'refunded' ELSE 'requested' END,
       coalesce(p.refund_key, p.provider_key || ':refund'), o.user_id, '', p.touched_at,
       CASE o.status WHEN 'refunded' THEN p.touched_at END
  FROM orders AS o
  JOIN payments AS p ON p.event_id = o.event_id AND p.order_id = o.id
 WHERE o.status IN ('refunding', 'refunded')
   AND EXISTS (SELECT FROM tickets AS t WHERE t.event_id = o.event_id AND t.order_id = o.id);
UPDATE order_items AS i
   SET refund_id = r.id
  FROM refunds AS r
 WHERE r.event_id = i.event_id AND r.order_id = i.order_id AND i.refund_id IS NULL;
