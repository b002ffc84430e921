"""Test that the judge notices every kind of violation; a suite with a blind judge proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.judge import Screen, Silence, time_to_truth, violations

NAME = "Fähre 🚢"
JOB = {
    "name": NAME,
    "state": "completed_with_errors",
    "seq": 9,
    "progress": {"total": 4, "succeeded": 3, "failed": 1, "percent": 100.0},
}
START = Screen(10.0, 1, None, "", "Waiting", (), "Connecting …")
HALF = Screen(11.0, 5, 50.0, "", "Running", ("2", "0", "2"), "Live")
END = Screen(
    13.0, 9, 100.0, "3 of 4 files are done; 1 failed. It took 3 s.", "Done with errors", ("3", "1"), "", NAME
)


def test_a_correct_dialog_has_no_violations() -> None:
    assert violations([START, HALF, END], JOB) == []
    assert violations([END], JOB) == []


@pytest.mark.parametrize(
    ("screens", "word"),
    [
        ([HALF, replace(HALF, bar=49.9), END], "went backwards"),
        ([START, HALF], "never shown"),
        ([END, HALF], "after the end"),
        ([END, replace(END, counts=("4", "0"))], "after the end"),
        ([replace(END, sentence="All 4 files are done.")], "sentence"),
        ([replace(END, badge="Done")], "state"),
        ([replace(END, counts=("4", "0"))], "counts"),
        ([replace(END, bar=75.0)], "bar"),
        ([replace(END, seq=8)], "seq"),
        ([replace(END, name="FÃ¤hre")], "name"),
    ],
)
def test_each_violation_is_reported(screens: list[Screen], word: str) -> None:
    assert word in " ".join(violations(screens, JOB))


SILENCE = Silence(11.5, 12.5)
LOST = replace(HALF, at=11.2, badge="No contact · 2 s", link="No response from the server; trying again.")


def test_a_badge_that_says_running_without_contact_is_misleading() -> None:
    assert violations([HALF, LOST, END], JOB, [SILENCE]) == []
    assert violations([HALF, END], JOB, [Silence(12.5, 11.5)]) == [], "it ended before it had to be told"
    assert violations([HALF, replace(HALF, at=12.5), END], JOB, [Silence(12.6, 12.9)]) != []
    for screens in ([HALF, END], [START, replace(HALF, at=12.0), END], [HALF, replace(LOST, at=11.8), END]):
        assert "without contact it said" in " ".join(map(str, violations(screens, JOB, [SILENCE])))
    for badge in ("Running", "Waiting", "Cancelling…"):
        assert "without contact" in " ".join(map(str, violations([HALF, replace(LOST, badge=badge), END], JOB)))


@pytest.mark.parametrize(
    ("healed_at", "seq", "finished_at", "seconds"),
    [
        (12.0, 9, 11.5, 1.0),  # ended during the fault: from recovery to the end on the screen
        (10.5, 5, 12.8, 0.5),  # ended later: the catch-up took longer than the end
        (10.5, 1, 12.0, 1.0),  # … and here the end took longer
        (20.0, 9, 13.0, 0.0),  # the screen was true already
    ],
)
def test_time_to_truth(healed_at: float, seq: int, finished_at: float, seconds: float) -> None:
    assert time_to_truth([START, HALF, END], healed_at, seq, finished_at) == pytest.approx(seconds)
    assert time_to_truth([START, HALF], healed_at, seq, finished_at) is None
