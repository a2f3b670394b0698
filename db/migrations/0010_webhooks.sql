-- What organisers' own systems are told, and whether they have heard it.

CREATE TABLE webhook_endpoints (
    id               uuid PRIMARY KEY,
    url              text NOT NULL CHECK (length(url) <= 2000),
    -- Which types it wants; empty: all. And of which event; null: of all.
    types            text[] NOT NULL DEFAULT '{}',
    event_id         uuid REFERENCES events (id),
    -- What its messages are signed with (whsec_ and base64, as Standard Webhooks writes it), and what they were signed with
    -- until now: while there is one, they carry both signatures. Shown once, when it is made.
    secret           text NOT NULL,
    secret_before    text NOT NULL DEFAULT '',
    status           text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'disabled')),
    -- Of a disabled one: it answered 410, or nothing for days.
    disabled_because text NOT NULL DEFAULT '',
    -- The last number given to a message of this endpoint. Advanced under this record's lock: the numbers have no gaps, so
    -- whoever receives 1, 2, 4 knows that 3 is missing and asks for it.
    last_sequence    bigint NOT NULL DEFAULT 0,
    created_by       uuid NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    version          integer NOT NULL DEFAULT 1,
    CHECK ((status = 'disabled') = (disabled_because <> ''))
);

CREATE TABLE webhook_messages (
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    sequence        bigint NOT NULL CHECK (sequence > 0),
    -- What it tells of, once per endpoint: the message behind it is delivered at least once.
    source          text NOT NULL,
    id              text NOT NULL,
    type            text NOT NULL,
    -- Exactly what is sent: the signature is over these bytes.
    body            text NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempt_count   integer NOT NULL DEFAULT 0,
    -- While it is being sent this lies a lease ahead, so that a sender that dies leaves it to the next.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz,
    PRIMARY KEY (endpoint_id, sequence),
    UNIQUE (endpoint_id, source)
);
CREATE INDEX webhook_messages_due ON webhook_messages (next_attempt_at) WHERE status = 'pending';

-- Each attempt and what the other side said.
CREATE TABLE webhook_attempts (
    endpoint_id uuid NOT NULL,
    sequence    bigint NOT NULL,
    number      integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    -- Null: no answer; then `problem` says why not.
    http_status integer,
    problem     text NOT NULL DEFAULT '',
    took_ms     integer NOT NULL,
    PRIMARY KEY (endpoint_id, sequence, number),
    FOREIGN KEY (endpoint_id, sequence) REFERENCES webhook_messages (endpoint_id, sequence) ON DELETE CASCADE
);
