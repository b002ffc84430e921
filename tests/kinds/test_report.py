"""A report is passed on at limited intervals, and raises after a stop."""

from __future__ import annotations

import copy
import os
import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.clock import Clock
from unstuck import Cancelled, Report


class Reported(list[tuple[float | None, str | None]]):
    def __call__(self, fraction: float | None, message: str | None) -> None:
        self.append((fraction, message))


@pytest.fixture
def received() -> Reported:
    return Reported()


@pytest.fixture
def report(received: Reported, clock: Clock) -> Report:
    return Report("a.csv", Path("/nowhere"), send=received, clock=clock)


def test_the_first_report_is_passed_on_at_once(report: Report, received: Reported) -> None:
    report(1, 4, "reading")
    assert received == [(0.25, "reading")]


def test_an_early_report_is_kept_and_passed_on_later(report: Report, received: Reported, clock: Clock) -> None:
    report(0.1)
    report(0.2, message="uploading")
    report(0.3)
    report.pass_on()
    assert received == [(0.1, None)]
    clock.now += 0.11
    report.pass_on()
    report.pass_on()
    assert received == [(0.1, None), (0.3, "uploading")]


def test_a_report_after_a_while_is_passed_on_at_once(report: Report, received: Reported, clock: Clock) -> None:
    report(0.1)
    clock.now += 0.11
    report(0.2)
    assert received == [(0.1, None), (0.2, None)]


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (0, None, 0.0),
        (1, None, 1.0),
        (5, 10, 0.5),
        (11, 10, 1.0),
        (-1, 10, 0.0),
        (0, 0, 0.0),
        (float("nan"), None, None),
        (float("inf"), None, 1.0),
        (None, None, None),
        (Decimal("0.5"), None, 0.5),
        (10**400, 10**400, 1.0),
    ],
)
def test_fractions(
    report: Report, received: Reported, done: float, total: float | None, fraction: float | None
) -> None:
    report(done, total)
    assert received == [(fraction, None)]
    assert type(received[0][0]) in (float, type(None))


@pytest.mark.parametrize("done", ["1", [], object()])
def test_a_fraction_that_is_not_a_number_raises(report: Report, done: float) -> None:
    with pytest.raises(TypeError):
        report(done)


def test_every_report_raises_after_a_stop(report: Report, received: Reported) -> None:
    report.cancel()
    assert report.cancelled
    for _ in range(2):
        with pytest.raises(Cancelled):
            report(0.5)
    assert received == []


def test_except_exception_does_not_catch_a_stop() -> None:
    assert not issubclass(Cancelled, Exception)


def test_a_closed_report_is_silent_and_stops_its_caller(report: Report, received: Reported, clock: Clock) -> None:
    report(0.1)
    report(0.2)
    report.close()
    clock.now += 1
    report.pass_on()
    with pytest.raises(Cancelled):
        report(0.3)
    assert received == [(0.1, None)]


def test_without_a_receiver_the_report_keeps_its_values(tmp_path: Path) -> None:
    report = Report("a.csv", tmp_path)
    report(1, 2, "half")
    assert (report.fraction, report.message, report.attempt, report.cancelled) == (0.5, "half", 1, False)


def test_one_report_is_passed_on_per_interval(report: Report, received: Reported, clock: Clock) -> None:
    for tenth in range(3):
        clock.now = 2_000_000.0 + 0.11 * tenth
        for done in range(10_000):
            report(done, 10_000)
    assert received == [(0.0, None)] * 3


@pytest.mark.parametrize("due", [True, False], ids=["due", "kept"])
def test_a_forked_child_is_told_that_it_cannot_report(due: bool, report: Report, received: Reported) -> None:
    if not due:
        report(0.1)  # the next one would wait for its turn
    child = os.fork()
    if child == 0:
        try:
            report(0.5)
        except RuntimeError as error:
            os._exit(7 if "call report() there" in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    report(0.5)
    assert received == [(0.1 if not due else 0.5, None)]


def test_a_forked_child_does_not_wait_for_a_cancel_that_cannot_reach_it(report: Report) -> None:
    child = os.fork()
    if child == 0:
        try:
            os._exit(8 if report.cancelled else 6)
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(9)
    report.cancel()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert report.cancelled


def test_a_report_that_is_passed_to_another_process_says_what_to_do(report: Report) -> None:
    for pack in (pickle.dumps, copy.copy):
        with pytest.raises(RuntimeError, match="Return the result to that process"):
            pack(report)
