-- name: find_seen
SELECT message_id FROM message_inbox WHERE consumer = $1 AND message_id = ANY($2::text[]);

-- name: record_seen
INSERT INTO message_inbox (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;
