"""Test short measurements: they run, and each figure is in proportion to its yardstick from the same run."""

from __future__ import annotations

import pytest

from tests.bench import batch, durable, large, reporting

pytestmark = pytest.mark.alone


def test_durable_results_beside_bare_sqlite() -> None:
    found = durable.measure(rounds=3, scale=0.1)
    # A third is usual for one job, a fifth for a hundred; rewriting whole rows came to a tenth and a twentieth.
    assert found["results_of_1_jobs_share_of_bare"] > 0.1
    assert found["reports_of_100_jobs_share_of_bare"] > 0.05


def test_a_report_beside_an_empty_loop_and_tqdm() -> None:
    found = reporting.measure(rounds=5, scale=0.1)
    assert found["report_ns"] > 0
    assert found.get("over_tqdm", 0.0) < 10


def test_a_batch_beside_a_pool() -> None:
    found = batch.measure(rounds=1, scale=0.02)
    assert found["over_pool_imap"] > 0
    # Start and end cost a few commits in any case; in between it is not slower than sha256sum.
    assert found["over_sha256sum"] < 20


async def test_a_large_history_beside_a_small_one() -> None:
    found = await large.compared(finished=200, rounds=1)
    assert {"status", "live", "claim", "sweep"} <= set(found)
    assert all(times["small_ms"] > 0 for times in found.values())
