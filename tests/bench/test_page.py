"""Test the page with a large job, briefly; a busy machine makes any task long, so only CPU time counts."""

from __future__ import annotations

import pytest

from tests.bench.page import play

pytestmark = [pytest.mark.browser, pytest.mark.alone]
#: Three frames of work on the main thread (milliseconds).
LONG_MS = 50.0


def test_ten_thousand_files_neither_block_the_page_nor_fill_its_memory() -> None:
    found = play(minutes=0.2)
    for scene in ("dialog", "list"):
        tasks, before, after = (found[scene][name] for name in ("tasks", "before", "after"))
        assert tasks["busy_ms"] > 0, "the trace has the main thread"
        assert tasks["over_50"] == 0, (scene, tasks)
        assert after["nodes"] < min(2 * before["nodes"], 5_000), (scene, before, after)
        assert after["heap_bytes"] < 1.3 * before["heap_bytes"], (scene, before, after)
        assert after["listeners"] < 2 * before["listeners"], (scene, before, after)
    for step, tasks in found["choose"].items():
        assert 0 < tasks["longest_call_ms"] < LONG_MS, (step, tasks)
