-- Codes by the thousand, and presales.

ALTER TABLE codes
    -- Of the request that made it, under an Idempotency-Key: a retry finds what it made.
    ADD COLUMN request_hash text NOT NULL DEFAULT '';

-- How often a code is used is counted whenever somebody uses it, so it is counted in the index: what has ended is not in it,
-- and its status is in the predicate of another index anyway.
DROP INDEX holds_by_code;
CREATE INDEX holds_by_code ON holds (event_id, code_id, user_id)
    WHERE code_id IS NOT NULL AND status IN ('active', 'paying', 'converted');

-- Lifecycle asks every second which sales are open; of all events few have a presale.
CREATE INDEX events_by_presale ON events (presale_date) WHERE presale_date IS NOT NULL AND status <> 'cancelled';
