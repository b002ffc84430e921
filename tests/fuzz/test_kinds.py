"""A few random tables and pictures; `scripts/fuzz kinds` plays for as long as you like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.kinds import check_picture, check_table, play


def test_random_tables(tmp_path: Path) -> None:
    for seed in range(300):
        check_table(seed, tmp_path)


def test_random_pictures(tmp_path: Path) -> None:
    for seed in range(40):
        check_picture(seed, tmp_path)


def test_a_wrong_case_is_told_with_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.kinds.csv_profile", lambda *_, **__: {"rows": -1})
    wrongs = list(play(tmp_path / "some", seed=7, rounds=2))
    assert [wrong.partition(":")[0] for wrong in wrongs] == [
        "check_table of seed 7000",
        "check_table of seed 7001",
    ]
