"""When a job that is not done stops being `ok`: how long each kind of silence may last.

Pure. `health` is what decide.py writes into the job when time has passed; PROTOCOL.md section 2 says what
the words mean to a person.
"""

from __future__ import annotations

from unstuck.jobs.job import Health, HealthLimits, Job, State


def health(job: Job, now: float, limits: HealthLimits) -> Health:
    """Of a job that is not done, at `now`."""
    if job.state is State.QUEUED:
        return Health.WAITING_LONG if now - job.created_at > limits.waiting_long_s else Health.OK
    silent_s = now - (job.heartbeat_at or now)
    if job.external:
        if silent_s > limits.reporter_silent_s:
            return Health.UNRESPONSIVE
        return Health.STALLED if now - (job.progress_at or now) > limits.stalled_s else Health.OK
    if not job.leased:  # between two attempts, or between two workers: nobody is there who could be stalled
        return Health.WAITING_LONG if silent_s > limits.waiting_long_s else Health.OK
    if silent_s > limits.unresponsive_s:
        return Health.UNRESPONSIVE
    return Health.STALLED if now - (job.progress_at or now) > limits.stalled_s else Health.OK


def expired(job: Job, now: float, limits: HealthLimits) -> bool:
    """It waited in the queue for longer than it may."""
    return job.state is State.QUEUED and limits.expiry_s is not None and now - job.created_at > limits.expiry_s


def cancel_ignored(job: Job, now: float, limits: HealthLimits) -> bool:
    """Who works on it elsewhere was asked to stop, and had the time to say that he did."""
    asked_at = job.cancel_requested_at
    return job.external and asked_at is not None and now - asked_at >= limits.reporter_grace_s
