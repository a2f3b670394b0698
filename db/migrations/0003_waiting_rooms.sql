-- The waiting rooms: what was promised before a sale, what happened in it, and what proves that the one followed the other.
--
-- Who stands where lives in Redis, because it changes a thousand times a second. Here is what must survive Redis: the terms
-- of the room, the secret of the draw, and the room's whole log, from which Redis can be filled again in the same order.

CREATE TABLE waiting_rooms (
    event_id          uuid PRIMARY KEY REFERENCES events (id),
    -- scheduled: whoever comes before opens_at is drawn by lot, the others line up behind. unscheduled: first come, first served.
    kind              text NOT NULL CHECK (kind IN ('scheduled', 'unscheduled')),
    -- From when one may join, and when the draw is held (scheduled) or the line begins to move.
    pre_at            timestamptz NOT NULL,
    opens_at          timestamptz NOT NULL,
    -- What the operator wants; what is let in at a moment is decided from it by the controller.
    capacity          integer NOT NULL CHECK (capacity > 0),
    rate_per_second   double precision NOT NULL CHECK (rate_per_second > 0),
    -- Whether people solve a puzzle before they join, and what it costs them at least.
    challenge         text NOT NULL DEFAULT 'none' CHECK (challenge IN ('none', 'proof_of_work')),
    -- Whether who behaves like a crowd of accounts in one hand (ingress/waiting_room_conduct.py) is drawn behind all others, or
    -- only noted. Nobody is ever put out for it.
    demotion          text NOT NULL DEFAULT 'observe' CHECK (demotion IN ('observe', 'demote')),
    -- A phase the operator has asked for and the leader has not yet brought about.
    wanted_phase      text CHECK (wanted_phase IN ('open', 'paused', 'draining', 'ended')),
    wanted_because    text NOT NULL DEFAULT '',
    -- The draw, of scheduled rooms; as contracts/waiting_room_proof.py has it. The secret's SHA-256 is in the announcement,
    -- which is made with the room and published at once; the secret itself is published after the draw, never before.
    server_secret     bytea CHECK (length(server_secret) = 32),
    announcement      jsonb,
    frozen            jsonb,
    revelation        jsonb,
    announced_at      timestamptz NOT NULL DEFAULT now(),
    -- The room's last entry is in the log below: there is nothing left to lead.
    ended_at          timestamptz,
    -- Redis has forgotten it; not before its sale is over, because until then it must say that it stops nobody any more.
    forgotten_at      timestamptz,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    version           integer NOT NULL DEFAULT 1,
    CHECK (pre_at <= opens_at),
    CHECK ((kind = 'scheduled') = (server_secret IS NOT NULL)),
    CHECK ((server_secret IS NULL) = (announcement IS NULL)),
    CHECK (announcement IS NOT NULL OR frozen IS NULL),
    CHECK (frozen IS NOT NULL OR revelation IS NULL),
    CHECK (ended_at IS NOT NULL OR forgotten_at IS NULL)
);
CREATE INDEX waiting_rooms_not_forgotten ON waiting_rooms (event_id) WHERE forgotten_at IS NULL;

-- The log as Redis wrote it, copied here before Redis forgets it. Never updated.
CREATE TABLE waiting_room_log (
    event_id   uuid NOT NULL,
    index      bigint NOT NULL CHECK (index >= 0),
    at_ms      bigint NOT NULL,
    kind       text NOT NULL,
    ticket     bigint NOT NULL DEFAULT 0,
    epoch      integer NOT NULL DEFAULT 1,
    commitment text NOT NULL DEFAULT '',
    detail     text NOT NULL DEFAULT '',
    -- Of J; not part of what is published.
    place_id   text NOT NULL DEFAULT '',
    user_id    uuid,
    PRIMARY KEY (event_id, index)
);
-- When somebody joined who is let in now: how long they waited.
CREATE INDEX waiting_room_log_joins ON waiting_room_log (event_id, place_id) WHERE kind = 'J';

-- Events that need a room and have none yet: one is made as soon as it is seen.
CREATE INDEX events_with_high_demand ON events (off_sale_date) WHERE high_demand AND status NOT IN ('completed', 'cancelled');
