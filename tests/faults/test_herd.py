"""Test that a herd of clients reconnects spread over time after the server was killed, and that polls are served.

The herd of 500 is `scripts/faults --named herd`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.herd import play_herd
from tests.faults.stage import LEASE_S, free_port
from tests.support.server import Server

pytestmark = pytest.mark.alone

VIEWERS = 60


async def test_a_herd_comes_back_spread_and_sees_the_truth(tmp_path: Path) -> None:
    at = ("--workers", "1", "--port", str(free_port()))  # it stays the same across restarts
    server = Server(tmp_path / "data", *at, environ={"UNSTUCK_LEASE_S": LEASE_S}).start()
    try:
        herd = await play_herd(server, VIEWERS)
    finally:
        server.stop()
    assert herd.violations == []
    assert len(herd.truth_s) == VIEWERS
    assert herd.statuses == {200}
    # Pauses are drawn from 2 to 4 s; without jitter the spread would be a few milliseconds.
    assert herd.spread_s > 0.5, f"the herd came back within {herd.spread_s:.1f} s"
