-- After the purchase, and the organiser's side: prices with tiers and codes, what becomes of a ticket, money that goes back,
-- who waits for a seat that is freed, and the books and notes that say what was done.

-- scanner: lets people in at the door, and may do nothing else.
ALTER TABLE users
    DROP CONSTRAINT users_role_check,
    ADD CONSTRAINT users_role_check CHECK (role IN ('user', 'scanner', 'admin'));

ALTER TABLE events
    -- From here to on_sale_date only who has an access code may have seats; null: there is no presale.
    ADD COLUMN presale_date    timestamptz,
    -- The price of a seat is what a buyer pays, everything included. What of it is a fee and what is tax follows from these:
    -- tax is price - price / (1 + tax_rate), the fee is fee_rate of the rest; each rounded to the currency's smallest unit.
    ADD COLUMN fee_rate        numeric(6, 4) NOT NULL DEFAULT 0 CHECK (fee_rate >= 0 AND fee_rate < 1),
    ADD COLUMN tax_rate        numeric(6, 4) NOT NULL DEFAULT 0 CHECK (tax_rate >= 0 AND tax_rate < 1),
    -- Until when buyers may give tickets back by themselves (null: never), and which share of the price is then kept.
    ADD COLUMN refund_until    timestamptz,
    ADD COLUMN refund_fee_rate numeric(6, 4) NOT NULL DEFAULT 0 CHECK (refund_fee_rate >= 0 AND refund_fee_rate <= 1),
    -- Whether tickets may pass from one account to another, and be offered to others; both until the show begins.
    ADD COLUMN transfers       boolean NOT NULL DEFAULT true,
    ADD COLUMN resales         boolean NOT NULL DEFAULT true,
    -- Whether the code of a ticket changes every few seconds, so that a picture of it lets nobody in.
    ADD COLUMN rotating_codes  boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT a_presale_comes_first CHECK (presale_date < on_sale_date);

ALTER TABLE event_inventory
    -- People on the waiting list whom no seats have been offered; while there are any, what is freed is theirs first.
    ADD COLUMN waiting_count    integer NOT NULL DEFAULT 0 CHECK (waiting_count >= 0),
    ADD COLUMN waiting_serial   bigint NOT NULL DEFAULT 0;

ALTER TABLE seats
    -- Of a seat that its owner has offered to others: available or held for whoever buys it, and still his until then.
    ADD COLUMN resale_id uuid,
    ADD CONSTRAINT only_what_is_on_sale_is_resold CHECK (resale_id IS NULL OR status IN ('available', 'held'));

-- What an organiser gives out: a code opens the presale (access), makes seats cheaper (discount), or both.
CREATE TABLE codes (
    event_id          uuid NOT NULL REFERENCES events (id),
    id                uuid NOT NULL,
    -- As it is compared: upper case, no blanks.
    code              text NOT NULL CHECK (code ~ '^[A-Z0-9-]{3,40}$'),
    opens_presale     boolean NOT NULL DEFAULT false,
    percent_off       numeric(5, 2) NOT NULL DEFAULT 0 CHECK (percent_off BETWEEN 0 AND 100),
    -- Off each seat, and never below nothing.
    amount_off        numeric(10, 2) NOT NULL DEFAULT 0 CHECK (amount_off >= 0),
    -- A use is a hold that is alive or was paid; null: as many as there are.
    uses_max          integer CHECK (uses_max > 0),
    uses_per_user_max integer CHECK (uses_per_user_max > 0),
    valid_from        timestamptz,
    valid_until       timestamptz,
    -- Sections it counts in; empty: all.
    sections          text[] NOT NULL DEFAULT '{}',
    disabled_at       timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, id),
    UNIQUE (event_id, code),
    CHECK (opens_presale OR percent_off > 0 OR amount_off > 0)
);

-- Other prices than the usual one, which buyers choose (a child's, a student's), by section.
CREATE TABLE price_tiers (
    event_id uuid NOT NULL REFERENCES events (id),
    section  text NOT NULL,
    name     text NOT NULL CHECK (length(name) BETWEEN 1 AND 40),
    price    numeric(10, 2) NOT NULL CHECK (price >= 0),
    PRIMARY KEY (event_id, section, name)
);

ALTER TABLE holds
    -- What each seat costs whoever holds it, in the order of seat_ids: its tier and his code are in it, and it stays so when
    -- the organiser changes prices meanwhile. Null in holds older than this column: what the seats cost.
    ADD COLUMN prices       numeric(10, 2)[] CHECK (cardinality(prices) = cardinality(seat_ids)),
    -- The tier of each, '' for the usual price; and what the code took off each.
    ADD COLUMN tiers        text[] CHECK (cardinality(tiers) = cardinality(seat_ids)),
    ADD COLUMN reductions   numeric(10, 2)[] CHECK (cardinality(reductions) = cardinality(seat_ids)),
    ADD COLUMN code_id      uuid,
    -- Of seats that the waiting list offered: whose turn it was.
    ADD COLUMN waiting_id   uuid;
CREATE INDEX holds_by_code ON holds (event_id, code_id) WHERE code_id IS NOT NULL;

ALTER TABLE orders
    -- complimentary: given by the organiser, nothing to pay.
    ADD COLUMN kind    text NOT NULL DEFAULT 'sale' CHECK (kind IN ('sale', 'complimentary')),
    ADD COLUMN code_id uuid;
CREATE INDEX orders_by_event ON orders (event_id, created_at DESC, id);

ALTER TABLE order_items
    ADD COLUMN fee       numeric(10, 2) NOT NULL DEFAULT 0,
    ADD COLUMN tax       numeric(10, 2) NOT NULL DEFAULT 0,
    -- What the code took off; the price is what remained.
    ADD COLUMN reduction numeric(10, 2) NOT NULL DEFAULT 0,
    ADD COLUMN tier      text NOT NULL DEFAULT '',
    -- The refund that gives this item's money back, from the moment it is asked for: nothing is given back twice.
    ADD COLUMN refund_id uuid,
    ADD CONSTRAINT fee_and_tax_are_in_the_price CHECK (fee >= 0 AND tax >= 0 AND fee + tax <= price);

-- Money that goes back: one call to the provider each, under a key that is stored before.
CREATE TABLE refunds (
    event_id     uuid NOT NULL,
    -- The id of the command that asked for it, or follows from it: asking again finds it.
    id           uuid NOT NULL,
    order_id     uuid NOT NULL,
    -- buyer: by the event's policy. organiser: by hand. cancellation: of the whole event. resale: the seat was sold on, so
    -- its seller has his money back and no seat is freed.
    kind         text NOT NULL CHECK (kind IN ('buyer', 'organiser', 'cancellation', 'resale')),
    ticket_ids   uuid[] NOT NULL CHECK (cardinality(ticket_ids) > 0),
    -- What the tickets cost is amount + fee_kept; of a resale, amount is the price that was paid and the rest is the seller's loss.
    amount       numeric(10, 2) NOT NULL CHECK (amount >= 0),
    fee_kept     numeric(10, 2) NOT NULL DEFAULT 0 CHECK (fee_kept >= 0),
    currency     text NOT NULL,
    status       text NOT NULL DEFAULT 'requested' CHECK (status IN ('requested', 'refunded')),
    provider_key text NOT NULL UNIQUE,
    requested_by uuid NOT NULL,
    reason       text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    refunded_at  timestamptz,
    -- When anything was last done about it; the reconciler takes what has been silent for too long.
    touched_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, id),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, id),
    CHECK ((status = 'refunded') = (refunded_at IS NOT NULL))
);
CREATE INDEX refunds_by_order ON refunds (event_id, order_id);
CREATE INDEX refunds_unfinished ON refunds (touched_at) WHERE status = 'requested';

ALTER TABLE tickets
    -- Goes up when the ticket changes hands: a code carries it, so the code of whoever had it before is dead.
    ADD COLUMN version       integer NOT NULL DEFAULT 0 CHECK (version >= 0),
    -- Who bought it, whoever has it now: the ticket limit counts both.
    ADD COLUMN bought_by     uuid,
    -- Of a void one: why, for whoever stands at the door with it.
    ADD COLUMN ended_because text NOT NULL DEFAULT '' CHECK (ended_because IN ('', 'refunded', 'cancelled', 'resold')),
    -- When it let its bearer in.
    ADD COLUMN checked_in_at timestamptz;
UPDATE tickets SET bought_by = user_id;
UPDATE tickets SET ended_because = 'refunded' WHERE status = 'void';
ALTER TABLE tickets
    ALTER COLUMN bought_by SET NOT NULL,
    ADD CONSTRAINT a_void_ticket_says_why CHECK ((status = 'void') = (ended_because <> ''));
CREATE INDEX tickets_by_buyer ON tickets (event_id, bought_by) WHERE status = 'valid';
CREATE INDEX tickets_by_owner ON tickets (user_id, created_at DESC);

-- A ticket on its way to another account.
CREATE TABLE transfers (
    event_id       uuid NOT NULL,
    id             uuid NOT NULL,
    ticket_id      uuid NOT NULL,
    -- The ticket as it was offered: whoever accepts gets this one, not what it has become since.
    ticket_version integer NOT NULL,
    from_user_id   uuid NOT NULL,
    -- Lower case; its owner need not have an account yet.
    to_email       text NOT NULL CHECK (to_email = lower(to_email)),
    to_user_id     uuid,
    status         text NOT NULL DEFAULT 'offered' CHECK (status IN ('offered', 'accepted', 'declined', 'withdrawn', 'expired')),
    created_at     timestamptz NOT NULL,
    -- Offered means offered only while this lies ahead.
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    PRIMARY KEY (event_id, id),
    FOREIGN KEY (event_id, ticket_id) REFERENCES tickets (event_id, id),
    CHECK ((status = 'offered') = (ended_at IS NULL)),
    CHECK ((status = 'accepted') = (to_user_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_open_transfer_per_ticket ON transfers (event_id, ticket_id) WHERE status = 'offered';
CREATE INDEX transfers_from ON transfers (from_user_id, created_at DESC);
CREATE INDEX transfers_to ON transfers (to_email, created_at DESC);
CREATE INDEX transfers_by_end ON transfers (expires_at) WHERE status = 'offered';

-- A seat that its owner offers to others, for what it cost or less. While it is open the seat is on sale and the ticket still
-- its owner's; sold, the ticket is void and the owner is paid back.
CREATE TABLE resales (
    event_id    uuid NOT NULL,
    id          uuid NOT NULL,
    ticket_id   uuid NOT NULL,
    order_id    uuid NOT NULL,
    seat_id     uuid NOT NULL,
    seller_id   uuid NOT NULL,
    price       numeric(10, 2) NOT NULL CHECK (price >= 0),
    -- What the seat has to become again when the offer is withdrawn, or its buyer gives it back.
    usual_price numeric(10, 2) NOT NULL,
    hold_id     uuid NOT NULL,
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'sold', 'withdrawn', 'ended')),
    refund_id   uuid,
    created_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    PRIMARY KEY (event_id, id),
    FOREIGN KEY (event_id, ticket_id) REFERENCES tickets (event_id, id),
    CHECK ((status = 'open') = (ended_at IS NULL)),
    CHECK ((status = 'sold') = (refund_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_open_resale_per_seat ON resales (event_id, seat_id) WHERE status = 'open';
CREATE INDEX resales_by_seller ON resales (seller_id, created_at DESC);

-- Who wants seats of a sold-out event. Position is given under the event's fence: who came first is first.
CREATE TABLE waiting_list (
    event_id   uuid NOT NULL,
    id         uuid NOT NULL,
    user_id    uuid NOT NULL,
    position   bigint NOT NULL,
    seat_count integer NOT NULL CHECK (seat_count > 0),
    -- '' for any.
    section    text NOT NULL DEFAULT '',
    -- offered: seats are held for him, in the hold named here; bought, lapsed: what came of that.
    status     text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'offered', 'bought', 'lapsed', 'left')),
    hold_id    uuid,
    joined_at  timestamptz NOT NULL,
    offered_at timestamptz,
    ended_at   timestamptz,
    PRIMARY KEY (event_id, id),
    UNIQUE (event_id, position),
    CHECK ((status IN ('bought', 'lapsed', 'left')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_place_on_the_waiting_list ON waiting_list (event_id, user_id) WHERE status IN ('waiting', 'offered');
CREATE INDEX waiting_list_in_order ON waiting_list (event_id, position) WHERE status = 'waiting';
CREATE INDEX waiting_list_of_user ON waiting_list (user_id, joined_at DESC);

-- The cancellation of an event: everybody gets their money back, some orders at a time, until none is left.
CREATE TABLE cancellations (
    event_id     uuid PRIMARY KEY REFERENCES events (id),
    cancelled_by uuid NOT NULL,
    reason       text NOT NULL DEFAULT '',
    cancelled_at timestamptz NOT NULL,
    -- No order is left that has not been refunded or come to nothing.
    finished_at  timestamptz
);
CREATE INDEX cancellations_unfinished ON cancellations (cancelled_at) WHERE finished_at IS NULL;

-- The books, double-entry: every record takes an amount from one account and gives it to another, so they always sum to zero.
-- Written in the transaction that did it; never updated. Accounts: provider (what the payment provider has collected for us),
-- tickets, fees, tax (what it was collected for), refund_fees (what was kept of a refund).
CREATE TABLE money_ledger (
    event_id   uuid NOT NULL,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    order_id   uuid NOT NULL,
    refund_id  uuid,
    -- The money goes from credit to debit.
    debit      text NOT NULL CHECK (debit IN ('provider', 'tickets', 'fees', 'tax', 'refund_fees')),
    credit     text NOT NULL CHECK (credit IN ('provider', 'tickets', 'fees', 'tax', 'refund_fees')),
    amount     numeric(10, 2) NOT NULL CHECK (amount > 0),
    currency   text NOT NULL,
    command_id uuid NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (event_id, id),
    CHECK (debit <> credit)
);
CREATE INDEX money_ledger_by_order ON money_ledger (event_id, order_id);
-- What was sold before there were books.
INSERT INTO money_ledger (event_id, order_id, debit, credit, amount, currency, command_id, at)
SELECT event_id, id, 'provider', 'tickets', total_amount, currency, id, completed_at
  FROM orders WHERE status IN ('completed', 'refunding', 'refunded') AND total_amount > 0;
INSERT INTO money_ledger (event_id, order_id, debit, credit, amount, currency, command_id, at)
SELECT event_id, id, 'tickets', 'provider', total_amount, currency, id, completed_at
  FROM orders WHERE status = 'refunded' AND total_amount > 0;

-- What organisers did: who, what, to what, and how it was before and after. Written with the deed; never updated.
CREATE TABLE audit_log (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    user_id  uuid NOT NULL,
    action   text NOT NULL,
    event_id uuid,
    -- What it was done to: an order, a venue, a user, seats; in words a person can look up.
    subject  text NOT NULL,
    before   jsonb,
    after    jsonb
);
CREATE INDEX audit_log_by_event ON audit_log (event_id, id DESC);
CREATE INDEX audit_log_by_user ON audit_log (user_id, id DESC);
