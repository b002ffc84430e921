"""Kills the whole server with SIGKILL at random moments: while it works, serves or starts.

It must not know what is wrong (siege.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.siege import Figures, Siege

#: How long a server lives (seconds), and the share of starts that are killed before it serves.
LIFE_S = (0.0, 1.2)
SHARE_WHILE_STARTING = 0.15


def play_kills(folder: Path, seed: int, kills: int, on_kill: Callable[[int], None] = lambda _: None) -> Figures:
    """Kill the server this often on one data folder, calling `on_kill` each time, and judge."""
    chance = random.Random(f"kills {seed}")
    siege = Siege(folder, seed)
    killed_while_starting = 0
    try:
        siege.kill_while_starting(chance.uniform(0.0, 1.5))  # the very first start, which creates the database
        siege.up()
        siege.kill()
        siege.up()
        siege.begin()
        for number in range(1, kills + 1):
            time.sleep(chance.uniform(*LIFE_S))
            siege.kill()
            on_kill(number)
            if chance.random() < SHARE_WHILE_STARTING:
                killing = siege.kill_while_starting(chance.uniform(0.0, 1.5))
                killed_while_starting += not siege.up()
                killing.join()  # the server may serve by then, but the kill must not come while we judge
            if siege.server.process is None or siege.server.process.poll() is not None:
                siege.kill()  # a server killed while it served has left its pipe behind
                assert siege.up(), "something else killed the server"
        return siege.end(kills + killed_while_starting)
    finally:
        siege.close()
