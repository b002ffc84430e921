"""Every commit of a small scenario, once with the end right before it and once right after it.

The scenario has what makes commits different: jobs with and without files, another attempt, a cancel. The first
life dies at the n-th commit, the second at its very first one (where what ran is taken up), the third goes on.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.crash.siege import PATIENCE_S, Siege
from tests.support.server import Server

MOMENTS = ("before", "after")


class DyingServer(Server):
    """Dies at a commit, see dying.py."""

    program = "tests.crash.dying"


@dataclass(frozen=True)
class Point:
    """The n-th commit, `before` or `after` it; `reached` is false where the scenario has fewer."""

    number: int
    moment: str
    reached: bool
    wrongs: list[str]


def play_point(folder: Path, number: int, moment: str, *, twice: bool = True) -> Point:
    """The scenario on a new data folder; with `twice` the second life dies too."""
    siege = Siege(folder, seed=number)
    try:
        _become(siege, DyingServer, CRASH_AT=f"{number}:{moment}")
        siege.up()
        siege.open(lambda: _scenario(siege))
        reached = _until_it_dies(siege)
        if reached:
            siege.kill()
            if twice:
                _become(siege, DyingServer, CRASH_AT=f"1:{moment}")
                if siege.up():
                    _until_it_dies(siege)
                siege.kill()
            _become(siege, Server)
            assert siege.up(), siege.server.log.read_text()
        return Point(number, moment, reached, siege.judge())
    finally:
        siege.close()


def _scenario(siege: Siege) -> None:
    siege.submit(4, seconds=0.02)
    stopped = siege.submit(6, seconds=0.1)
    siege.cancel(stopped.job_id)
    siege.submit(3, seconds=0.02)


def _until_it_dies(siege: Siege) -> bool:
    """False where the scenario came to its end."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert siege.server.process is not None
        if siege.server.process.poll() is not None:
            return True
        if len(siege.accepted) == 3 and not siege.live():
            return False
        time.sleep(0.01)
    raise AssertionError(f"neither dead nor done: {siege.live()}")


def _become(siege: Siege, kind: type[Server], **environ: str) -> None:
    siege.serve_with(kind, {**environ, "PYTHONPATH": os.getcwd()})
