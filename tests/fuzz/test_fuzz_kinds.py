"""A few random tables and pictures, as tests/fuzz/kinds.py plays them for minutes."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.kinds import check_picture, check_table


def test_random_tables(tmp_path: Path) -> None:
    for seed in range(300):
        check_table(seed, tmp_path)


def test_random_pictures(tmp_path: Path) -> None:
    for seed in range(60):
        check_picture(seed, tmp_path)
