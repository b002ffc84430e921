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
PRAGMA application_id = 1970172788;
PRAGMA user_version = 1;
