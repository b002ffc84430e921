"""The statements of the SQLite store.

It must not know when they run.
See also: statements.py (what each is for), schema.py (the tables), tests/store/sqlite/test_plans.py (each uses an
index).
"""

from __future__ import annotations

from unstuck.jobs.job import FINAL, MOST
from unstuck.store.rows import ITEM_COLUMNS, ITEM_ENTRIES_KEPT, JOB_COLUMNS
from unstuck.store.statements import Statements

_JOB = f"SELECT n, {', '.join(JOB_COLUMNS)} FROM jobs"
_ITEM = f"SELECT {', '.join(ITEM_COLUMNS)} FROM items"
#: For items of one job in one state, in order. Left to itself, SQLite reads all items of the job, which are in
#: order too: 2 ms for each query of a job of 10,000.
_ITEM_BY_STATE = f"{_ITEM} INDEXED BY items_by_state"
_ENDS = ", ".join(f"'{state}'" for state in sorted(FINAL))

INSERT_ITEM = (
    f"INSERT INTO items (job, {', '.join(ITEM_COLUMNS)}) VALUES (?, {', '.join('?' * len(ITEM_COLUMNS))})"
)

#: {job, at, what, text, idx, attempt, worker}
INSERT_ENTRY = f"""
    INSERT INTO timeline (job, at, what, text, idx, attempt, worker)
    SELECT :job, :at, :what, :text, :idx, :attempt, :worker
    WHERE :idx IS NULL
       OR (SELECT count(*) FROM timeline WHERE job = :job AND idx IS NOT NULL) < {ITEM_ENTRIES_KEPT}
"""

SQLITE = Statements(
    parameter=lambda name: f":{name}",
    unindexed=lambda column: f"+{column}",
    insert_job=(
        f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) VALUES ({', '.join('?' * len(JOB_COLUMNS))}) RETURNING n"
    ),
    find_job=f"{_JOB} WHERE id = ?",
    job_by_number=f"{_JOB} WHERE n = ?",
    find_item=f"{_ITEM} WHERE job = ? AND idx = ?",
    delete_job=(
        "DELETE FROM items WHERE job = ?",
        "DELETE FROM timeline WHERE job = ?",
        "DELETE FROM deliveries WHERE job = ?",
        "DELETE FROM jobs WHERE n = ?",
    ),
    find_key="SELECT id, fingerprint FROM jobs WHERE submission_key = ?",
    set_key="UPDATE jobs SET submission_key = ?, fingerprint = ? WHERE n = ?",
    end_item=(
        "UPDATE items SET state = 'succeeded', progress = 1.0, lease_until = NULL, error = NULL, seq = ?, "
        "message = ?, result = ?, result_file = ?, started_at = ?, finished_at = ? WHERE job = ? AND idx = ?"
    ),
    cancel_waiting=(
        "UPDATE items INDEXED BY items_claimable SET state = 'cancelled', seq = ?, finished_at = ? "
        "WHERE job = ? AND state = 'pending' AND lease_until IS NULL"
    ),
    cancel_running=(
        "UPDATE items INDEXED BY items_by_state SET state = 'cancelled', seq = ?, finished_at = ? "
        "WHERE job = ? AND state = 'running'"
    ),
    succeed=(
        "UPDATE items SET state = 'succeeded', progress = 1.0, attempt = 1, seq = :seq, "
        "started_at = coalesce(started_at, :now), finished_at = :now WHERE job = :job AND idx IN (SELECT idx "
        "FROM items WHERE job = :job AND state IN ('pending', 'running') ORDER BY state, idx LIMIT :count)"
    ),
    # The first entry of the index is enough (NULL, no pause, sorts first); left to itself, SQLite reads all
    # finished items too. Without the plus, it would look each kind up in an index of all jobs.
    candidates=f"""
        SELECT id, priority, leased, waiting, n FROM jobs
        WHERE waiting > 0 AND external = 0
        AND (:kinds IS NULL OR +kind IN (SELECT value FROM json_each(:kinds))) AND (
            SELECT coalesce(not_before, :now) FROM items INDEXED BY items_claimable
            WHERE job = jobs.n AND state = 'pending' AND lease_until IS NULL AND +idx BETWEEN 0 AND {MOST}
            ORDER BY not_before LIMIT 1) <= :now
        ORDER BY priority DESC, n LIMIT :most
    """,
    # Those first that do not pause. A damaged number must not make the statement fail, and with it every claim, so
    # the counts stay within MOST; an index that no command can name is left out here and below.
    claim_items=f"""
        UPDATE items SET lease = lease % {MOST} + 1, attempt = attempt % {MOST} + 1, lease_until = :until,
            not_before = NULL, worker = :worker
        WHERE job = :job AND idx IN (
            SELECT idx FROM items WHERE job = :job AND state = 'pending' AND lease_until IS NULL
            AND (not_before IS NULL OR not_before <= :now) AND +idx BETWEEN 0 AND {MOST}
            ORDER BY not_before, idx LIMIT :limit)
        RETURNING {", ".join(ITEM_COLUMNS)}
    """,
    fresh_lease=(
        "SELECT 1 FROM items JOIN jobs ON jobs.n = items.job "
        "WHERE jobs.id = ? AND idx = ? AND lease = ? AND lease_until > ?"
    ),
    ended_leases=f"""
        SELECT jobs.id, items.idx, items.lease, :all OR coalesce(items.worker = :ended, 0) AS forced
        FROM items JOIN jobs ON jobs.n = items.job
        WHERE items.lease_until IS NOT NULL AND (items.lease_until <= :now OR forced)
        AND +items.idx BETWEEN 0 AND {MOST}
        ORDER BY items.job, items.idx
    """,
    leases_of_job=(
        "SELECT idx, lease FROM items INDEXED BY items_leased "
        f"WHERE job = ? AND lease_until IS NOT NULL AND +idx BETWEEN 0 AND {MOST} ORDER BY idx"
    ),
    jobs_to_check="""
        SELECT id FROM jobs WHERE finished_at IS NULL AND (
            deadline_at <= :now
            OR (state = 'queued' AND (created_at < :expired OR (health = 'ok' AND created_at < :waiting)))
            OR (external AND cancel_requested_at <= :grace)
            OR (external AND coalesce(heartbeat_at, created_at) < :now - coalesce(lost_after_s, :lost_s))
            OR (external AND counted AND NOT open_end AND state = 'running' AND waiting = 0
                AND heartbeat_at <= :kept)
            OR (state = 'running' AND external AND (
                (progress_at < :stalled AND health = 'ok')
                OR (heartbeat_at < :silent AND health <> 'unresponsive')))
            OR (state = 'running' AND NOT external AND (
                (leased > 0 AND progress_at < :stalled AND health = 'ok')
                OR (leased > 0 AND heartbeat_at < :unresponsive AND health <> 'unresponsive')
                OR (leased = 0 AND heartbeat_at < :waiting AND health = 'ok')
                OR (leased = 0 AND health IN ('stalled', 'unresponsive')))))
    """,
    insert_delivery="INSERT INTO deliveries (job, url, host, made_at, next_at) VALUES (?, ?, ?, ?, ?)",
    # Steps from host to host along an index, so ten thousand deliveries to one host cost no more than one.
    due_deliveries="""
        WITH RECURSIVE hosts (host) AS (
            SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL
            UNION ALL
            SELECT (SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL AND host > hosts.host)
            FROM hosts WHERE hosts.host IS NOT NULL
        )
        SELECT due.job, jobs.id, due.url, due.host, due.attempts, due.made_at
        FROM hosts JOIN deliveries AS due ON due.job IN (
            SELECT job FROM deliveries WHERE host = hosts.host AND next_at <= :now
            ORDER BY next_at, job LIMIT :lanes)
        JOIN jobs ON jobs.n = due.job ORDER BY due.next_at, due.job
    """,
    take_delivery="UPDATE deliveries SET attempts = max(0, min(attempts, 999999)) + 1, next_at = ? WHERE job = ?",
    finish_delivery=(
        "UPDATE deliveries SET next_at = ?, trouble = ? WHERE job = ? AND attempts = ? AND next_at IS NOT NULL"
    ),
    next_delivery="SELECT min(next_at) FROM deliveries WHERE next_at > ?",
    deliveries_waiting=(
        "SELECT count(*) FILTER (WHERE trouble IS NULL), count(*) FILTER (WHERE trouble IS NOT NULL) "
        "FROM deliveries WHERE next_at IS NOT NULL"
    ),
    deliveries_given_up="SELECT count(*) FROM deliveries WHERE next_at IS NULL AND trouble IS NOT NULL",
    running_names=(
        "SELECT idx, name FROM items INDEXED BY items_by_state "
        "WHERE job = ? AND state = 'running' ORDER BY idx LIMIT ?"
    ),
    failed_items=f"{_ITEM_BY_STATE} WHERE job = ? AND state = 'failed' ORDER BY idx LIMIT ?",
    running_items=f"{_ITEM_BY_STATE} WHERE job = ? AND state = 'running' ORDER BY idx LIMIT ?",
    all_items=f"{_ITEM} WHERE job = ? ORDER BY idx LIMIT ?",
    indexes_of=(
        "SELECT name, idx FROM items WHERE job = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY idx"
    ),
    timeline=(
        "SELECT at, what, text, timeline.idx, timeline.attempt, timeline.worker, items.name FROM timeline "
        "LEFT JOIN items ON items.job = timeline.job AND items.idx = timeline.idx "
        "WHERE timeline.job = ? ORDER BY n DESC LIMIT ?"
    ),
    select_jobs=_JOB,
    select_names="SELECT n, name FROM jobs",
    select_items=_ITEM,
    select_items_by_state=_ITEM_BY_STATE,
    live_ids=(
        "SELECT id FROM jobs WHERE finished_at IS NULL "
        f"UNION ALL SELECT id FROM jobs WHERE state IN ({_ENDS}) AND finished_at > ?"
    ),
    # Within the bounds of what a snapshot says, see jobs/job.py; else its viewers would always seem to be behind.
    seqs=f"SELECT id, max(1, min(seq, {MOST})) FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
    unfinished="SELECT total(jobs) FROM tally WHERE state IN ('queued', 'running')",
    unfinished_of="SELECT count(*) FROM jobs INDEXED BY jobs_live WHERE finished_at IS NULL AND external = ?",
    key_known="SELECT 1 FROM jobs WHERE submission_key = ?",
    jobs_by_state="SELECT state, jobs FROM tally WHERE jobs > 0",
    jobs_by_health="SELECT health, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY health",
    # total(): sum() fails if the numbers are too large. Only items that this server's workers process.
    item_totals="SELECT total(waiting), total(leased) FROM jobs WHERE finished_at IS NULL AND external = 0",
    oldest_wait="SELECT min(coalesce(started_at, created_at)) FROM jobs WHERE waiting > 0 AND external = 0",
    waiting_by_kind=(
        "SELECT kind, count(*) FROM jobs INDEXED BY jobs_to_claim WHERE waiting > 0 AND external = 0 GROUP BY kind"
    ),
    add_removal="INSERT OR IGNORE INTO removals VALUES (?)",
    removals="SELECT id FROM removals LIMIT ?",
    finish_removal="DELETE FROM removals WHERE id = ?",
)
