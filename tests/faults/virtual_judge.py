"""Judges whether everything that a dialog showed was right, when it showed the truth, and what it left behind.

Pure: screens, requests and leftovers in, violations out. A store that is restored from a backup begins a new
history; the bar may go backwards from one history to the next, but never within one.
See also: virtual_stage.py, which collects what is judged here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.faults.virtual_page import Screen
from tests.faults.virtual_schedule import Schedule

#: Requests of one dialog within ten seconds; more is a storm. The column `peak` of virtual_play.py shows the
#: usual.
STORM = 24
STORM_S = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """Everything observed while a schedule was played."""

    schedule: Schedule
    screens: Sequence[Screen]
    truths: Mapping[tuple[int, int], Screen]  # every state of the store, by (history, seq)
    truth_at_recovery: tuple[int, int]  # when the last fault ended
    final_truth: tuple[int, int]
    finished_at: float
    phase: str  # of the policy
    requests: Sequence[tuple[float, str]]
    max_polls: int
    leftovers: Sequence[str]  # still alive after the end
    rescues: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    schedule: Schedule
    truth_s: float | None  # from recovery to truth; None if the truth was never shown
    violations: tuple[str, ...]
    peak: int  # requests within ten seconds
    rescues: int


def judge(record: Record, bound_s: float) -> Verdict:
    truth_s = time_to_truth(record)
    peak = busiest([at for at, _ in record.requests])
    violations = [*_stuck(record, truth_s, bound_s), *_untrue(record), *_falls(record.screens), *record.leftovers]
    if record.max_polls > 1:
        violations.append(f"{record.max_polls} polls in flight at once")
    if peak > STORM:
        violations.append(f"a storm: {peak} requests within {STORM_S:g} s")
    return Verdict(record.schedule, truth_s, tuple(violations), peak, record.rescues)


def time_to_truth(record: Record) -> float | None:
    """Return the seconds from recovery to truth, or None if the truth was never shown.

    That is until the truth at recovery was on the screen, but no less than from the end of the job, if that was
    later, until the end was on the screen.
    """
    healed_at = record.schedule.heal_s
    ended = next((screen for screen in record.screens if screen.done), None)
    if ended is None:
        return None
    reached = next(
        (one.at for one in record.screens if (one.history, one.seq) >= record.truth_at_recovery),
        ended.at,  # final, in a history that a backup undid later
    )
    return max(0.0, reached - healed_at, ended.at - max(healed_at, record.finished_at))


def busiest(times: Sequence[float]) -> int:
    """Return the greatest number of these times that lie within STORM_S."""
    return max((bisect_right(times, at + STORM_S) - number for number, at in enumerate(times)), default=0)


def _stuck(record: Record, truth_s: float | None, bound_s: float) -> list[str]:
    if record.phase != "ended" or truth_s is None:
        last = record.screens[-1] if record.screens else None
        return [f"stuck: {record.phase}, with {last} on the screen; the truth is {record.final_truth}"]
    if truth_s > bound_s:
        return [f"late: the truth took {truth_s:.1f} s, more than {bound_s:g} s"]
    return []


def _untrue(record: Record) -> list[str]:
    """Return whether a screen matches no state of the store, or the last one is not the job's end."""
    found = []
    for screen in record.screens:
        truth = record.truths.get((screen.history, screen.seq))
        if truth is None or replace(truth, at=screen.at) != screen:
            found.append(f"untrue: {screen} was shown; the truth was {truth}")
            break
    if record.screens:
        last = record.screens[-1]
        if last.done and last.history == record.final_truth[0] and last.seq != record.final_truth[1]:
            found.append(f"wrong end: {last}; the truth is {record.final_truth}")
    return found


def _falls(screens: Sequence[Screen]) -> list[str]:
    for before, after in pairwise(screens):
        if before.done and (before.state, before.counts, before.bar) != (after.state, after.counts, after.bar):
            return [f"after the end: {before}, then {after}"]
        if after.history < before.history:
            return [f"back to an older history: {before}, then {after}"]
        if after.history == before.history and (after.bar or 0.0) < (before.bar or 0.0):
            return [f"the bar went backwards: {before}, then {after}"]
    return []
