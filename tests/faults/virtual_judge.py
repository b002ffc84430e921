"""Judges whether everything that a dialog showed was right, when it showed the truth, and what it left behind.

Pure: screens, requests and leftovers in, sentences about what was wrong out. A store that is restored from a
backup begins a new history; the bar may go back from one history to the next, but never within one.
Next: virtual_stage.py, which collects what is judged here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.faults.virtual_page import Screen
from tests.faults.virtual_schedule import Schedule

#: Requests of one dialog within ten seconds; more is a storm. See PEAK in the tests for what is usual.
STORM = 24
STORM_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that was observed while a schedule was played."""

    schedule: Schedule
    screens: Sequence[Screen]
    truths: Mapping[tuple[int, int], Screen]  # every state of the store, by (history, seq)
    truth_then: tuple[int, int]  # at the healing
    truth_now: tuple[int, int]
    finished_at: float
    phase: str  # of the policy
    asked: Sequence[tuple[float, str]]
    most_polls: int
    left: Sequence[str]  # still alive after the end
    rescues: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    schedule: Schedule
    truth_s: float | None  # from the healing to the truth on the screen
    wrongs: tuple[str, ...]
    peak: int  # requests within ten seconds
    rescues: int


def judge(seen: Seen, bound_s: float) -> Verdict:
    truth_s = time_to_truth(seen)
    peak = busiest([at for at, _ in seen.asked])
    wrongs = [*_stuck(seen, truth_s, bound_s), *_untrue(seen), *_falls(seen.screens), *seen.left]
    if seen.most_polls > 1:
        wrongs.append(f"{seen.most_polls} polls in flight at once")
    if peak > STORM:
        wrongs.append(f"a storm: {peak} requests within {STORM_S:g} s")
    return Verdict(seen.schedule, truth_s, tuple(wrongs), peak, seen.rescues)


def time_to_truth(seen: Seen) -> float | None:
    """Seconds from the healing until the truth of that moment was on the screen, but no less than from the end of
    the job (if later) until that was on it. None if it never was."""
    healed_at = seen.schedule.heal_s
    ended = next((screen for screen in seen.screens if screen.done), None)
    if ended is None:
        return None
    reached = next(
        (one.at for one in seen.screens if (one.history, one.seq) >= seen.truth_then),
        ended.at,  # final, in a history that was undone later
    )
    return max(0.0, reached - healed_at, ended.at - max(healed_at, seen.finished_at))


def busiest(times: Sequence[float]) -> int:
    """The greatest number of these moments within STORM_S."""
    return max((bisect_right(times, at + STORM_S) - number for number, at in enumerate(times)), default=0)


def _stuck(seen: Seen, truth_s: float | None, bound_s: float) -> list[str]:
    if seen.phase != "ended" or truth_s is None:
        last = seen.screens[-1] if seen.screens else None
        return [f"stuck: {seen.phase}, with {last} on the screen, while the truth is {seen.truth_now}"]
    if truth_s > bound_s:
        return [f"late: the truth took {truth_s:.1f} s, and may take {bound_s:g} s"]
    return []


def _untrue(seen: Seen) -> list[str]:
    """A screen that no state of the store accounts for, or an end that is not the job's."""
    found = []
    for screen in seen.screens:
        truth = seen.truths.get((screen.history, screen.seq))
        if truth is None or replace(truth, at=screen.at) != screen:
            found.append(f"untrue: {screen} was shown, and the truth was {truth}")
            break
    if seen.screens:
        last = seen.screens[-1]
        if last.done and last.history == seen.truth_now[0] and last.seq != seen.truth_now[1]:
            found.append(f"wrong end: {last}, and the truth is {seen.truth_now}")
    return found


def _falls(screens: Sequence[Screen]) -> list[str]:
    for before, after in pairwise(screens):
        if before.done and (before.state, before.counts, before.bar) != (after.state, after.counts, after.bar):
            return [f"after the end: {before}, then {after}"]
        if after.history < before.history:
            return [f"back to an older history: {before}, then {after}"]
        if after.history == before.history and (after.bar or 0.0) < (before.bar or 0.0):
            return [f"the bar went back: {before}, then {after}"]
    return []
