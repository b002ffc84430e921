CREATE TABLE jobs (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    total INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    created_at REAL NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,
    seq INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    max_errors INTEGER,
    leased INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    partial REAL NOT NULL,
    percent REAL,
    meter TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL,
    error TEXT,
    started_at REAL,
    progress_at REAL,
    heartbeat_at REAL,
    finished_at REAL,
    submission_key TEXT UNIQUE,
    fingerprint TEXT
) STRICT;
CREATE INDEX jobs_to_claim ON jobs (priority DESC, n) WHERE waiting > 0;
CREATE INDEX jobs_live ON jobs (n) WHERE finished_at IS NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, n);
CREATE TABLE items (
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    name TEXT NOT NULL,
    size INTEGER,
    file TEXT,
    state TEXT NOT NULL,
    seq INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    lease_until REAL,
    attempt INTEGER NOT NULL,
    progress REAL,
    message TEXT,
    error TEXT,
    result TEXT,
    result_file TEXT,
    started_at REAL,
    finished_at REAL,
    PRIMARY KEY (job, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX items_by_state ON items (job, state, idx);
CREATE INDEX items_by_seq ON items (job, seq, idx);
CREATE INDEX items_leased ON items (job, idx) WHERE lease_until IS NOT NULL;
CREATE TABLE pulse (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL) STRICT;
ALTER TABLE jobs ADD COLUMN health TEXT NOT NULL DEFAULT 'ok';
ALTER TABLE jobs ADD COLUMN item_limit_s REAL;
ALTER TABLE jobs ADD COLUMN deadline_at REAL;
ALTER TABLE jobs ADD COLUMN webhook_url TEXT;
ALTER TABLE jobs ADD COLUMN retry_of TEXT;
ALTER TABLE jobs ADD COLUMN cancel_requested_at REAL;
ALTER TABLE items ADD COLUMN not_before REAL;
ALTER TABLE items ADD COLUMN worker TEXT;
CREATE INDEX items_claimable ON items (job, not_before, idx) WHERE state = 'pending' AND lease_until IS NULL;
CREATE TABLE timeline (
    n INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    at REAL NOT NULL,
    what TEXT NOT NULL,
    text TEXT,
    idx INTEGER,
    attempt INTEGER,
    worker TEXT
) STRICT;
CREATE INDEX timeline_of_job ON timeline (job, n);
CREATE TABLE deliveries (
    job INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    made_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL,
    trouble TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_by_host ON deliveries (host, next_at, job) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_given_up ON deliveries (job) WHERE next_at IS NULL AND trouble IS NOT NULL;
CREATE INDEX jobs_by_kind ON jobs (kind, state, n);
CREATE INDEX jobs_by_end ON jobs (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_kind_and_end ON jobs (kind, state, finished_at) WHERE finished_at IS NOT NULL;
DROP INDEX jobs_finished;
CREATE TABLE tally (
    state TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT state, count(*) FROM jobs GROUP BY state;
CREATE TRIGGER jobs_come AFTER INSERT ON jobs BEGIN
    INSERT INTO tally VALUES (new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER jobs_change AFTER UPDATE OF state ON jobs WHEN new.state <> old.state BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
    INSERT INTO tally VALUES (new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER jobs_go AFTER DELETE ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
END;
PRAGMA application_id = 1970172788;
PRAGMA user_version = 3;
