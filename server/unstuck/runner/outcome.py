"""Decides an item's final state and error, from what its worker said and what was requested.

Must not know: the store, processes, or the item's job. Pure functions.
See also: claimed_item.py (`end`), jobs/decide.py (whether a transient failure gets another attempt).

    requested              the worker says "cancelled"            the worker dies
    stop (time limit)      failed: time_limit_exceeded            failed: time_limit_exceeded
    stop (its job stops)   cancelled                              cancelled: "Stopped by force."
    nothing                failed: exception                      failed: worker_lost, transient

Any other outcome is as the worker says: code that finished although it was asked to stop has finished.
"""

from __future__ import annotations

from collections.abc import Mapping

from unstuck.jobs.job import ItemState, JobError
from unstuck.runner import protocol
from unstuck.runner.claimed_item import ClaimedItem, Outcome

#: ItemState(value) would take 0.7 µs.
_STATES: Mapping[str, ItemState] = {state: state for state in ItemState}


def of_done(item: ClaimedItem, done: protocol.Done) -> Outcome:
    """Return the outcome of an item whose worker has sent `done`."""
    if done.state == "cancelled":
        if item.exceeded_limit_s is not None:
            return _time_limit_exceeded(item.exceeded_limit_s)
        if not item.stopped:
            message = "The work raised Cancelled although it was not asked to stop."
            return Outcome(ItemState.FAILED, JobError("exception", message))
    failure = done.error
    error = None if failure is None else JobError(failure.code, failure.message, failure.transient)
    return Outcome(_STATES[done.state], error, done.message, done.result, done.file)


def of_death(item: ClaimedItem, why: str) -> Outcome:
    """Return the outcome of an item whose worker process died while working on it."""
    if item.exceeded_limit_s is not None:
        return _time_limit_exceeded(item.exceeded_limit_s)
    if item.stopped:
        return Outcome(ItemState.CANCELLED, message="Stopped by force.")
    return Outcome(ItemState.FAILED, JobError("worker_lost", why, transient=True))


def result_not_kept(why: Exception) -> Outcome:
    """Return the outcome of an item whose result file could not be made durable."""
    message = f"The result file could not be kept: {why}"
    return Outcome(ItemState.FAILED, JobError("result_not_kept", message, transient=True))


def _time_limit_exceeded(limit_s: float) -> Outcome:
    message = f"The work on this item took longer than its limit of {limit_s:g} s."
    return Outcome(ItemState.FAILED, JobError("time_limit_exceeded", message))
