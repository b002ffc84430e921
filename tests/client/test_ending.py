"""How a job ends when the block that reports on it is left."""

from __future__ import annotations

import asyncio
import importlib

import pytest

from unstuck.client.ending import NEXT_ATTEMPT, end_of, leaves_to_next_attempt

#: Where the queues that the tests install keep their exceptions.
INSTALLED = {
    "arq": "arq.worker",
    "celery": "celery.exceptions",
    "dramatiq": "dramatiq.errors",
    "huey": "huey.exceptions",
}


def queue_exception(module: str, name: str) -> Exception:
    """Return an exception as a queue has it, or one derived from it in a user's code."""
    base = type(name, (Exception,), {"__module__": module})
    return type("Mine", (base,), {"__module__": "mine"})()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("celery.exceptions", "Retry"),
        ("procrastinate.exceptions", "JobRetry"),
        ("taskiq.exceptions", "NoResultError"),
    ],
)
def test_the_exception_of_a_queue_leaves_the_job_to_the_next_attempt(module: str, name: str) -> None:
    assert leaves_to_next_attempt(queue_exception(module, name), ())
    assert not leaves_to_next_attempt(queue_exception("mine", name), ())
    assert not leaves_to_next_attempt(queue_exception(module, "Failed"), ())


@pytest.mark.parametrize(("queue", "name"), sorted(one for one in NEXT_ATTEMPT if one[0] in INSTALLED))
def test_the_queues_have_these_exceptions(queue: str, name: str) -> None:
    kind = getattr(importlib.import_module(INSTALLED[queue]), name)
    error = kind.__new__(kind)  # what it is made with differs from queue to queue
    assert isinstance(error, BaseException)
    assert leaves_to_next_attempt(error, ())


def test_an_application_names_its_own() -> None:
    assert leaves_to_next_attempt(ConnectionResetError(), (LookupError, ConnectionError))
    assert not leaves_to_next_attempt(ValueError(), (LookupError, ConnectionError))


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (None, "completed", None),
        (ZeroDivisionError("no rows"), "failed", "ZeroDivisionError: no rows"),
        (KeyboardInterrupt(), "cancelled", None),
        (asyncio.CancelledError(), "cancelled", None),
        (GeneratorExit(), "cancelled", None),
        (SystemExit(), "cancelled", None),
        (SystemExit(0), "cancelled", None),
        (SystemExit(3), "failed", "The program ended: 3"),
        (SystemExit("no disk"), "failed", "The program ended: no disk"),
        (Unreadable(), "failed", "Unreadable: (its message cannot be read)"),
        (ValueError("\udcff"), "failed", "ValueError: ?"),
    ],
)
def test_ends(error: BaseException | None, state: str, message: str | None) -> None:
    ended, problem = end_of(error, cancel_requested=False)
    assert (ended, problem and problem["message"]) == (state, message)


def test_a_cancel_that_was_requested_is_one() -> None:
    assert end_of(None, cancel_requested=True) == ("cancelled", None)


def test_a_long_message_fits_on_the_wire() -> None:
    _, problem = end_of(ValueError("x" * 10_000), cancel_requested=False)
    assert problem is not None
    assert len(problem["message"]) <= 2_500
