"""A sample of the broken awaits; `scripts/awaits` breaks all of them.

They are broken in another process, since the modules are rewritten when they are imported.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.documents import ROOT

#: One of each room, and those at which something was once lost.
SAMPLE = (
    "runner.runner._adopt 1",
    "runner.runner._serve_worker 3",
    "runner.write_buffer._write 1",
    "streaming.heartbeat.compare 1",
    "files.retention.expire 1",
    "webhooks.dispatcher._deliver 2",
)


@pytest.mark.parametrize("point", SAMPLE)
def test_a_broken_await_costs_nothing_else(point: str) -> None:
    played = subprocess.run(
        [sys.executable, "-m", "tests.awaits.run", point], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "1 of 1 broken awaits cost nothing else" in played.stdout
