"""Draws from a seed what is done to a server, and when: one track for each sort of attack, all at the same time.

Pure: the same seed gives the same schedule. It must not know how an attack is carried out.
See also: attacks.py, clients.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Attacks on the database and its disk. While one is on, `ready` must say so.
FULL_DISK, MOUNTED_OVER = "disk full", "folder mounted over"
STORE = (
    FULL_DISK,
    MOUNTED_OVER,
    "database deleted",
    "database replaced",
    "database overwritten",
    "database read-only",
    "log deleted",
    "folder moved",
)
#: Those that need a file system of their own.
NEED_A_DISK = frozenset({FULL_DISK, MOUNTED_OVER})
#: Attacks on workers and results, and by clients. None is a reason to say that the server is not ready.
WORK = ("worker killed", "worker stopped", "results removed")
CLIENTS = ("leave at once", "heads without end", "bodies without end", "slow readers", "idle connections")

Span = tuple[float, float]


@dataclass(frozen=True)
class Attack:
    """What is done, how long after the attack before it (or the start), and for how long (seconds)."""

    name: str
    after_s: float
    for_s: float
    seed: int


@dataclass(frozen=True)
class Track:
    """Attacks that follow one another, with pauses between them (seconds)."""

    names: Sequence[str]
    for_s: Span
    pause_s: Span


def draw(seed: int, length_s: float, *, with_disk: bool, short: bool = False) -> list[list[Attack]]:
    """Return the attacks of each track, all of which end within `length_s`."""
    store = [name for name in STORE if with_disk or name not in NEED_A_DISK]
    tracks = (
        # A pause leaves time to see that the server is ready again.
        Track(store, (4.0, 4.0) if short else (4.0, 10.0), (6.0, 6.0) if short else (6.0, 10.0)),
        Track(WORK, (0.5, 3.0), (1.0, 5.0)),
        Track(CLIENTS, (2.0, 10.0), (0.0, 2.0)),
        Track(CLIENTS, (2.0, 10.0), (0.0, 2.0)),
    )
    return [list(_attacks(random.Random(f"{seed} {n}"), one, length_s)) for n, one in enumerate(tracks)]


def _attacks(chance: random.Random, track: Track, length_s: float) -> Iterator[Attack]:
    at_s = 0.0
    for name in _names(chance, track.names):
        after_s, for_s = chance.uniform(*track.pause_s), chance.uniform(*track.for_s)
        at_s += after_s + for_s
        if at_s > length_s:
            return
        yield Attack(name, after_s, for_s, chance.randrange(10**9))


def _names(chance: random.Random, names: Sequence[str]) -> Iterator[str]:
    """Yield all names in a random order, again and again."""
    while True:
        yield from chance.sample(names, len(names))
