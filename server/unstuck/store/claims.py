"""Finds the items to claim, fairly between jobs, and the items and jobs that the passing of time affects.

Runs inside a transaction of the one writer. It must not know how a claim, a lapse or a health check changes a job.
See also: jobs/decide.py (decides that), transaction.py (applies it).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from unstuck.errors import ExternalJob, JobFinished, UnstuckError
from unstuck.jobs.job import CheckHealth, HealthLimits, Job, Lapse, Renew
from unstuck.jobs.timeline import Entry, What
from unstuck.store.database import Connection
from unstuck.store.protocol import NO_BATCHES, Outcome, SweepResult, WorkItem
from unstuck.store.transaction import Transaction

#: Why an item is taken from its runner: the error of the lost attempt, for people.
LEASE_RAN_OUT = "The worker on this item gave no sign of life for too long."
SERVER_ENDED = "The server stopped while this item was running."


def claim(
    transaction: Transaction,
    limit: int,
    lease_s: float,
    worker: str | None,
    short: Mapping[str, int] = NO_BATCHES,
    kinds: Collection[str] | None = None,
) -> list[WorkItem]:
    """Claim up to `limit` items, shared between jobs by `_share`; see WorkQueue.claim."""
    transaction.flush()
    claimed: list[WorkItem] = []
    candidates = _candidates(transaction.connection, transaction.now, limit, kinds)
    while shares := _share(candidates, limit - len(claimed)):
        refused = False
        for job_id, count in shares.items():
            try:
                _, job = transaction.job(job_id)
                taken = transaction.claim(job_id, max(count, short.get(job_id, 0)), lease_s, worker)
            except UnstuckError:  # its row is damaged
                refused = True
                continue
            claimed += [WorkItem(job_id, job.kind, job.options, item, job.item_limit_s) for item in taken]
        if not refused:
            break
        # What was meant for these jobs goes to the others.
        candidates = [one for one in candidates if one[0] not in shares]
    return claimed


def shares(connection: Connection, now: float, limit: int, kinds: Collection[str] | None) -> Collection[str]:
    """Return the ids of the jobs that `claim` would take items of."""
    return _share(_candidates(connection, now, limit, kinds), limit).keys()


def _candidates(
    connection: Connection, now: float, limit: int, kinds: Collection[str] | None
) -> list[tuple[str, int, int, int, int]]:
    """Return jobs with an item that may be claimed now, which excludes items that pause before an attempt."""
    known = None if kinds is None else msgspec.json.encode(sorted(kinds)).decode()
    values = {"now": now, "most": max(limit, 1) * 64, "kinds": known}
    return connection.execute(connection.statements.candidates, values).fetchall()


def _share(candidates: list[tuple[str, int, int, int, int]], limit: int) -> dict[str, int]:
    """Return how many items to claim of each job: highest priority first, then fewest leased, then oldest."""
    heap = [(-priority, leased, n, waiting, job_id) for job_id, priority, leased, waiting, n in candidates]
    heapq.heapify(heap)
    shares: dict[str, int] = {}
    while heap and limit > 0:
        priority, leased, n, waiting, job_id = heapq.heappop(heap)
        shares[job_id] = shares.get(job_id, 0) + 1
        limit -= 1
        if waiting > 1:
            heapq.heappush(heap, (priority, leased + 1, n, waiting - 1, job_id))
    return shares


def rescue(transaction: Transaction, job_id: str, why: str) -> int:
    """Take every leased item of the job from its worker; return how many there were."""
    job_n, job = transaction.job(job_id)
    if job.done:
        raise JobFinished(job_id, job.state)
    if job.external:
        raise ExternalJob(job_id)
    transaction.flush()
    held = transaction.connection.execute(transaction.connection.statements.leases_of_job, (job_n,)).fetchall()
    if held:
        transaction.add_entry(job_n, Entry(transaction.now, What.RESCUED, why))
    for index, lease in held:
        transaction.apply(Lapse(job_id, index, lease, why, forced=True))
    return len(held)


def _renew(transaction: Transaction, one: Renew) -> Outcome:
    """Renew a lease. Write it only after a third of the lease has passed: renewals come every second."""
    until = transaction.now + one.lease_s * 2 / 3
    values = (one.job_id, one.index, one.lease, until)
    fresh = transaction.connection.execute(transaction.connection.statements.fresh_lease, values).fetchone()
    return transaction.try_apply(one) if fresh is None else transaction.job(one.job_id)[1]


def sweep(
    transaction: Transaction,
    limits: HealthLimits,
    held: Sequence[Renew],
    *,
    ended: str | None = None,
    alone: bool = True,
) -> SweepResult:
    """Renew the leases `held`, end the expired ones, then check jobs that time affects.

    With `ended`, the leases in that name end too, and all others if the server is `alone`.
    """
    transaction.flush()
    renewed = [_renew(transaction, one) for one in held]
    transaction.flush()
    connection, now = transaction.connection, transaction.now
    lapsed = []
    for job_id, index, lease, forced in _ended_leases(connection, now, ended, alone=alone):
        why = SERVER_ENDED if forced else LEASE_RAN_OUT
        if isinstance(transaction.try_apply(Lapse(job_id, index, lease, why, forced=bool(forced))), Job):
            lapsed.append((job_id, index, lease))
    transaction.flush()
    for job_id in _to_check(connection, now, limits):
        transaction.try_apply(CheckHealth(job_id, limits))
    return SweepResult(renewed, lapsed)


def affected(
    connection: Connection, now: float, limits: HealthLimits, *, ended: str | None, alone: bool
) -> Iterable[str]:
    """Return the ids of the jobs that `sweep` would change for the time that has passed."""
    leases = _ended_leases(connection, now, ended, alone=alone)
    return {*(row[0] for row in leases), *_to_check(connection, now, limits)}


def _ended_leases(
    connection: Connection, now: float, ended: str | None, *, alone: bool
) -> list[tuple[str, int, int, int]]:
    """Return job, index and number of leases that have expired, or (the last column) whose server has ended."""
    values = {"now": now, "ended": ended, "all": alone and ended is not None}
    return connection.execute(connection.statements.ended_leases, values).fetchall()


def _to_check(connection: Connection, now: float, limits: HealthLimits) -> list[str]:
    """Return the ids of jobs that `decide` might change: a limit has passed, or their health may differ."""
    times = {
        "now": now,
        "expired": -1.0 if limits.expiry_s is None else now - limits.expiry_s,
        "waiting": now - limits.waiting_long_s,
        "stalled": now - limits.stalled_s,
        "unresponsive": now - limits.unresponsive_s,
        "silent": now - limits.reporter_silent_s,
        "lost_s": limits.reporter_lost_s,
        "kept": now - limits.total_grace_s,
        "grace": now - limits.reporter_grace_s,
    }
    return [row[0] for row in connection.execute(connection.statements.jobs_to_check, times)]
