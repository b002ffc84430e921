"""Kills the server right before and right after each commit of a small scenario.

The scenario has what makes commits differ: jobs with and without files, another attempt, a cancel. The first
life ends at the n-th commit, the second at its first one (where it takes up the running items), the third goes
on. It must not know what is wrong (siege.py).
See also: dying.py, the server that kills itself.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.crash.siege import PATIENCE_S, Figures, Siege
from tests.support.server import Server

MOMENTS = ("before", "after")


class DyingServer(Server):
    """A server that kills itself at a commit; see dying.py."""

    program = "tests.crash.dying"


def play_point(folder: Path, number: int, moment: str, *, twice: bool = True) -> Figures:
    """Play the scenario on a new data folder, and kill the server before or after the n-th commit.

    With `twice`, the second life is killed too. The figures count no kill if the scenario has fewer commits.
    """
    siege = Siege(folder, seed=number)
    try:
        _switch_to(siege, DyingServer, CRASH_AT=f"{number}:{moment}")
        siege.up()
        siege.begin(lambda: _scenario(siege))
        kills = int(_wait_until_killed(siege))
        if kills:
            siege.kill()
            if twice:
                _switch_to(siege, DyingServer, CRASH_AT=f"1:{moment}")
                if siege.up():
                    _wait_until_killed(siege)
                siege.kill()
                kills += 1
            _switch_to(siege, Server)
            assert siege.up(), siege.server.log.read_text()
        return siege.end(kills)
    finally:
        siege.close()


def _scenario(siege: Siege) -> None:
    siege.submit(4, seconds=0.02)
    cancelled = siege.submit(6, seconds=0.1)
    siege.cancel(cancelled.job_id)
    siege.submit(3, seconds=0.02)


def _wait_until_killed(siege: Siege) -> bool:
    """Return True once the server has been killed, or False if the scenario ended first."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert siege.server.process is not None
        if siege.server.process.poll() is not None:
            return True
        if len(siege.accepted) == 3 and not siege.live():
            return False
        time.sleep(0.01)
    raise AssertionError(f"neither killed nor done: {siege.live()}")


def _switch_to(siege: Siege, kind: type[Server], **environ: str) -> None:
    siege.serve_with(kind, {**environ, "PYTHONPATH": os.getcwd()})
