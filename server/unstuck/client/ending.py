"""Decides how a job ends when the block that reports on it is left.

It must not know how that is sent, nor any task queue: their exceptions are known by name, without an import.
See also: reporter.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Exceptions by which a task queue leaves an attempt to come back later, by top package and class.
NEXT_ATTEMPT = {
    ("airflow", "AirflowRescheduleException"),
    ("airflow", "TaskDeferred"),
    ("arq", "Retry"),
    ("arq", "RetryJob"),
    ("celery", "Ignore"),
    ("celery", "Reject"),
    ("celery", "Retry"),
    ("distributed", "Reschedule"),
    ("dramatiq", "Retry"),
    ("huey", "RateLimitExceeded"),
    ("huey", "RetryTask"),
    ("huey", "TaskLockedException"),
    ("procrastinate", "JobRetry"),
    ("taskiq", "NoResultError"),
}
#: Longest message of an error on the wire, less the room for its type (characters).
LONGEST = 2_400


def leaves_to_next_attempt(error: BaseException, retry_on: Iterable[type[BaseException]]) -> bool:
    """Return whether the work is tried again after this exception, so that its job must go on."""
    names = {(one.__module__.partition(".")[0], one.__name__) for one in type(error).__mro__}
    return isinstance(error, tuple(retry_on)) or not names.isdisjoint(NEXT_ATTEMPT)


def end_of(error: BaseException | None, *, cancel_requested: bool) -> tuple[str, dict[str, Any] | None]:
    """Return the state in which the job ends, and its error.

    What stops the program or the task from outside (Ctrl-C, a cancelled task, a closed generator, sys.exit()) is a
    cancel; any other exception, and an exit with an error, is a failure.
    """
    if error is None:
        return ("cancelled" if cancel_requested else "completed"), None
    if isinstance(error, SystemExit) and error.code not in (None, 0):
        return "failed", {"code": "exception", "message": f"The program ended: {_text_of(error)}"}
    if not isinstance(error, Exception):
        return "cancelled", None
    return "failed", {"code": "exception", "message": f"{type(error).__name__}: {_text_of(error)}"}


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 – the message of a foreign exception runs foreign code
        return "(its message cannot be read)"
    return text[:LONGEST].encode("utf-8", "replace").decode()
