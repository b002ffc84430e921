"""Whether what a dialog showed was right, and when it showed the truth.

Pure: a list of screens and the server's truth in, sentences about what was wrong out. Must not know where
either came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from unstuck import wire


class Flaw(StrEnum):
    """What can be wrong: the columns of the table."""

    STUCK = "stuck"  # the end never shown, or not within its bound
    BACK = "gone back"
    FINAL = "final wrong"  # another end than the server's, or more after it
    ALIVE = "alive after the end"
    ERROR = "errors"  # thrown in the page, or in the suite itself


class Wrong(str):
    """A sentence about what was wrong, and which of the five that is."""

    kind: Flaw

    def __new__(cls, kind: Flaw, text: str) -> Wrong:
        wrong = super().__new__(cls, text)
        wrong.kind = kind
        return wrong


@dataclass(frozen=True, slots=True)
class Screen:
    """What a person saw from `at` (seconds, wall clock) until the next one; `sentence` only after the end."""

    at: float
    seq: int
    bar: float | None
    sentence: str
    badge: str
    counts: tuple[str, ...]
    link: str
    name: str = ""  # of the job

    @staticmethod
    def of(seen: Mapping[str, Any]) -> Screen:
        return Screen(**{**seen, "counts": tuple(seen["counts"])})

    @staticmethod
    def told(at: float, job: Job, link: str) -> Screen:
        """What a program was told, as if it had been shown."""
        counts, done = job["progress"], job["done"]
        return Screen(
            at=at,
            seq=job["seq"],
            bar=counts["percent"],
            sentence=expected_sentence(job) if done else "",
            badge=BADGES[job["state"]] if done else "",
            counts=(str(counts["succeeded"]), str(counts["failed"])),
            link=link,
            name=job["name"],
        )


Job = Mapping[str, Any] | wire.Job

BADGES = {
    "completed": "Done",
    "completed_with_errors": "Done with errors",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


def expected_sentence(job: Job) -> str:
    """How the closing sentence begins, made from the counts alone."""
    counts = job["progress"]
    total, succeeded, failed = counts["total"], counts["succeeded"], counts["failed"]
    return {
        "completed": f"All {total} files are done.",
        "completed_with_errors": f"{succeeded} of {total} files are done; {failed} failed.",
        "failed": "Failed: ",
        "cancelled": "Cancelled after ",
    }[job["state"]]


def wrongs(screens: Sequence[Screen], job: Job) -> list[str]:
    """`flaws`, for who wants no more than the words."""
    return [str(flaw) for flaw in flaws(screens, job)]


def flaws(screens: Sequence[Screen], job: Job) -> list[Wrong]:
    """What was wrong on the way and at the end; `job` is the finished job as the server tells it."""
    found: list[Wrong] = []
    bars = [screen.bar for screen in screens if screen.bar is not None]
    falls = [(before, after) for before, after in pairwise(bars) if after < before]
    if falls:
        found.append(Wrong(Flaw.BACK, f"the bar went back from {falls[0][0]:g} to {falls[0][1]:g}"))
    ends = [number for number, screen in enumerate(screens) if screen.sentence]
    if not ends:
        return [*found, Wrong(Flaw.STUCK, "the end was never shown")]
    first = screens[ends[0]]
    for screen in screens[ends[0] + 1 :]:
        if (screen.sentence, screen.counts, screen.bar) != (first.sentence, first.counts, first.bar):
            after = f"after the end “{first.sentence}” it showed “{screen.sentence}” {screen.counts}"
            found.append(Wrong(Flaw.FINAL, after))
            break
    return found + _wrong_end(first, job)


def _wrong_end(shown: Screen, job: Job) -> list[Wrong]:
    counts = job["progress"]
    told = {
        "sentence": (shown.sentence.startswith(expected_sentence(job)), expected_sentence(job), shown.sentence),
        "state": (shown.badge == BADGES[job["state"]], BADGES[job["state"]], shown.badge),
        "counts": (
            shown.counts[:2] == (str(counts["succeeded"]), str(counts["failed"])),
            (counts["succeeded"], counts["failed"]),
            shown.counts,
        ),
        "bar": (shown.bar == counts["percent"], counts["percent"], shown.bar),
        "seq": (shown.seq == job["seq"], job["seq"], shown.seq),
        "name": (shown.name == job["name"], job["name"], shown.name),
    }
    return [
        Wrong(Flaw.FINAL, f"the final {part} is {is_!r}, not {should!r}")
        for part, (right, should, is_) in told.items()
        if not right
    ]


def time_to_truth(screens: Sequence[Screen], healed_at: float, seq: int, finished_at: float) -> float | None:
    """Seconds from the healing until `seq`, which the server had then, was on the screen; and not less than
    from the end of the job (if that was later) to its being shown. None where that never happened."""
    reached = next((screen.at for screen in screens if screen.seq >= seq), None)
    ended = next((screen.at for screen in screens if screen.sentence), None)
    if reached is None or ended is None:
        return None
    return max(0.0, reached - healed_at, ended - max(healed_at, finished_at))
