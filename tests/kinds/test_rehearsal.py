"""A rehearsal is reproducible, and fails as often as its options say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unstuck import Cancelled, Failed, Report, Skip
from unstuck.kinds.rehearsal import rehearsal


def outcome(tmp_path: Path, name: str, **options: Any) -> str:
    try:
        rehearsal(None, Report(name, tmp_path), seconds=0, **options)
    except (Failed, Skip) as ended:
        return type(ended).__name__
    return "succeeded"


def outcomes(tmp_path: Path, **options: float) -> list[str]:
    return [outcome(tmp_path, f"item {index}", **options) for index in range(400)]


def test_a_seed_makes_a_rehearsal_reproducible(tmp_path: Path) -> None:
    first = outcomes(tmp_path, failures=0.3, skips=0.1, seed=7)
    assert first == outcomes(tmp_path, failures=0.3, skips=0.1, seed=7)
    assert first != outcomes(tmp_path, failures=0.3, skips=0.1, seed=8)


def test_failures_and_skips_occur_at_the_given_rates(tmp_path: Path) -> None:
    seen = outcomes(tmp_path, failures=0.3, skips=0.1)
    assert 80 < seen.count("Failed") < 160
    assert 15 < seen.count("Skip") < 70
    assert set(outcomes(tmp_path)) == {"succeeded"}
    assert set(outcomes(tmp_path, failures=1)) == {"Failed"}
    assert set(outcomes(tmp_path, skips=1)) == {"Skip"}


def test_progress_is_reported(tmp_path: Path) -> None:
    report = Report("a", tmp_path)
    assert rehearsal(None, report, seconds=0.12) == {"seconds": 0.12}
    assert report.fraction == 1


def test_it_stops(tmp_path: Path) -> None:
    report = Report("a", tmp_path)
    report.cancel()
    with pytest.raises(Cancelled):
        rehearsal(None, report, seconds=600)
