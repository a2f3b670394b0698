-- The sale: who buys, what is sold, who holds it, who owns it, what was paid, and the ledger that proves it.
--
-- Every table that belongs to an event has event_id first in its primary key, so that one event lives on one shard and
-- no transaction of ours ever spans two. Times are timestamptz and only this database's clock judges them. Money is
-- numeric(10,2) with its currency beside it.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL CHECK (email = lower(email) AND length(email) <= 255),
    password_hash text NOT NULL,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (email)
);

CREATE TABLE venues (
    id             uuid PRIMARY KEY,
    name           text NOT NULL,
    address        text NOT NULL DEFAULT '',
    city           text NOT NULL DEFAULT '',
    capacity       integer NOT NULL CHECK (capacity > 0),
    -- {"sections": [{"name": "A", "rows": 10, "seatsPerRow": 20, "price": "45.00"}]}
    section_config jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE events (
    id            uuid PRIMARY KEY,
    name          text NOT NULL,
    artist        text NOT NULL DEFAULT '',
    category      text NOT NULL DEFAULT '',
    venue_id      uuid NOT NULL REFERENCES venues (id),
    event_date    timestamptz NOT NULL,
    on_sale_date  timestamptz NOT NULL,
    -- When selling stops; the show's beginning unless the organiser says otherwise.
    off_sale_date timestamptz NOT NULL,
    -- What the catalogue shows. Whether a seat may be taken is judged by the two dates and by cancellation alone, so a
    -- lifecycle process that is late or dead neither opens a sale early nor keeps one closed.
    status        text NOT NULL DEFAULT 'upcoming'
                  CHECK (status IN ('upcoming', 'on_sale', 'sold_out', 'completed', 'cancelled')),
    high_demand   boolean NOT NULL DEFAULT false,
    currency      text NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
    -- Seats one user may hold and own of this event, all orders together.
    ticket_limit  integer NOT NULL DEFAULT 6 CHECK (ticket_limit > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (off_sale_date > on_sale_date)
);
CREATE INDEX events_by_sale_dates ON events (on_sale_date, off_sale_date) WHERE status <> 'cancelled';
CREATE INDEX events_by_venue ON events (venue_id);

-- The fence. An engine locks its event's row here before it reads anything else, so two engines never interleave on one
-- event, whatever the broker believes about its single active consumer.
CREATE TABLE event_inventory (
    event_id   uuid PRIMARY KEY REFERENCES events (id),
    capacity   integer NOT NULL CHECK (capacity >= 0),
    -- The last number given out in seat_ledger. Advanced only under this row's lock, so the ledger has no gaps.
    ledger_seq bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);  -- one row per event, updated by every batch: room for HOT updates

-- No index on anything a sale changes (status, hold_id, held_until): every change of a seat is then a HOT update.
CREATE TABLE seats (
    event_id    uuid NOT NULL REFERENCES event_inventory (event_id),
    id          uuid NOT NULL,
    -- 0 … capacity-1, in the order of the map; gives availability a one-character-per-seat form.
    seat_index  integer NOT NULL CHECK (seat_index >= 0),
    section     text NOT NULL,
    row         text NOT NULL,
    seat_number text NOT NULL,
    price       numeric(10, 2) NOT NULL CHECK (price >= 0),
    status      text NOT NULL DEFAULT 'available' CHECK (status IN ('available', 'held', 'sold', 'withheld')),
    hold_id     uuid,
    -- Held means held only while this lies ahead; the end of the year 9999 while a payment runs, so that neither the
    -- cleanup nor a rival can take the seats of somebody who is paying.
    held_until  timestamptz,
    order_id    uuid,
    -- Goes up whenever the seat changes hands. Every write names the fence it read, and a stale writer changes no record.
    fence       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id, id),
    UNIQUE (event_id, seat_index),
    UNIQUE (event_id, section, row, seat_number),
    CHECK ((status = 'held') = (held_until IS NOT NULL)),
    CHECK (isfinite(held_until)),
    CHECK ((status IN ('held', 'sold')) = (hold_id IS NOT NULL)),
    CHECK ((status = 'sold') = (order_id IS NOT NULL))
) WITH (fillfactor = 60);

-- No foreign key: its check would cost as much as the insert, and a hold is only made under the lock of its event's record.
CREATE TABLE holds (
    event_id       uuid NOT NULL,
    -- The id of the command that made it: a redelivered command finds its own hold.
    id             uuid NOT NULL,
    user_id        uuid NOT NULL,
    seat_ids       uuid[] NOT NULL CHECK (cardinality(seat_ids) > 0),
    -- The fence of each seat, in the order of seat_ids, when this hold took it.
    fences         bigint[] NOT NULL CHECK (cardinality(fences) = cardinality(seat_ids)),
    total          numeric(10, 2) NOT NULL,
    status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paying', 'released', 'expired', 'converted')),
    held_until     timestamptz NOT NULL,
    -- What the buyer was first told; never updated, so that a retry of the reservation gets the same answer.
    reserved_until timestamptz NOT NULL,
    request_hash   text NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (event_id, id)
) WITH (fillfactor = 80);
-- Live holds of a user (ticket limit), and live holds by their end (cleanup).
CREATE INDEX holds_live_by_user ON holds (event_id, user_id) WHERE status IN ('active', 'paying');
CREATE INDEX holds_active_by_end ON holds (held_until) WHERE status = 'active';

CREATE TABLE orders (
    event_id           uuid NOT NULL REFERENCES event_inventory (event_id),
    -- The id of the checkout command that made it.
    id                 uuid NOT NULL,
    user_id            uuid NOT NULL,
    hold_id            uuid NOT NULL,
    status             text NOT NULL DEFAULT 'pending' CHECK (status IN
                       ('pending', 'completed', 'declined', 'voiding', 'cancelled', 'refunding', 'refunded')),
    total_amount       numeric(10, 2) NOT NULL,
    currency           text NOT NULL,
    request_hash       text NOT NULL DEFAULT '',
    -- Who waits for the outcome; the reply goes there when the payment is settled.
    reply_to           text,
    correlation_id     uuid,
    -- Why it ended without tickets.
    ended_because      text NOT NULL DEFAULT '',
    -- The API's answer, stored in the transaction that did the work: a retry gets it byte for byte.
    answer             text,
    created_at         timestamptz NOT NULL,
    completed_at       timestamptz,
    PRIMARY KEY (event_id, id),
    CHECK (completed_at IS NOT NULL OR status NOT IN ('completed', 'refunding', 'refunded'))
);
-- One live order per hold: a second checkout of the same hold finds the first order instead of paying twice.
CREATE UNIQUE INDEX one_live_order_per_hold ON orders (event_id, hold_id) WHERE status NOT IN ('declined', 'cancelled');
CREATE INDEX orders_by_user ON orders (user_id, created_at DESC);
CREATE INDEX orders_unfinished ON orders (created_at) WHERE status IN ('pending', 'voiding', 'refunding');

CREATE TABLE order_items (
    event_id uuid NOT NULL,
    order_id uuid NOT NULL,
    seat_id  uuid NOT NULL,
    price    numeric(10, 2) NOT NULL,
    -- False once the order is refunded or cancelled and the seat may be sold again.
    live     boolean NOT NULL DEFAULT true,
    PRIMARY KEY (event_id, order_id, seat_id),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, id),
    FOREIGN KEY (event_id, seat_id) REFERENCES seats (event_id, id)
);
-- The last word against a double sale, whatever any code above it believes.
CREATE UNIQUE INDEX a_seat_is_sold_once ON order_items (event_id, seat_id) WHERE live;

-- One payment per order: a declined card ends its order, and another card is another order on the same hold. provider_key is
-- chosen and stored before the provider hears of it, so that every retry repeats the same key and moves no money twice.
CREATE TABLE payments (
    event_id       uuid NOT NULL,
    order_id       uuid NOT NULL,
    provider_key   text NOT NULL UNIQUE,
    intent_id      text UNIQUE,
    status         text NOT NULL DEFAULT 'requested' CHECK (status IN
                   ('requested', 'created', 'action_needed', 'authorized', 'captured', 'declined', 'canceled', 'refunded')),
    amount         numeric(10, 2) NOT NULL,
    currency       text NOT NULL,
    payment_method text NOT NULL,
    client_secret  text,
    refund_key     text UNIQUE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- When anything was last done about it; the reconciler takes what has been silent for too long.
    touched_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, order_id),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, id)
);
CREATE INDEX payments_unfinished ON payments (touched_at) WHERE status IN ('requested', 'created', 'action_needed', 'authorized');

CREATE TABLE tickets (
    event_id   uuid NOT NULL,
    id         uuid NOT NULL,
    order_id   uuid NOT NULL,
    seat_id    uuid NOT NULL,
    user_id    uuid NOT NULL,
    status     text NOT NULL DEFAULT 'valid' CHECK (status IN ('valid', 'void')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, id),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, id)
);
CREATE INDEX tickets_valid_by_user ON tickets (event_id, user_id) WHERE status = 'valid';
CREATE INDEX tickets_by_order ON tickets (event_id, order_id);

-- What happened to every seat, in order, without gaps. Written in the transaction that changed the seat; never updated.
-- Replaying it from an empty house gives the seats table, or somebody has tampered: `boxoffice verify`.
CREATE TABLE seat_ledger (
    event_id    uuid NOT NULL,
    seq         bigint NOT NULL CHECK (seq > 0),
    seat_id     uuid NOT NULL,
    from_status text NOT NULL,
    to_status   text NOT NULL CHECK (to_status <> from_status),
    hold_id     uuid,
    order_id    uuid,
    command_id  uuid NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (event_id, seq)
);

-- Messages owed to the broker, written in the transaction they tell of; the relay publishes and then deletes them.
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange   text NOT NULL,
    routing_key text NOT NULL,
    type       text NOT NULL,
    message_id uuid NOT NULL,
    body       bytea NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Commands that leave no hold or order of their own, and the answer they got: a redelivery is answered the same.
CREATE TABLE command_inbox (
    event_id     uuid NOT NULL,
    command_id   uuid NOT NULL,
    request_hash text NOT NULL DEFAULT '',
    reply        text NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (event_id, command_id)
);

-- Messages a stage has dealt with: at-least-once delivery, shown once.
CREATE TABLE message_inbox (
    consumer   text NOT NULL,
    message_id text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
);

-- Sales per minute and event; what analytics counts, at most once.
CREATE TABLE sales_per_minute (
    event_id         uuid NOT NULL,
    minute_at        timestamptz NOT NULL,
    seats_reserved   bigint NOT NULL DEFAULT 0,
    seats_sold       bigint NOT NULL DEFAULT 0,
    orders_completed bigint NOT NULL DEFAULT 0,
    revenue          numeric(14, 2) NOT NULL DEFAULT 0,
    currency         text NOT NULL,
    PRIMARY KEY (event_id, minute_at)
);

-- Differences between our books and the provider's that the reconciler found. Open until somebody, or it, closes them.
CREATE TABLE breaks (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    event_id   uuid,
    order_id   uuid,
    intent_id  text,
    detail     text NOT NULL,
    found_at   timestamptz NOT NULL DEFAULT now(),
    repaired_at timestamptz
);
CREATE UNIQUE INDEX one_open_break ON breaks (kind, intent_id) WHERE repaired_at IS NULL;
