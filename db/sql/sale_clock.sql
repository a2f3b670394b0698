-- name: find_open_sales
-- The events that may have a queue of their own, those expecting a crowd first, because the number of queues is bounded.
-- The dates decide, not the status: a status is only what the catalogue shows, and of an event in presale that it is upcoming.
SELECT id
  FROM events
 WHERE (on_sale_date <= now() OR presale_date <= now()) AND now() < off_sale_date
   AND status NOT IN ('cancelled', 'completed')
 ORDER BY high_demand DESC, on_sale_date DESC, id
 LIMIT $1;

-- name: find_ended_sales
-- Whose queue may still be there because nobody was running when the sale ended.
SELECT id
  FROM events
 WHERE (off_sale_date <= now() AND off_sale_date > now() - make_interval(secs => $1))
    OR (status IN ('cancelled', 'completed') AND updated_at > now() - make_interval(secs => $1))
 ORDER BY off_sale_date DESC
 LIMIT $2;

-- name: open_sales
UPDATE events
   SET status = 'on_sale', updated_at = now()
 WHERE status = 'upcoming' AND on_sale_date <= now() AND now() < off_sale_date
RETURNING id;

-- name: complete_events
UPDATE events
   SET status = 'completed', updated_at = now()
 WHERE status IN ('upcoming', 'on_sale', 'sold_out') AND event_date <= now() AND off_sale_date <= now()
RETURNING id;

-- name: mark_sold_out
-- A held seat may come back, so an event is sold out only when each of its seats is sold or withheld. The inner query ends
-- at the first seat that can still be had; only of a sold-out event it reads them all.
UPDATE events AS e
   SET status = 'sold_out', updated_at = now()
 WHERE e.status = 'on_sale'
   AND NOT EXISTS (SELECT FROM seats AS s WHERE s.event_id = e.id AND s.status IN ('available', 'held'))
   AND EXISTS (SELECT FROM seats AS s WHERE s.event_id = e.id)
RETURNING e.id;

-- name: mark_back_on_sale
-- A refund has given seats back.
UPDATE events AS e
   SET status = 'on_sale', updated_at = now()
 WHERE e.status = 'sold_out' AND now() < e.off_sale_date
   AND EXISTS (SELECT FROM seats AS s WHERE s.event_id = e.id AND s.status IN ('available', 'held'))
RETURNING e.id;

-- name: announce_event_queues
SELECT pg_notify('event_queues', '');
