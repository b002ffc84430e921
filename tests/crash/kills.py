"""SIGKILL of the whole server at moments that a seed draws: while it works, is asked, or starts.

Must not know: what is wrong (siege.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.siege import Siege

#: How long it lives (seconds), and how many of its lives end before it serves.
LIFE_S = (0.0, 1.2)
STILLBORN = 0.15


@dataclass(frozen=True)
class Figures:
    """What a siege came to; `stillborn` is how many lives ended before they served."""

    kills: int
    stillborn: int
    jobs: int
    items: int
    runs: int
    sights: int
    wrongs: list[str]


def play_kills(folder: Path, seed: int, kills: int, tell: Callable[[int], None] = lambda _: None) -> Figures:
    """Kill it so often, on one data folder; `tell` hears of each."""
    chance = random.Random(f"kills {seed}")
    siege = Siege(folder, seed)
    stillborn = 0
    try:
        siege.killed_while_it_starts(chance.uniform(0.0, 1.5))  # the very first start, which makes the database
        siege.up()
        siege.kill()
        siege.up()
        siege.open()
        for number in range(1, kills + 1):
            time.sleep(chance.uniform(*LIFE_S))
            siege.kill()
            tell(number)
            if chance.random() < STILLBORN:
                striking = siege.killed_while_it_starts(chance.uniform(0.0, 1.5))
                stillborn += not siege.up()
                striking.join()  # it may come when the server serves already, and must not come while we judge
            if siege.server.process is None or siege.server.process.poll() is not None:
                siege.kill()  # whoever was struck when it served already left its pipe behind
                assert siege.up(), "nobody killed it"
        return figures(siege, kills, stillborn)
    finally:
        siege.close()


def figures(siege: Siege, kills: int, stillborn: int = 0) -> Figures:
    """Let it end, and judge."""
    wrongs = siege.judge()
    items = sum(len(one.inputs) for one in siege.accepted)
    return Figures(kills, stillborn, len(siege.accepted), items, siege.runs(), siege.witness.sights, wrongs)
