-- name: find_event_of_order
-- Somebody else's order is as unknown as none; null: whoever's it is.
SELECT event_id FROM orders WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2);
