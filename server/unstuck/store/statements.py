"""The catalogue of SQL statements: each store has the same names, in the words of its own database.

It says which statements there are and which parameters they take: `(a, b)` positions, `{a, b}` names.
It must not know any database.
See also: sqlite_statements.py and postgres/statements.py (the catalogues), database.py (runs them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The statements of one database. A catalogue that lacks one does not pass the type check."""

    #: Return the placeholder of a named parameter, for the lists of listings.py.
    parameter: Callable[[str], str]
    #: Return a column that no index is to be chosen for.
    unindexed: Callable[[str], str]

    # jobs and items
    insert_job: str  #: the values of a job; returns n
    find_job: str  #: (id); returns n, JOB_COLUMNS
    job_by_number: str  #: (n); returns n, JOB_COLUMNS
    find_item: str  #: (job, idx); returns ITEM_COLUMNS
    delete_job: tuple[str, ...]  #: each (n)
    find_key: str  #: (key); returns id, fingerprint
    set_key: str  #: (key, fingerprint, n)
    #: (seq, message, result, result_file, started_at, finished_at, job, idx): an item that succeeded, whatever had
    #: changed before
    end_item: str
    cancel_waiting: str  #: (seq, now, job)
    cancel_running: str  #: (seq, now, job)
    succeed: str  #: {seq, now, job, count}

    # claims and leases
    candidates: str  #: {now, kinds, most}; returns id, priority, leased, waiting, n
    claim_items: str  #: {job, now, limit, until, worker}; returns the ITEM_COLUMNS of the items that it leased
    fresh_lease: str  #: (id, idx, lease, until)
    ended_leases: str  #: {now, ended, all}; returns id, idx, lease, and whether its server has ended, in order
    leases_of_job: str  #: (job); returns idx, lease
    jobs_to_check: str  #: {now, expired, waiting, stalled, unresponsive, silent, lost_s, kept, grace}; returns id

    # deliveries
    insert_delivery: str  #: (job, url, host, now, now)
    due_deliveries: str  #: {now, lanes}; returns job, id, url, host, attempts, made_at
    take_delivery: str  #: (next_at, job)
    finish_delivery: str  #: (next_at, trouble, job, attempts)
    next_delivery: str  #: (now)
    deliveries_waiting: str  #: returns the number without and with a failed attempt
    deliveries_given_up: str

    # one job and its items
    running_names: str  #: (job, limit); returns idx, name
    failed_items: str  #: (job, limit); returns ITEM_COLUMNS
    running_items: str  #: (job, limit); returns ITEM_COLUMNS
    all_items: str  #: (job, limit); returns ITEM_COLUMNS
    indexes_of: str  #: (job, JSON list of names); returns name, idx
    timeline: str  #: (job, limit), newest first

    # many jobs
    select_jobs: str  #: the beginning of a query; returns n, JOB_COLUMNS
    select_names: str  #: the beginning of a query; returns n, name
    select_items: str  #: the beginning of a query; returns ITEM_COLUMNS
    select_items_by_state: str  #: the same, for items in one state
    live_ids: str  #: (since)
    seqs: str  #: (JSON list of ids); returns id, seq
    unfinished: str
    unfinished_of: str  #: (external)
    key_known: str  #: (key)
    jobs_by_state: str
    jobs_by_health: str
    item_totals: str  #: returns waiting, leased
    oldest_wait: str
    waiting_by_kind: str

    # removals
    add_removal: str  #: (id)
    removals: str  #: (limit)
    finish_removal: str  #: (id)
