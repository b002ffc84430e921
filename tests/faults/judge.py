"""Judges what a dialog showed: whether it was right, and when it became true.

Pure: screens and the server's job in, violations out. It must not know where either comes from.
See also: scene.py and outages.py, which collect the screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from tests.support.violation import Violation
from unstuck import wire


class Flaw(StrEnum):
    """A kind of violation: a column of the table."""

    STUCK = "stuck"  # the end was never shown, or not within its bound
    BACKWARDS = "went backwards"
    MISLEADING = "misleading"  # said to run while there was no contact
    WRONG_END = "wrong end"  # another end than the server's, or a change after it
    OPEN = "still open after the end"
    ERROR = "errors"  # raised in the page, or in the suite itself


@dataclass(frozen=True, slots=True)
class Screen:
    """What the user saw from `at` (seconds, wall clock) until the next screen.

    `sentence`, the closing sentence, is empty before the end.
    """

    at: float
    seq: int
    bar: float | None
    sentence: str
    badge: str
    counts: tuple[str, ...]
    link: str
    name: str = ""  # of the job

    @staticmethod
    def of(values: Mapping[str, Any]) -> Screen:
        """Return a screen as the page recorded it."""
        return Screen(**{**values, "counts": tuple(values["counts"])})

    @staticmethod
    def from_client(at: float, job: Job, link: str) -> Screen:
        """Return what a program received as if it had been shown."""
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


#: What a badge says of a job that goes on: to be read only while there is contact.
GOING_ON = {"(out of sight)", "Waiting", "Running", "Cancelling…", "Long wait", "No progress", "Not responding"}
#: How the texts begin by which a dialog itself says that there is no contact.
LOST_LINKS = ("No response", "This device seems", "The server responded", "The response did not", "No updates")


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which nothing got through, from the moment by which a dialog has to say so (s, wall clock)."""

    since: float
    until: float


def expected_sentence(job: Job) -> str:
    """Return how the closing sentence must begin, derived from the counts alone."""
    counts = job["progress"]
    total, succeeded, failed = counts["total"], counts["succeeded"], counts["failed"]
    units = job.get("units", "files")
    return {
        "completed": f"All {total} {units} are done.",
        "completed_with_errors": f"{succeeded} of {total} {units} are done; {failed} failed.",
        "failed": "Failed: ",
        "cancelled": "Cancelled after ",
    }[job["state"]]


def violations(screens: Sequence[Screen], job: Job, silences: Sequence[Silence] = ()) -> list[Violation]:
    """Return what was wrong on the way and at the end; `job` is the finished job as the server reports it."""
    found = _misleading(screens, silences)
    bars = [screen.bar for screen in screens if screen.bar is not None]
    falls = [(before, after) for before, after in pairwise(bars) if after < before]
    if falls:
        found.append(Violation(Flaw.BACKWARDS, f"the bar went backwards from {falls[0][0]:g} to {falls[0][1]:g}"))
    ends = [number for number, screen in enumerate(screens) if screen.sentence]
    if not ends:
        return [*found, Violation(Flaw.STUCK, "the end was never shown")]
    first = screens[ends[0]]
    for screen in screens[ends[0] + 1 :]:
        if (screen.sentence, screen.counts, screen.bar) != (first.sentence, first.counts, first.bar):
            after = f"after the end “{first.sentence}” it showed “{screen.sentence}” {screen.counts}"
            found.append(Violation(Flaw.WRONG_END, after))
            break
    return found + _wrong_end(first, job)


def _misleading(screens: Sequence[Screen], silences: Sequence[Silence]) -> list[Violation]:
    """Return the first screen whose badge said that the job went on, although there was known to be no contact."""
    untils = [*(screen.at for screen in screens[1:]), float("inf")]
    for screen, until in zip(screens, untils, strict=True):
        silent = any(max(screen.at, one.since) < min(until, one.until) for one in silences)
        if screen.badge in GOING_ON and (silent or screen.link.startswith(LOST_LINKS)):
            return [Violation(Flaw.MISLEADING, f"without contact it said “{screen.badge}”: {screen}")]
    return []


def _wrong_end(shown: Screen, job: Job) -> list[Violation]:
    counts = job["progress"]
    checks = {
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
        Violation(Flaw.WRONG_END, f"the final {part} is {actual!r}, not {expected!r}")
        for part, (right, expected, actual) in checks.items()
        if not right
    ]


def time_to_truth(screens: Sequence[Screen], healed_at: float, seq: int, finished_at: float) -> float | None:
    """Return the seconds from recovery to truth, or None if the truth was never shown.

    That is from `healed_at` until `seq`, which the server had then, was on the screen, but no less than from the
    end of the job, if that was later, until the end was on the screen.
    """
    reached = next((screen.at for screen in screens if screen.seq >= seq), None)
    ended = next((screen.at for screen in screens if screen.sentence), None)
    if reached is None or ended is None:
        return None
    return max(0.0, reached - healed_at, ended - max(healed_at, finished_at))
