"""Many watch when the server is killed: they come back apart from each other, and it answers meanwhile.

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
    at = ("--workers", "1", "--port", str(free_port()))  # the same one when it is started again
    server = Server(tmp_path / "data", *at, environ={"UNSTUCK_LEASE_S": LEASE_S}).start()
    try:
        herd = await play_herd(server, VIEWERS)
    finally:
        server.stop()
    assert herd.wrongs == []
    assert len(herd.truth_s) == VIEWERS
    assert herd.statuses == {200}
    # Their pauses are drawn from 2 to 4 s; all at once would be some milliseconds.
    assert herd.spread_s > 0.5, f"the herd came back within {herd.spread_s:.1f} s"
