"""The statements of the PostgreSQL store.

It must not know when they run.
See also: ../statements.py (what each is for), schema.py (the tables), transaction.py (locks rows of jobs first).
"""

from __future__ import annotations

from unstuck.jobs.job import FINAL, MOST
from unstuck.store.rows import ITEM_COLUMNS, ITEM_ENTRIES_KEPT, JOB_COLUMNS
from unstuck.store.statements import Statements

_JOB = f"SELECT n, {', '.join(JOB_COLUMNS)} FROM jobs"
_ITEM = f"SELECT {', '.join(ITEM_COLUMNS)} FROM items"
_ENDS = ", ".join(f"'{state}'" for state in sorted(FINAL))

#: Row number, id and version of each of these jobs (list of ids), whose rows stay locked until the end of the
#: transaction. All servers lock in this order, so that they never wait for each other in a circle. `xmin` names
#: the transaction that wrote the row: any write changes it, even one by hand.
LOCK_JOBS = "SELECT n, id, xmin::text FROM jobs WHERE id = ANY(%s) ORDER BY n FOR UPDATE"
#: Make each other transaction that names one of these keys (list) wait.
LOCK_KEYS = """
    SELECT pg_advisory_xact_lock(number)
    FROM (SELECT DISTINCT hashtextextended(key, 0) AS number FROM unnest(%s::text[]) AS key ORDER BY 1) AS keys
"""
FIND_JOBS = f"{_JOB} WHERE id = ANY(%s)"
#: Items by row numbers of jobs and indexes (two lists of one length); returns job, ITEM_COLUMNS.
FIND_ITEMS = f"""
    SELECT items.job, {", ".join(f"items.{name}" for name in ITEM_COLUMNS)} FROM items
    JOIN unnest(%s::bigint[], %s::bigint[]) AS wanted (job, idx)
    ON items.job = wanted.job AND items.idx = wanted.idx
"""
#: Returns the time, and the number of the transaction as pg_xact_status and as `xmin` know it.
NOW = """
    SELECT extract(epoch FROM clock_timestamp())::float8, pg_current_xact_id()::text,
        pg_current_xact_id()::xid::text
"""
#: Returns the word that tells this database from all others, and the time.
OPENED = "SELECT id, extract(epoch FROM clock_timestamp())::float8 FROM identity"
NOTIFY = "SELECT pg_notify('unstuck', %s)"
WRITE_MARK = """
    INSERT INTO pulse VALUES (1, extract(epoch FROM clock_timestamp()))
    ON CONFLICT (one) DO UPDATE SET at = excluded.at
"""
COPY_ITEMS = f"COPY items (job, {', '.join(ITEM_COLUMNS)}) FROM STDIN"
#: Insert entries of timelines (JSON list of objects). Entries about single items are numbered, for the limit.
INSERT_ENTRIES = f"""
    WITH entries AS MATERIALIZED (
        SELECT value, ordinality AS place, (value ->> 'job')::bigint AS job,
            count(value ->> 'idx') OVER (PARTITION BY value ->> 'job' ORDER BY ordinality) AS number
        FROM json_array_elements(%s::json) WITH ORDINALITY
    ), kept AS (
        SELECT job, count(*) AS number FROM timeline
        WHERE job IN (SELECT job FROM entries) AND idx IS NOT NULL GROUP BY job
    )
    INSERT INTO timeline (job, at, what, text, idx, attempt, worker)
    SELECT one.job, one.at, one.what, one.text, one.idx, one.attempt, one.worker
    FROM entries CROSS JOIN LATERAL json_populate_record(NULL::timeline, entries.value) AS one
    LEFT JOIN kept ON kept.job = entries.job
    WHERE one.idx IS NULL OR entries.number + coalesce(kept.number, 0) <= {ITEM_ENTRIES_KEPT}
    ORDER BY entries.place
"""

POSTGRES = Statements(
    parameter=lambda name: f"%({name})s",
    unindexed=lambda column: column,  # its planner knows how many rows each index has
    insert_job=(
        f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) VALUES ({', '.join(['%s'] * len(JOB_COLUMNS))}) RETURNING n"
    ),
    find_job=f"{_JOB} WHERE id = %s",
    job_by_number=f"{_JOB} WHERE n = %s",
    find_item=f"{_ITEM} WHERE job = %s AND idx = %s",
    delete_job=(
        "DELETE FROM items WHERE job = %s",
        "DELETE FROM timeline WHERE job = %s",
        "DELETE FROM deliveries WHERE job = %s",
        "DELETE FROM jobs WHERE n = %s",
    ),
    find_key="SELECT id, fingerprint FROM jobs WHERE submission_key = %s",
    set_key="UPDATE jobs SET submission_key = %s, fingerprint = %s WHERE n = %s",
    end_item=(
        "UPDATE items SET state = 'succeeded', progress = 1.0, lease_until = NULL, error = NULL, seq = %s, "
        "message = %s, result = %s, result_file = %s, started_at = %s, finished_at = %s "
        "WHERE job = %s AND idx = %s"
    ),
    cancel_waiting=(
        "UPDATE items SET state = 'cancelled', seq = %s, finished_at = %s "
        "WHERE job = %s AND state = 'pending' AND lease_until IS NULL"
    ),
    cancel_running=(
        "UPDATE items SET state = 'cancelled', seq = %s, finished_at = %s WHERE job = %s AND state = 'running'"
    ),
    succeed=(
        "UPDATE items SET state = 'succeeded', progress = 1.0, attempt = 1, seq = %(seq)s, "
        "started_at = coalesce(started_at, %(now)s), finished_at = %(now)s WHERE job = %(job)s AND idx IN "
        "(SELECT idx FROM items WHERE job = %(job)s AND state IN ('pending', 'running') "
        "ORDER BY state, idx LIMIT %(count)s)"
    ),
    candidates=f"""
        SELECT id, priority, leased, waiting, n FROM jobs
        WHERE waiting > 0 AND NOT external
        AND (%(kinds)s::jsonb IS NULL OR kind IN (SELECT jsonb_array_elements_text(%(kinds)s::jsonb))) AND (
            SELECT coalesce(not_before, %(now)s) FROM items
            WHERE job = jobs.n AND state = 'pending' AND lease_until IS NULL AND idx BETWEEN 0 AND {MOST}
            ORDER BY not_before NULLS FIRST LIMIT 1) <= %(now)s
        ORDER BY priority DESC, n LIMIT %(most)s
    """,
    claim_items=f"""
        UPDATE items SET lease = lease %% {MOST} + 1, attempt = attempt %% {MOST} + 1, lease_until = %(until)s,
            not_before = NULL, worker = %(worker)s
        WHERE job = %(job)s AND idx IN (
            SELECT idx FROM items WHERE job = %(job)s AND state = 'pending' AND lease_until IS NULL
            AND (not_before IS NULL OR not_before <= %(now)s) AND idx BETWEEN 0 AND {MOST}
            ORDER BY not_before NULLS FIRST, idx LIMIT %(limit)s)
        RETURNING {", ".join(ITEM_COLUMNS)}
    """,
    fresh_lease=(
        "SELECT 1 FROM items JOIN jobs ON jobs.n = items.job "
        "WHERE jobs.id = %s AND idx = %s AND lease = %s AND lease_until > %s"
    ),
    ended_leases=f"""
        SELECT jobs.id, items.idx, items.lease,
            %(all)s::boolean OR coalesce(items.worker = %(ended)s::text, false) AS forced
        FROM items JOIN jobs ON jobs.n = items.job
        WHERE items.lease_until IS NOT NULL
        AND (items.lease_until <= %(now)s OR %(all)s::boolean OR items.worker = %(ended)s::text)
        AND items.idx BETWEEN 0 AND {MOST}
        ORDER BY items.job, items.idx
    """,
    leases_of_job=(
        "SELECT idx, lease FROM items "
        f"WHERE job = %s AND lease_until IS NOT NULL AND idx BETWEEN 0 AND {MOST} ORDER BY idx"
    ),
    jobs_to_check="""
        SELECT id FROM jobs WHERE finished_at IS NULL AND (
            deadline_at <= %(now)s
            OR (state = 'queued'
                AND (created_at < %(expired)s OR (health = 'ok' AND created_at < %(waiting)s)))
            OR (external AND cancel_requested_at <= %(grace)s)
            OR (external AND coalesce(heartbeat_at, created_at)
                < %(now)s::float8 - coalesce(lost_after_s, %(lost_s)s::float8))
            OR (external AND counted AND NOT open_end AND state = 'running' AND waiting = 0
                AND heartbeat_at <= %(kept)s)
            OR (state = 'running' AND external AND (
                (progress_at < %(stalled)s AND health = 'ok')
                OR (heartbeat_at < %(silent)s AND health <> 'unresponsive')))
            OR (state = 'running' AND NOT external AND (
                (leased > 0 AND progress_at < %(stalled)s AND health = 'ok')
                OR (leased > 0 AND heartbeat_at < %(unresponsive)s AND health <> 'unresponsive')
                OR (leased = 0 AND heartbeat_at < %(waiting)s AND health = 'ok')
                OR (leased = 0 AND health IN ('stalled', 'unresponsive')))))
    """,
    insert_delivery="INSERT INTO deliveries (job, url, host, made_at, next_at) VALUES (%s, %s, %s, %s, %s)",
    # What another server takes at this moment is locked and skipped; what it has just taken is no longer due,
    # which PostgreSQL checks again on the locked row.
    due_deliveries="""
        WITH RECURSIVE hosts (host) AS (
            SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL
            UNION ALL
            SELECT (SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL AND host > hosts.host)
            FROM hosts WHERE hosts.host IS NOT NULL
        )
        SELECT due.job, jobs.id, due.url, due.host, due.attempts, due.made_at
        FROM hosts JOIN deliveries AS due ON due.job IN (
            SELECT job FROM deliveries WHERE host = hosts.host AND next_at <= %(now)s
            ORDER BY next_at, job LIMIT %(lanes)s)
        JOIN jobs ON jobs.n = due.job WHERE due.next_at <= %(now)s
        ORDER BY due.next_at, due.job FOR UPDATE OF due SKIP LOCKED
    """,
    take_delivery=(
        "UPDATE deliveries SET attempts = greatest(0, least(attempts, 999999)) + 1, next_at = %s WHERE job = %s"
    ),
    finish_delivery=(
        "UPDATE deliveries SET next_at = %s, trouble = %s WHERE job = %s AND attempts = %s AND next_at IS NOT NULL"
    ),
    next_delivery="SELECT min(next_at) FROM deliveries WHERE next_at > %s",
    deliveries_waiting=(
        "SELECT count(*) FILTER (WHERE trouble IS NULL), count(*) FILTER (WHERE trouble IS NOT NULL) "
        "FROM deliveries WHERE next_at IS NOT NULL"
    ),
    deliveries_given_up="SELECT count(*) FROM deliveries WHERE next_at IS NULL AND trouble IS NOT NULL",
    running_names="SELECT idx, name FROM items WHERE job = %s AND state = 'running' ORDER BY idx LIMIT %s",
    failed_items=f"{_ITEM} WHERE job = %s AND state = 'failed' ORDER BY idx LIMIT %s",
    running_items=f"{_ITEM} WHERE job = %s AND state = 'running' ORDER BY idx LIMIT %s",
    all_items=f"{_ITEM} WHERE job = %s ORDER BY idx LIMIT %s",
    indexes_of=(
        "SELECT name, idx FROM items "
        "WHERE job = %s AND name IN (SELECT jsonb_array_elements_text(%s::jsonb)) ORDER BY idx"
    ),
    timeline=(
        "SELECT at, what, text, timeline.idx, timeline.attempt, timeline.worker, items.name FROM timeline "
        "LEFT JOIN items ON items.job = timeline.job AND items.idx = timeline.idx "
        "WHERE timeline.job = %s ORDER BY n DESC LIMIT %s"
    ),
    select_jobs=_JOB,
    select_names="SELECT n, name FROM jobs",
    select_items=_ITEM,
    select_items_by_state=_ITEM,
    live_ids=(
        "SELECT id FROM jobs WHERE finished_at IS NULL "
        f"UNION ALL SELECT id FROM jobs WHERE state IN ({_ENDS}) AND finished_at > %s"
    ),
    seqs=(
        f"SELECT id, greatest(1, least(seq, {MOST})) FROM jobs "
        "WHERE id IN (SELECT jsonb_array_elements_text(%s::jsonb))"
    ),
    # No table counts the jobs: each change of a state would wait there for those of all other servers.
    unfinished="SELECT count(*) FROM jobs WHERE finished_at IS NULL",
    unfinished_of="SELECT count(*) FROM jobs WHERE finished_at IS NULL AND external = %s",
    key_known="SELECT 1 FROM jobs WHERE submission_key = %s",
    jobs_by_state="SELECT state, count(*) FROM jobs GROUP BY state",
    jobs_by_health="SELECT health, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY health",
    item_totals=(
        "SELECT coalesce(sum(waiting), 0)::float8, coalesce(sum(leased), 0)::float8 "
        "FROM jobs WHERE finished_at IS NULL AND NOT external"
    ),
    oldest_wait="SELECT min(coalesce(started_at, created_at)) FROM jobs WHERE waiting > 0 AND NOT external",
    waiting_by_kind="SELECT kind, count(*) FROM jobs WHERE waiting > 0 AND NOT external GROUP BY kind",
    add_removal="INSERT INTO removals VALUES (%s) ON CONFLICT DO NOTHING",
    removals="SELECT id FROM removals LIMIT %s",
    finish_removal="DELETE FROM removals WHERE id = %s",
)
