"""Plays random inputs from seeds, one part after another, until one finds a fault or the time is over.

A part is a module beside this one with `play(folder, seed, rounds)`, which yields what is wrong. `folder` does not
exist yet. PARTS lists them.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import clicks, http, kinds, rows

PARTS = {"rows": rows.play, "http": http.play, "kinds": kinds.play, "clicks": clicks.play}
#: Rounds of one seed: its server is then started anew.
ROUNDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"the parts to play: {', '.join(PARTS)}; all if none"
    )
    parser.add_argument("--seed", type=int, help="play this seed only")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each seed (default: {ROUNDS})")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to play (default: 1)")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; choose from {', '.join(PARTS)}")
    logging.disable(logging.CRITICAL)  # the parts provoke hundreds of messages
    ends = time.monotonic() + given.minutes * 60
    seed = given.seed if given.seed is not None else time.time_ns() // 1_000_000 % 10**9
    played = 0
    while not played or (given.seed is None and time.monotonic() < ends):
        for part in given.parts or PARTS:
            if not _play(part, seed + played, given.rounds):
                sys.exit(1)
        played += 1
    print(f"{played} seeds from {seed} on: nothing found.")


def _play(part: str, seed: int, rounds: int) -> bool:
    """Play one seed; print what is wrong, and return whether that is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        faults = list(PARTS[part](Path(folder) / "data", seed, rounds))
    for fault in faults:
        print(f"{part}: {fault}")
    if faults:
        print(f"Play it again with: scripts/fuzz {part} --seed {seed} --rounds {rounds}")
    return not faults


if __name__ == "__main__":
    main()
