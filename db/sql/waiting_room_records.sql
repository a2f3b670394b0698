-- name: find_room
SELECT room.event_id, room.kind, room.pre_at, room.opens_at, room.capacity, room.rate_per_second, room.challenge, room.demotion,
       room.wanted_phase, room.wanted_because, room.server_secret, room.announcement, room.frozen, room.revelation,
       room.announced_at, room.ended_at, room.forgotten_at, room.updated_at, room.version,
       event.name AS event_name, event.status AS event_status, event.on_sale_date, event.off_sale_date,
       clock_timestamp() AS read_at
  FROM waiting_rooms AS room
  JOIN events AS event ON event.id = room.event_id
 WHERE room.event_id = $1;

-- name: list_rooms_to_run
-- Also those that have ended, until their sale is over and Redis forgets them: a Redis that lost one would stop everybody.
SELECT room.event_id, room.kind, room.pre_at, room.opens_at, room.capacity, room.rate_per_second, room.challenge, room.demotion,
       room.wanted_phase, room.wanted_because, room.server_secret, room.announcement, room.frozen, room.revelation,
       room.announced_at, room.ended_at, room.forgotten_at, room.updated_at, room.version,
       event.name AS event_name, event.status AS event_status, event.on_sale_date, event.off_sale_date,
       clock_timestamp() AS read_at
  FROM waiting_rooms AS room
  JOIN events AS event ON event.id = room.event_id
 WHERE room.forgotten_at IS NULL
 ORDER BY room.event_id;

-- name: find_events_without_room
SELECT event.id AS event_id, event.on_sale_date, event.on_sale_date > now() AS is_scheduled, now() AS now
  FROM events AS event
 WHERE event.high_demand AND event.status NOT IN ('completed', 'cancelled') AND now() < event.off_sale_date
   AND NOT EXISTS (SELECT FROM waiting_rooms AS room WHERE room.event_id = event.id)
 ORDER BY event.on_sale_date, event.id
 LIMIT $1;

-- name: find_event_for_room
SELECT event.id AS event_id, event.on_sale_date, event.on_sale_date > now() AS is_scheduled, now() AS now
  FROM events AS event
 WHERE event.id = $1 AND event.status NOT IN ('completed', 'cancelled') AND now() < event.off_sale_date;

-- name: insert_room
-- Another process may have made it a moment ago; then that one counts, with its secret.
INSERT INTO waiting_rooms (event_id, kind, pre_at, opens_at, capacity, rate_per_second, server_secret, announcement)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT DO NOTHING;

-- name: mark_high_demand
UPDATE events
   SET high_demand = true, version = version + 1, updated_at = now()
 WHERE id = $1 AND NOT high_demand;

-- name: move_room
-- Only before the cohort is frozen: a draw that has begun is not announced anew. People gather as long before it as they
-- would have; where they gather already, they go on.
UPDATE waiting_rooms
   SET pre_at = CASE WHEN pre_at <= now() THEN least(pre_at, $2) ELSE $2 - (opens_at - pre_at) END, opens_at = $2, announcement = $3,
       announced_at = now(), updated_at = now(), version = version + 1
 WHERE event_id = $1 AND kind = 'scheduled' AND frozen IS NULL AND opens_at <> $2;

-- name: record_frozen
UPDATE waiting_rooms
   SET frozen = $2, updated_at = now()
 WHERE event_id = $1 AND frozen IS NULL;

-- name: record_revelation
UPDATE waiting_rooms
   SET revelation = $2, updated_at = now()
 WHERE event_id = $1 AND revelation IS NULL;

-- name: lock_terms
-- What the operator wants until now; nobody else changes it meanwhile.
SELECT capacity, rate_per_second, challenge, demotion, wanted_phase, wanted_because
  FROM waiting_rooms
 WHERE event_id = $1
   FOR NO KEY UPDATE;

-- name: want_phase
UPDATE waiting_rooms
   SET wanted_phase = $2, wanted_because = $3, updated_at = now(), version = version + 1
 WHERE event_id = $1 AND ended_at IS NULL;

-- name: clear_wanted
-- Unless the operator has asked for something else meanwhile.
UPDATE waiting_rooms
   SET wanted_phase = NULL, wanted_because = '', updated_at = now(), version = version + 1
 WHERE event_id = $1 AND wanted_phase = $2;

-- name: set_terms
UPDATE waiting_rooms
   SET capacity = coalesce($2, capacity), rate_per_second = coalesce($3, rate_per_second),
       challenge = coalesce($4, challenge), demotion = coalesce($5, demotion), updated_at = now(), version = version + 1
 WHERE event_id = $1 AND ended_at IS NULL AND version = coalesce($6, version);

-- name: mark_ended
UPDATE waiting_rooms
   SET ended_at = now(), wanted_phase = NULL, wanted_because = '', updated_at = now()
 WHERE event_id = $1 AND ended_at IS NULL;

-- name: mark_forgotten
UPDATE waiting_rooms
   SET forgotten_at = now(), updated_at = now()
 WHERE event_id = $1 AND ended_at IS NOT NULL;

-- name: append_log
-- Whoever copied an entry first has copied it: an entry never changes.
INSERT INTO waiting_room_log (event_id, index, at_ms, kind, ticket, epoch, commitment, detail, place_id, user_id)
SELECT $1, entry.*
  FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::integer[], $7::text[], $8::text[], $9::text[],
              $10::uuid[]) AS entry
    ON CONFLICT DO NOTHING
RETURNING index;

-- name: read_log
SELECT index, at_ms, kind, ticket, epoch, commitment, detail, place_id, user_id
  FROM waiting_room_log
 WHERE event_id = $1 AND index > $2
 ORDER BY index
 LIMIT $3;

-- name: last_log_index
SELECT index
  FROM waiting_room_log
 WHERE event_id = $1
 ORDER BY index DESC
 LIMIT 1;

-- name: count_log
SELECT kind, count(*) AS entry_count
  FROM waiting_room_log
 WHERE event_id = $1
 GROUP BY kind;

-- name: find_returned
-- Tickets that have come back after a missed turn: they may be admitted after later ones.
SELECT ticket
  FROM waiting_room_log
 WHERE event_id = $1 AND kind = 'R';

-- name: find_joined_at
SELECT place_id, at_ms
  FROM waiting_room_log
 WHERE event_id = $1 AND kind = 'J' AND place_id = ANY ($2::text[]);

-- name: try_lock_room
SELECT pg_try_advisory_lock(hashtextextended('waiting room ' || $1::text, 0));

-- name: unlock_room
SELECT pg_advisory_unlock(hashtextextended('waiting room ' || $1::text, 0));
