-- Who was let in, where and when: one record for every scan, whatever came of it.

CREATE TABLE check_ins (
    event_id    uuid NOT NULL REFERENCES events (id),
    -- Chosen by the device, one for each scan: sent again, it gets the answer it got, whatever has happened since.
    nonce       uuid NOT NULL,
    -- SHA-256 of the code that was read. With another code the same nonce is another question, and is refused; and a copy of
    -- this table opens no door.
    code_hash   bytea NOT NULL,
    -- Null when the code named no ticket of this event.
    ticket_id   uuid,
    -- What the books said of the code. Of a scan that a device judged by itself, with an old list: what they said afterwards.
    result      text NOT NULL CHECK (result IN ('valid', 'already_used', 'transferred', 'refunded', 'cancelled', 'resold',
                                                'on_resale', 'wrong_event', 'outdated', 'forged')),
    -- Whether its bearer went in. Without a network, with another result than valid, that is a conflict.
    admitted    boolean NOT NULL,
    -- Whether it is the one by which its ticket was used: of all that let somebody in with it, the first.
    counts      boolean NOT NULL,
    gate        text NOT NULL,
    scanned_by  uuid NOT NULL,
    -- By the device's clock, though never later than we heard of it; recorded_at by ours.
    scanned_at  timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    offline     boolean NOT NULL,
    -- Of somebody who went in with a ticket that had let somebody in before: that scan's nonce.
    first_nonce uuid,
    -- What the device was told, byte for byte.
    answer      text NOT NULL,
    PRIMARY KEY (event_id, nonce),
    -- on_resale: a device with an old list let the seller in, and he is in the house.
    CHECK (NOT counts OR (admitted AND result IN ('valid', 'on_resale'))),
    CHECK (ticket_id IS NOT NULL OR result IN ('wrong_event', 'forged'))
);
-- The last guard, behind the lock on the ticket: it lets in once. A second device that did so without a network is recorded
-- as `already_used`, or makes the one that counted until then give way.
CREATE UNIQUE INDEX a_ticket_admits_once ON check_ins (event_id, ticket_id) WHERE counts;
CREATE INDEX check_ins_by_ticket ON check_ins (event_id, ticket_id) WHERE admitted;
CREATE INDEX check_ins_in_conflict ON check_ins (event_id, recorded_at DESC)
    WHERE admitted AND (result <> 'valid' OR NOT counts);
-- The list for doors without a network says which version it is, and that counts the resales that there have been.
CREATE INDEX resales_by_event ON resales (event_id);
CREATE INDEX users_by_role ON users (role, created_at, id) WHERE role <> 'user';
