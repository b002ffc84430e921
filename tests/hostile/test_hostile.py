"""A sample of the hostile kinds, one of each sort; `scripts/hostile` plays all of them."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.run import play_all
from tests.hostile.table import END_OF

SAMPLE = (
    "returns_980_levels",
    "forges_a_file_with_nul",
    "makes_a_thousand_nested_folders",
    "skips_without_words",
    "dies_of_a_real_time_signal",
    "becomes_another_program",
    "opens_descriptors_without_end",
    "writes_deep_json",
    "writes_messages_without_end",
    "forges_a_deep_result",
    "forbids_writing",
    "sets_an_alarm",
)


def test_hostile_kinds_cost_their_own_items_only(tmp_path: Path) -> None:
    rows, troubles = play_all(SAMPLE, tmp_path / "data")
    assert [row for row in rows if not row.alone] == []
    assert troubles == []


def test_there_are_many() -> None:
    assert len(END_OF) >= 60
