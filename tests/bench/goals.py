"""The goals of the benchmark: what the figures of a run must not exceed.

Ratios compare figures of one run on one machine. Short runs check some goals, with wide margins. It must not
know how anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from tests.bench.celery_redis import CELERY
from tests.bench.figures import Table, shown
from tests.bench.inside import COST
from tests.bench.peers import BARE, BETTER, NAIVE, NCHAN, OURS

Found = Mapping[str, Table]
OWN = f"{OURS}, its own event"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and its limit.

    `reached` looks the figure up (KeyError: not measured). `most` is its limit, `short` the limit in a short run
    on a busy machine, or None if it is not checked there.
    """

    name: str
    reached: Callable[[Found], float]
    most: float
    short: float | None = None


def _cost(viewers: int, row: str) -> Callable[[Found], float]:
    def reached(found: Found) -> float:
        table, column = found["fan-out"], f"{viewers}: CPU s"
        return table[OWN][column] / table[row][column]

    return reached


def _of(scene: str, row: str, column: str) -> Callable[[Found], float]:
    return lambda found: found[scene][row][column]


def _against(scene: str, peer: str, column: str) -> Callable[[Found], float]:
    return lambda found: found[scene][OURS][column] / found[scene][peer][column]


def _grown(column: str, since: str) -> Callable[[Found], float]:
    """Return the growth of memory between two moments, as a share of what all viewers took."""

    def reached(found: Found) -> float:
        row = found["idle"][OURS]
        return (row[column] - row[since]) / (row["MiB with all"] - row["MiB before"])

    return reached


def _figure(scene: str, name: str) -> Callable[[Found], float]:
    return _of(scene, name, "figure")


def _one_by(figure: Callable[[Found], float], whole: float = 1.0) -> Callable[[Found], float]:
    """Return the inverse of a figure of which more is better."""
    return lambda found: whole / figure(found)


def _celery_over(name: str) -> Callable[[Found], float]:
    return lambda found: found["celery"][CELERY]["updates/s"] / _figure("durable", name)(found)


SAME, SMALL = "same size", "300 B"

GOALS: list[Goal] = [
    *(
        Goal(
            f"fan-out to {viewers}: CPU relative to {peer}, {size}",
            _cost(viewers, f"{peer}, {size}"),
            most,
            short,
        )
        for viewers in (1_000, 5_000)
        for peer, most, short in ((NCHAN, 1.0, None), (BARE, 1.75, None), (NAIVE, 0.25, 0.7))
        for size in (SAME, SMALL)
    ),
    *(
        Goal(f"storm: CPU relative to {peer}", _against("storm", f"{peer}, {SMALL}", COST), 0.1, 0.5)
        for peer in (NAIVE, NCHAN, BETTER, BARE)
    ),
    Goal("storm: lateness, p99 (ms)", _of("storm", OURS, "late p99 ms"), 250),
    Goal("storm: final event, p99 (ms)", _of("storm", OURS, "end p99 ms"), 300),
    Goal("many: lateness, p99 (ms)", _of("many", OURS, "late p99 ms"), 500),
    Goal("idle: memory per viewer (KiB)", _of("idle", OURS, "KiB each"), 12),
    Goal("idle: memory relative to sse-starlette", _against("idle", NAIVE, "KiB each"), 1 / 3, 0.6),
    Goal("idle: share of it kept after all have left", _grown("MiB after they left", "MiB before"), 0.2),
    Goal("idle: share added when as many come again", _grown("MiB with all again", "MiB with all"), 0.1),
    Goal("idle: 5,000 viewers with heartbeats (% of a core)", _of("idle", OURS, "% of a core"), 1.5),
    Goal("stalled: server and kernel, per viewer (KiB)", _of("stalled", OURS, "KiB together"), 256, 256),
    Goal("connect: 5,000 viewers have their snapshot (s)", _of("connect", OURS, "seconds"), 2),
    Goal("connect: CPU relative to sse-starlette", _against("connect", NAIVE, "CPU s"), 1 / 2.5, 1),
    Goal("comeback: final event while 5,000 others connect (ms)", _of("comeback", OURS, "end max ms"), 2_000),
    *(
        Goal(f"{scene}: loop delay, p99.9 (ms)", _of(scene, OURS, "loop p99.9 ms"), 50)
        for scene in ("storm", "many", "connect")
    ),
    *(
        Goal(
            f"fan-out to {viewers}: loop delay, p99.9 (ms)",
            _of("fan-out", OWN, f"{viewers}: loop p99.9 ms"),
            50,
        )
        for viewers in (1_000, 5_000)
    ),
    *(
        Goal(f"{scene}: poll latency, p99 (ms)", _of(scene, OURS, "poll p99 ms"), 50)
        for scene in ("storm", "many")
    ),
    *(
        Goal(f"fan-out to {viewers}: poll latency, p99 (ms)", _of("fan-out", OWN, f"{viewers}: poll p99 ms"), 50)
        for viewers in (1_000, 5_000)
    ),
    *(
        goal
        for name in ("results_of_100_jobs", "results_one_by_one_of_100_jobs", "reports_of_100_jobs")
        for goal in (
            Goal(
                f"durable: 20,000 a second relative to {name.replace('_', ' ')}",
                _one_by(_figure("durable", f"{name}_per_s"), 20_000),
                1,
            ),
            Goal(
                f"durable: bare sqlite3 relative to {name.replace('_', ' ')}",
                _one_by(_figure("durable", f"{name}_share_of_bare")),
                5,
                20,
            ),
            Goal(f"celery: updates relative to {name.replace('_', ' ')}", _celery_over(f"{name}_per_s"), 0.1),
        )
    ),
    Goal(
        "durable: bare sqlite3 that writes the jobs' rows too, relative to results of 100 jobs",
        _one_by(_figure("durable", "results_of_100_jobs_share_of_bare_with_jobs")),
        1.11,
        5,
    ),
    Goal("reporting: `report()` relative to an iteration of tqdm", _figure("reporting", "over_tqdm"), 3, 8),
    Goal("batch: small files, relative to Pool.map", _figure("batch", "over_pool_map"), 1.5, 12),
    Goal("batch: small files, relative to Pool.imap", _figure("batch", "over_pool_imap"), 1, 12),
    Goal("batch: large files, relative to sha256sum", _figure("batch", "over_sha256sum"), 1, 3),
    Goal(
        "large: median query with a million finished jobs, relative to ten",
        lambda found: median(row["ratio"] for row in found["large"].values()),
        1.25,
        2.5,
    ),
    *(
        Goal(f"page: tasks of the main thread over 50 ms, {where}", _of("page", where, "over_50"), 0)
        for where in ("dialog", "list")
    ),
]


def judged(found: Found, *, short: bool) -> list[tuple[Goal, float, float]]:
    """Return the goals that were measured, each with its figure and limit."""
    results = []
    for goal in GOALS:
        most = goal.short if short else goal.most
        if most is None:
            continue
        try:
            results.append((goal, goal.reached(found), most))
        except KeyError:
            continue  # that scene or peer was not measured
    return results


def met(reached: float, most: float) -> bool:
    """Return whether a figure keeps to its limit; NaN (not measured) does not."""
    return reached <= most


def markdown(results: list[tuple[Goal, float, float]]) -> str:
    """Return the goals as a Markdown table."""
    lines = ["| goal | measured | at most | |", "| --- | ---: | ---: | --- |"]
    for goal, reached, most in results:
        lines.append(
            f"| {goal.name} | {shown(reached)} | {shown(most)} | {'met' if met(reached, most) else 'missed'} |"
        )
    return "\n".join(lines)
