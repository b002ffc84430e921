"""A short play of random clicks; `scripts/fuzz clicks` plays for as long as you like."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.clicks import play


def test_random_clicks_neither_break_the_page_nor_storm_the_server(tmp_path: Path) -> None:
    assert list(play(tmp_path / "data", seed=3, rounds=4)) == []
