"""Makes the public job object that every viewer, poller and webhook receives.

The status endpoint and the stream call the same function, so they can never disagree. It must not know the store
or HTTP: the job, the time and the mount prefix are arguments.
See also: ../wire/job.py (the fields), PROTOCOL.md section 2 (what they mean).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

import msgspec
from msgspec import UNSET

from unstuck import wire
from unstuck.jobs import rate
from unstuck.jobs.job import MOST, Item, ItemState, Job, State

#: How many failed items, and how many running ones, the job object names.
ITEM_ERRORS_SHOWN = 20
CURRENT_SHOWN = 8
#: Running items that a snapshot holds, so that it can name the next one when one of those named ends.
RUNNING_KNOWN = 64
#: The first and the last time that is written: a day within the years 1 and 9999, for any zone (epoch seconds).
FIRST_TIME, LAST_TIME = -62_135_510_400.0, 253_402_214_400.0
#: How long a polling client should wait (milliseconds): running work changes sooner than a queue.
_POLL_MS = {State.RUNNING: 2_000, State.QUEUED: 5_000}


class Snapshot(msgspec.Struct, frozen=True):
    """A job at one instant, with the index and name of its first running items, and its first failed items."""

    job: Job
    running: Sequence[tuple[int, str]] = ()
    item_errors: Sequence[Item] = ()


def next_snapshot(before: Snapshot, job: Job, moved: Iterable[Item]) -> Snapshot | None:
    """Return the snapshot that follows `before`, or None if it has to be read.

    `job` is the job as it is now, and `moved` are the items that entered or left the states shown. The snapshot
    has to be read if RUNNING_KNOWN items or more ran and one of those ended: the next in order was not loaded.
    """
    running, more = dict(before.running), len(before.running) >= RUNNING_KNOWN
    failed = {item.index: item for item in before.item_errors}
    for item in moved:
        if item.state is ItemState.RUNNING:
            running[item.index] = item.name
        elif running.pop(item.index, None) is not None and more:
            return None
        if item.state is ItemState.FAILED:
            failed[item.index] = item
    first = tuple(sorted(running.items())[:RUNNING_KNOWN])
    return Snapshot(job, first, tuple(failed[index] for index in sorted(failed)[:ITEM_ERRORS_SHOWN]))


def etag(snapshot: Snapshot) -> str:
    """Return the ETag, a weak one: `server_time` and the ETA change while nothing happens."""
    return f'W/"{snapshot.job.seq}"'


def public(snapshot: Snapshot, now: float, base: str, keep_s: float | None = None, poll_ms: int = 0) -> wire.Job:
    """Return the job object.

    `now` is in epoch seconds, `base` is the mount prefix without a trailing slash, `keep_s` is how long finished
    jobs are kept (seconds; None: for ever), and `poll_ms` is the least pause between polls (milliseconds).
    """
    job, done = snapshot.job, snapshot.job.done
    return wire.Job(
        id=job.id,
        seq=job.seq,
        kind=job.kind,
        name=job.name,
        unit=UNSET if job.unit is None else job.unit,
        units=UNSET if job.units is None else job.units,
        state=job.state,
        done=done,
        cancel_requested=job.cancel_requested,
        cancel_requested_at=rfc3339(job.cancel_requested_at),
        health=None if done else job.health,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        priority=job.priority,
        external=job.external,
        lost_after_s=UNSET if job.lost_after_s is None else job.lost_after_s,
        progress=_progress(snapshot, now, done),
        error=job.error,
        item_errors=[_item_error(item) for item in snapshot.item_errors[:ITEM_ERRORS_SHOWN]],
        retry_of=job.retry_of,
        created_at=rfc3339(job.created_at),
        started_at=rfc3339(job.started_at),
        progress_at=rfc3339(job.progress_at),
        heartbeat_at=rfc3339(job.heartbeat_at),
        finished_at=rfc3339(job.finished_at),
        deadline_at=rfc3339(job.deadline_at),
        expires_at=None if job.finished_at is None or keep_s is None else rfc3339(job.finished_at + keep_s),
        server_time=rfc3339(now),
        poll_after_ms=None if done else max(_POLL_MS[job.state], poll_ms),
        links=_links(job.id, base, done),
    )


def only_progress(shown: wire.Job) -> wire.Job | wire.JobProgress:
    """Return what a progress bar needs of a job object: a quarter of its bytes, and all of it once it is done."""
    if shown.done:
        return shown
    progress = shown.progress
    return wire.JobProgress(
        id=shown.id,
        seq=shown.seq,
        state=shown.state,
        done=shown.done,
        cancel_requested=shown.cancel_requested,
        health=shown.health,
        progress=wire.BarProgress(
            total=progress.total,
            processed=progress.processed,
            succeeded=progress.succeeded,
            failed=progress.failed,
            skipped=progress.skipped,
            percent=progress.percent,
            rate_per_second=progress.rate_per_second,
            eta_seconds=progress.eta_seconds,
        ),
        poll_after_ms=shown.poll_after_ms,
    )


def public_item(item: Item, job_id: str, base: str) -> wire.Item:
    """Return the item object; it has `links.result` only if there is a file to download."""
    result = f"{base}/api/jobs/{job_id}/items/{item.index}/result"
    return wire.Item(
        index=item.index,
        name=item.name,
        state=item.state,
        seq=item.seq,
        size=item.size,
        progress=item.progress,
        message=item.message,
        error=item.error,
        result=item.result,
        attempt=item.attempt,
        worker=item.worker,
        lease_until=rfc3339(item.lease_until),
        started_at=rfc3339(item.started_at),
        finished_at=rfc3339(item.finished_at),
        links=UNSET if item.result_file is None else wire.ItemLinks(result=result),
    )


@overload
def rfc3339(at: float) -> str: ...
@overload
def rfc3339(at: None) -> None: ...
def rfc3339(at: float | None) -> str | None:
    """Return epoch seconds as `2026-11-22T00:18:09.123Z`; a time beyond the calendar as its first or last day."""
    if at is None:
        return None
    if not FIRST_TIME <= at <= LAST_TIME:
        at = FIRST_TIME if at < FIRST_TIME else LAST_TIME
    second = math.floor(at)
    micro = round((at - second) * 1e6)  # as datetime rounds
    if micro == 1_000_000:
        second, micro = second + 1, 0
    return f"{_second(second)}{micro // 1000:03}Z"


@lru_cache(maxsize=1024)
def _second(at: int) -> str:
    # Most times were formatted before, for this job or for another one in the same second.
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}."


def _progress(snapshot: Snapshot, now: float, over: bool) -> wire.Progress:
    job = snapshot.job
    # A finished job shows its average rate, a running one its current rate.
    until = now if job.finished_at is None else job.finished_at
    elapsed = max(until - job.started_at, 0.0) if job.started_at is not None else 0.0
    done = job.processed + job.partial
    if over:
        speed = rate.average(job.processed, elapsed)
        eta = None
    else:
        speed = rate.rate(job.meter, now)
        eta = rate.eta_seconds(job.meter, done=done, total=job.known_total, elapsed_s=elapsed, now=now)
    return wire.Progress(
        total=job.known_total,
        processed=min(job.processed, MOST),
        succeeded=job.succeeded,
        failed=job.failed,
        skipped=job.skipped,
        percent=job.percent,
        rate_per_second=None if speed is None else round(speed, 3),
        eta_seconds=None if job.stopping else eta,
        stage=job.stage,
        message=job.message,
        current=[name for _, name in snapshot.running[:CURRENT_SHOWN]],
    )


def _item_error(item: Item) -> wire.ItemError:
    code, message = (item.error.code, item.error.message) if item.error else ("failed", item.message)
    return wire.ItemError(index=item.index, name=item.name, code=code, message=message)


def _links(job_id: str, base: str, done: bool) -> wire.Links:
    here = f"{base}/api/jobs/{job_id}"
    return wire.Links(
        self=here,
        events=f"{here}/events",
        items=f"{here}/items",
        timeline=f"{here}/timeline",
        cancel=f"{here}/cancel",
        retry=f"{here}/retry" if done else None,
        results=f"{here}/results" if done else None,
    )
