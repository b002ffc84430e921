"""A short play of the random rows; `scripts/fuzz rows` plays for as long as you like."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.rows import play


def test_no_stored_row_takes_a_view_down(tmp_path: Path) -> None:
    assert list(play(tmp_path / "data", seed=9, rounds=5)) == []
