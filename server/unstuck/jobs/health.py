"""The health of an unfinished job: how long each kind of silence may last before it is no longer `ok`.

It must not know clocks or stores; decide.py writes the health that it finds into the job.
See also: PROTOCOL.md section 2 (what each word means to a person), job.HealthLimits (the limits).
"""

from __future__ import annotations

from unstuck.jobs.job import Health, HealthLimits, Job, State


def health(job: Job, now: float, limits: HealthLimits) -> Health:
    """Return the health of an unfinished job at `now`."""
    if job.state is State.QUEUED:
        return Health.WAITING_LONG if now - job.created_at > limits.waiting_long_s else Health.OK
    silent_s = now - (job.heartbeat_at or now)
    if job.external:
        if silent_s > limits.reporter_silent_s:
            return Health.UNRESPONSIVE
        return Health.STALLED if now - (job.progress_at or now) > limits.stalled_s else Health.OK
    if not job.leased:  # between two attempts or two workers: no worker holds it, so it cannot be stalled
        return Health.WAITING_LONG if silent_s > limits.waiting_long_s else Health.OK
    if silent_s > limits.unresponsive_s:
        return Health.UNRESPONSIVE
    return Health.STALLED if now - (job.progress_at or now) > limits.stalled_s else Health.OK


def expired(job: Job, now: float, limits: HealthLimits) -> bool:
    """Return whether the job has been queued for longer than allowed."""
    return job.state is State.QUEUED and limits.expiry_s is not None and now - job.created_at > limits.expiry_s


def reporter_lost(job: Job, now: float, limits: HealthLimits) -> bool:
    """Return whether external work had no report for so long that its reporter will not come back."""
    limit_s = lost_after_s(job, limits)
    if not job.external or limit_s is None or counted_out(job):
        return False
    return min(now - (job.heartbeat_at or job.created_at), limits.listening_s) > limit_s


def lost_after_s(job: Job, limits: HealthLimits) -> float | None:
    """Return how long external work may be silent before it fails (seconds), or None: for ever."""
    return limits.reporter_lost_s if job.lost_after_s is None else job.lost_after_s


def counted_out(job: Job) -> bool:
    """Return whether all that was reported of the job's total is done, although the total may still be raised."""
    return job.state is State.RUNNING and job.counted and not job.open_end and not job.waiting


def total_kept(job: Job, now: float, limits: HealthLimits) -> bool:
    """Return whether a total that is reached was not raised in time, so that the job is done."""
    late = now - (job.heartbeat_at or job.created_at) >= limits.total_grace_s
    return counted_out(job) and (late or (job.deadline_at is not None and now >= job.deadline_at))


def cancel_ignored(job: Job, now: float, limits: HealthLimits) -> bool:
    """Return whether the reporter of external work was asked to stop and did not confirm in time."""
    asked_at = job.cancel_requested_at
    return job.external and asked_at is not None and now - asked_at >= limits.reporter_grace_s
