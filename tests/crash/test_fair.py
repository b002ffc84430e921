"""Test that a small job submitted after a huge one does not wait for it."""

from __future__ import annotations

import time

import pytest

from tests.support.server import Server, StartServer

#: How many times longer a small job may take behind a huge one, and the items of the huge one.
AT_MOST, HUGE = 3.0, 10_000
ITEM_S = 0.4


@pytest.mark.parametrize("workers", ["2", "4"])
def test_three_files_behind_ten_thousand(start_server: StartServer, workers: str) -> None:
    server = start_server("--workers", workers)
    alone = min(took(server) for _ in range(2))
    huge = server.submit("rehearsal", total=HUGE, options={"seconds": ITEM_S})
    server.until(huge["id"], lambda job: job["progress"]["processed"] >= 2)
    behind = sorted(took(server) for _ in range(3))
    assert behind[1] < AT_MOST * alone, f"{behind} s, and {alone:.2f} s alone"
    assert not server.job(huge["id"])["done"]


def took(server: Server) -> float:
    began = time.monotonic()
    job = server.submit("rehearsal", total=3, options={"seconds": ITEM_S})
    assert server.until_done(job["id"])["state"] == "completed"
    return time.monotonic() - began
