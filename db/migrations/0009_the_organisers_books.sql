-- What an organiser looks for is found by what people have in their hands: an order number, the number of a ticket, an
-- address of which he remembers the beginning. The sale itself always knows the event and needs none of these.

CREATE INDEX orders_by_id ON orders (id);
CREATE INDEX tickets_by_id ON tickets (id);
-- Read backwards, which gives the same order as orders_by_event does: the newest first, and by id among those of one moment.
CREATE INDEX orders_by_time ON orders (created_at, id DESC);
CREATE INDEX users_by_beginning_of_email ON users (email text_pattern_ops);
-- Of transfers and resales only the open ones had an index by their ticket; an order shows all there ever were.
CREATE INDEX transfers_by_ticket ON transfers (event_id, ticket_id);
CREATE INDEX resales_by_order ON resales (event_id, order_id);

-- What the books ought to say of each order of an event, by account (debits less credits), found from what was sold and given
-- back without a look at them: its total, and what its tickets were paid for; less its refunds that are through, of which what
-- was kept stays. An order that came to nothing has nothing in them, or its own reversal. One that was refunded before there
-- were refunds gave back all of it.
CREATE FUNCTION money_by_sales(of_event uuid) RETURNS TABLE (order_id uuid, account text, amount numeric)
LANGUAGE sql STABLE AS $$
    WITH sold AS (
        SELECT o.id, o.total_amount
          FROM orders AS o
         WHERE o.event_id = of_event AND o.status IN ('completed', 'refunding', 'refunded')
           AND (o.status <> 'refunded'
                OR EXISTS (SELECT FROM refunds AS r WHERE r.event_id = o.event_id AND r.order_id = o.id))
    ), item AS (
        SELECT i.order_id, i.price, i.fee, i.tax, coalesce(r.status = 'refunded', false) AS is_back
          FROM sold
          JOIN order_items AS i ON i.event_id = of_event AND i.order_id = sold.id
          LEFT JOIN refunds AS r ON r.event_id = i.event_id AND r.id = i.refund_id
    ), back AS (
        SELECT r.order_id, r.amount,
               -- A seat that was sold on for less than it cost: the rest is not a fee, but it is kept all the same.
               CASE WHEN r.kind <> 'resale' THEN r.fee_kept
                    ELSE (SELECT sum(i.price) FROM order_items AS i
                           WHERE i.event_id = of_event AND i.order_id = r.order_id AND i.refund_id = r.id) - r.amount
                END AS kept
          FROM refunds AS r
          JOIN sold ON sold.id = r.order_id
         WHERE r.event_id = of_event AND r.status = 'refunded'
    )
    SELECT id, 'provider', total_amount FROM sold
     UNION ALL
    SELECT back.order_id, part.account, part.amount
      FROM back
     CROSS JOIN LATERAL (VALUES ('provider', -back.amount), ('refund_fees', -back.kept)) AS part (account, amount)
     UNION ALL
    SELECT item.order_id, part.account, -part.amount
      FROM item
     CROSS JOIN LATERAL (VALUES ('tickets', price - fee - tax), ('fees', fee), ('tax', tax)) AS part (account, amount)
     WHERE NOT is_back
$$;
