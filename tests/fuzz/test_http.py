"""Random requests leave nothing; `scripts/fuzz http` plays for as long as you like."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.http import play


def test_random_requests_leave_nothing(tmp_path: Path) -> None:
    assert list(play(tmp_path / "data", seed=1, rounds=5)) == []
