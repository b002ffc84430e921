"""The tables of the SQLite store, and the migrations that bring an older database up to date.

`MIGRATIONS[i]` turns a database of version i into one of version i + 1; a new database runs through all of them.
Statements of a released migration are never edited: a change is added as another migration. Two early ones were
edited all the same, so databases of the same version may differ; `_complete` adds what one of them lacks.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

#: Marks databases of unstuck ("unst" in ASCII), see PRAGMA application_id.
APPLICATION_ID = 0x756E7374

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        n INTEGER PRIMARY KEY,          -- order of arrival; the cursor of lists
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        total INTEGER NOT NULL,
        waiting INTEGER NOT NULL,       -- items that a runner may claim
        created_at REAL NOT NULL,       -- all times: seconds since 1970, UTC
        options TEXT NOT NULL,          -- JSON
        state TEXT NOT NULL,
        seq INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        max_attempts INTEGER NOT NULL,
        max_errors INTEGER,
        leased INTEGER NOT NULL,        -- items that runners hold
        succeeded INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        partial REAL NOT NULL,          -- sum of the running items' fractions
        percent REAL,                   -- the highest shown so far
        meter TEXT NOT NULL,            -- JSON: what the rate is computed from
        cancel_requested INTEGER NOT NULL,
        error TEXT,                     -- JSON {code, message, transient}
        started_at REAL,
        progress_at REAL,
        heartbeat_at REAL,
        finished_at REAL,
        submission_key TEXT UNIQUE,     -- the Idempotency-Key of the submission
        fingerprint TEXT                -- of the submission under that key
    ) STRICT;
    CREATE INDEX jobs_to_claim ON jobs (priority DESC, n) WHERE waiting > 0;
    CREATE INDEX jobs_live ON jobs (n) WHERE finished_at IS NULL;
    CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_by_state ON jobs (state, n);

    CREATE TABLE items (
        job INTEGER NOT NULL,           -- jobs.n
        idx INTEGER NOT NULL,
        name TEXT NOT NULL,
        size INTEGER,
        file TEXT,                      -- name of the stored input in the job's folder
        state TEXT NOT NULL,
        seq INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        lease_until REAL,               -- NULL: no runner holds it
        attempt INTEGER NOT NULL,
        progress REAL,
        message TEXT,
        error TEXT,                     -- JSON {code, message, transient}
        result TEXT,                    -- JSON
        result_file TEXT,               -- name of the stored result in the item's folder
        started_at REAL,
        finished_at REAL,
        PRIMARY KEY (job, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_by_state ON items (job, state, idx);
    CREATE INDEX items_by_seq ON items (job, seq, idx);
    CREATE INDEX items_leased ON items (job, idx) WHERE lease_until IS NOT NULL;

    CREATE TABLE pulse (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL) STRICT;
    """,
    """
    ALTER TABLE jobs ADD COLUMN health TEXT NOT NULL DEFAULT 'ok';
    ALTER TABLE jobs ADD COLUMN item_limit_s REAL;
    ALTER TABLE jobs ADD COLUMN deadline_at REAL;
    ALTER TABLE jobs ADD COLUMN webhook_url TEXT;
    ALTER TABLE jobs ADD COLUMN retry_of TEXT;
    ALTER TABLE jobs ADD COLUMN cancel_requested_at REAL;
    ALTER TABLE items ADD COLUMN not_before REAL;   -- pause before the next attempt
    ALTER TABLE items ADD COLUMN worker TEXT;       -- the worker that took it last
    CREATE INDEX items_claimable ON items (job, not_before, idx) WHERE state = 'pending' AND lease_until IS NULL;

    CREATE TABLE timeline (
        n INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,           -- jobs.n
        at REAL NOT NULL,
        what TEXT NOT NULL,
        text TEXT,
        idx INTEGER,                    -- the item, if the entry is about one
        attempt INTEGER,
        worker TEXT
    ) STRICT;
    CREATE INDEX timeline_of_job ON timeline (job, n);

    CREATE TABLE deliveries (
        job INTEGER PRIMARY KEY,        -- jobs.n; made in the transaction that ends the job
        url TEXT NOT NULL,
        host TEXT NOT NULL,             -- of the URL
        made_at REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,  -- started so far
        next_at REAL,                   -- NULL: no further attempt
        trouble TEXT                    -- why the last attempt failed; NULL with next_at NULL: delivered
    ) STRICT;
    CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;
    CREATE INDEX deliveries_by_host ON deliveries (host, next_at, job) WHERE next_at IS NOT NULL;
    CREATE INDEX deliveries_given_up ON deliveries (job) WHERE next_at IS NULL AND trouble IS NOT NULL;
    """,
    """
    -- For lists of a million jobs: one walk along an index per state, and SQLite merges the walks.
    CREATE INDEX jobs_by_kind ON jobs (kind, state, n);
    CREATE INDEX jobs_by_end ON jobs (state, finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_by_kind_and_end ON jobs (kind, state, finished_at) WHERE finished_at IS NOT NULL;
    DROP INDEX jobs_finished;

    CREATE TABLE tally (                -- the number of jobs, so that no query has to count them
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
    """,
    """
    ALTER TABLE jobs ADD COLUMN external INTEGER NOT NULL DEFAULT 0;  -- its work runs elsewhere
    ALTER TABLE jobs ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;   -- it has no rows in items
    ALTER TABLE jobs ADD COLUMN open_end INTEGER NOT NULL DEFAULT 0;  -- total is the number counted so far
    ALTER TABLE jobs ADD COLUMN stage TEXT;
    ALTER TABLE jobs ADD COLUMN message TEXT;
    DROP INDEX jobs_to_claim;
    CREATE INDEX jobs_to_claim ON jobs (priority DESC, n) WHERE waiting > 0 AND external = 0;
    """,
    """
    CREATE TABLE identity (             -- tells this database from all others; see files/folder.py
        one INTEGER PRIMARY KEY CHECK (one = 1),
        id TEXT NOT NULL
    ) STRICT;
    INSERT INTO identity VALUES (1, lower(hex(randomblob(16))));
    CREATE TABLE removals (             -- jobs that were deleted, and whose files may still be there
        id TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE clock_steps (          -- when the machine's clock was set: it does not shorten what is kept
        n INTEGER PRIMARY KEY,
        at REAL NOT NULL,               -- what it showed then
        jump REAL NOT NULL              -- by how much it was set (seconds)
    ) STRICT;
    """,
    """
    ALTER TABLE jobs ADD COLUMN unit TEXT;      -- what one item is called; NULL: not known
    ALTER TABLE jobs ADD COLUMN units TEXT;     -- what several are called
    CREATE INDEX jobs_by_retry ON jobs (retry_of, n) WHERE retry_of IS NOT NULL;
    """,
    """
    ALTER TABLE jobs ADD COLUMN lost_after_s REAL;  -- external work: silence after which it fails
    """,
)

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the database to VERSION in one transaction, so that a failure leaves the old version intact."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    try:
        connection.executescript("BEGIN IMMEDIATE;" + "".join(MIGRATIONS[version:]))
        _complete(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _complete(connection: sqlite3.Connection) -> None:
    """Give the database every column, index and trigger that a new one has."""
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript("".join(MIGRATIONS))
        statements = "SELECT name, sql FROM sqlite_master WHERE type = ? AND sql IS NOT NULL"
        for table, sql in new.execute(statements, ("table",)).fetchall():
            known = _columns(connection, table)
            if known != _columns(new, table):
                _rebuild(connection, table, sql, known)
        for kind in ("index", "trigger"):
            present = dict(connection.execute(statements, (kind,)))
            for name, sql in new.execute(statements, (kind,)).fetchall():
                if name not in present:
                    connection.execute(sql)


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _rebuild(connection: sqlite3.Connection, table: str, sql: str, columns: list[str]) -> None:
    """Create the table anew and copy these columns; ALTER TABLE cannot add one that is unique, or not null."""
    names = ", ".join(columns)
    connection.execute(f"ALTER TABLE {table} RENAME TO {table}_before")
    connection.execute(sql)
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table}_before")
    connection.execute(f"DROP TABLE {table}_before")
