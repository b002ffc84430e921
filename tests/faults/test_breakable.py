"""Test that the breakable server breaks on demand and recovers; otherwise the plays that use it prove nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.breakable import Breakage
from tests.faults.stage import BreakableServer
from tests.support.waiting import eventually

SHORT_PAUSES = {"UNSTUCK_BROADCAST_PAUSE_S": "0.05", "UNSTUCK_HEARTBEAT_S": "1"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BreakableServer]:
    breakable = BreakableServer(tmp_path / "data", "--workers", "1", "--port", "0", environ=SHORT_PAUSES)
    breakable.start()
    yield breakable
    breakable.stop()


def streams(server: BreakableServer) -> dict[str, int]:
    return dict(server.get("/api/health")["streams"])


def test_broadcasts_that_raise_or_do_nothing(server: BreakableServer) -> None:
    job = server.submit("rehearsal", total=1000, options={"seconds": 0.05})
    with httpx.stream("GET", f"{server.url}{job['links']['events']}"):
        eventually(lambda: streams(server)["open"] == 1)
        server.break_(Breakage.RAISES)
        eventually(lambda: streams(server)["broadcast_failures"] > 0)
        server.break_(Breakage.DEAF)
        eventually(lambda: streams(server)["rescues"] > 0)
        server.mend()
        before = streams(server)["broadcasts"]
        eventually(lambda: streams(server)["broadcasts"] > before + 3)


def test_a_store_that_fails_for_a_while(server: BreakableServer) -> None:
    job = server.submit("rehearsal", total=4, options={"seconds": 0.3})
    server.break_(Breakage.STORE)
    refused = httpx.get(f"{server.url}{job['links']['self']}")
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    unwritten = httpx.post(f"{server.url}{job['links']['cancel']}")
    assert (unwritten.status_code, unwritten.json()["code"]) == (503, "store_unavailable")
    server.mend()
    assert server.until_done(job["id"])["state"] == "completed"
