-- name: find_block
-- The seats of a section, or of one row of it, that stand like this; null: however they stand. A hold that is over counts as
-- none, by this database's clock, and a seat that its owner offers to others is not available to the house. What somebody
-- takes between this look and the command is told by the command's own refusal.
SELECT id, kind
  FROM seats
 WHERE event_id = $1 AND section = $2 AND ($3::text IS NULL OR row = $3)
   AND ($4::text IS NULL
        OR (resale_id IS NULL
            AND $4 = CASE WHEN status = 'held' AND held_until <= now() THEN 'available' ELSE status END))
 ORDER BY seat_index
 LIMIT $5;

-- name: is_event
SELECT EXISTS (SELECT FROM event_inventory WHERE event_id = $1);
