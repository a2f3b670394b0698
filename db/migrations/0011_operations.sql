-- Who works, and what an operator has told them not to do.

-- One record per consumer process that shares events with others; it renews its lease while it lives. What is older than
-- the lease is gone. Judged by the database's clock. This decides who begins with what, never who may write: the fence does.
CREATE TABLE consumer_leases (
    role       text NOT NULL,
    worker_id  uuid NOT NULL,
    -- As the management UI shows it: host and process id.
    name       text NOT NULL CHECK (length(name) <= 200),
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (role, worker_id)
);

-- Events whose commands nobody is to take for now. They wait in the event's queue up to its bound; then buyers are told to
-- come back later.
CREATE TABLE paused_event_queues (
    event_id  uuid PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    paused_at timestamptz NOT NULL DEFAULT now(),
    reason    text NOT NULL DEFAULT '' CHECK (length(reason) <= 500)
);

-- Each time this database came back from a backup. What buyers and the payment provider did after snapshot_at is not in these
-- books; until it has been looked at, nothing is asked of the provider by itself.
CREATE TABLE restores (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    snapshot_at   timestamptz NOT NULL,
    restored_at   timestamptz NOT NULL DEFAULT now(),
    reconciled_at timestamptz
);
