"""A claimed item: each transition that the table allows or refuses, and requests in each state."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import unstuck.runner
from unstuck.jobs.job import Finish, Item, ItemState, Release, Report
from unstuck.runner import outcome, protocol
from unstuck.runner.claimed_item import NEXT, ClaimedItem, ClaimState, Outcome, WrongTransitionError
from unstuck.store.protocol import WorkItem

DONE = Outcome(ItemState.SUCCEEDED, message="well")

#: Every transition: the call that makes it, and the state it leads to.
TRANSITIONS: dict[str, tuple[Callable[[ClaimedItem], object], str]] = {
    "send": (lambda item: item.send(7, RecordingWorker()), "sent"),
    "start": (lambda item: item.start(1.0, 1_000.0), "running"),
    "take_back": (lambda item: item.take_back(), "claimed"),
    "end": (lambda item: item.end(DONE, 2_000.0), "ended"),
    "release": (lambda item: item.release(), "released"),
    "lose": (lambda item: item.lose(), "lost"),
}
#: The transitions that are allowed from each state.
ALLOWED = {
    "claimed": {"send", "end", "release", "lose"},
    "sent": {"start", "take_back", "release", "lose"},
    "running": {"end", "take_back", "release", "lose"},
    "ended": set(),
    "released": set(),
    "lost": set(),
}


class RecordingWorker(list[tuple[str, int]]):
    """A worker that only records requests."""

    def stop(self, run_id: int) -> None:
        self.append(("stop", run_id))

    def drop(self, run_id: int) -> None:
        self.append(("drop", run_id))


def claimed() -> ClaimedItem:
    return ClaimedItem(WorkItem("job", "checksum", {}, Item(index=3, name="a", size=0, lease=2)))


def in_state(state: str, worker: RecordingWorker | None = None) -> ClaimedItem:
    item = claimed()
    if state != "claimed":
        item.send(7, RecordingWorker() if worker is None else worker)
    if state in ("running", "ended"):
        item.start(1.0, 1_000.0)
    if state in ("ended", "released", "lost"):
        TRANSITIONS[{"ended": "end", "released": "release", "lost": "lose"}[state]][0](item)
    assert item.state == state
    if worker is not None:
        worker.clear()
    return item


def values(item: ClaimedItem) -> list[object]:
    return [getattr(item, field.name) for field in fields(item)]


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_transition_follows_the_table_or_is_refused(state: str, transition: str) -> None:
    item, (go, target) = in_state(state), TRANSITIONS[transition]
    before = values(item)
    if transition in ALLOWED[state]:
        go(item)
        assert item.state == target
    else:
        with pytest.raises(WrongTransitionError):
            go(item)
        assert values(item) == before


def test_the_table_has_a_row_for_each_state() -> None:
    assert set(NEXT) == set(ClaimState)
    assert {state: {TRANSITIONS[name][1] for name in names} for state, names in ALLOWED.items()} == NEXT


@pytest.mark.parametrize(("state", "held"), [(state, bool(ALLOWED[state])) for state in ALLOWED])
def test_an_item_is_held_until_its_last_state(state: str, held: bool) -> None:
    assert in_state(state).held is held


def test_each_command_carries_the_lease() -> None:
    assert in_state("running").report(0.5, "half") == Report("job", 3, 2, 1_000.0, 0.5, "half")
    assert in_state("running").release() == Release("job", 3, 2)
    end = in_state("running").end(DONE, 2_000.0, 1.5)
    assert end == Finish("job", 3, 2, ItemState.SUCCEEDED, 1_000.0, message="well", pause_s=1.5)
    assert claimed().end(DONE, 2_000.0).started_at == 2_000.0, "an item that never started starts when it ends"


@pytest.mark.parametrize("state", sorted(set(ALLOWED) - {"running"}))
def test_only_a_running_item_reports(state: str) -> None:
    with pytest.raises(WrongTransitionError):
        in_state(state).report(0.5)


def test_a_returned_item_can_be_sent_again() -> None:
    item = in_state("running")
    item.report()
    item.exceed_limit(1.0)
    item.overtake()
    item.take_back()
    assert (item.reported, item.exceeded_limit_s, item.worker, item.run_id) == (False, None, None, 0)
    assert (item.began_at, item.started_at) == (0.0, 0.0)
    assert item.overtaken
    other = RecordingWorker()
    item.send(8, other)
    item.stop()
    assert other == [("stop", 8)]


# -- requests


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ("claimed", []),
        ("sent", [("stop", 7)]),
        ("running", [("stop", 7)]),
        ("ended", []),
        ("released", []),
        ("lost", []),
    ],
)
def test_a_stop_is_requested_once_of_the_items_worker(state: str, asked: list[tuple[str, int]]) -> None:
    worker = RecordingWorker()
    item = in_state(state, worker)
    item.stop()
    item.stop()
    assert worker == asked
    assert item.stopped is item.held
    assert item.state == state, "a request does not change the state"


@pytest.mark.parametrize(
    ("state", "asked"), [("claimed", []), ("sent", [("drop", 7)]), ("running", [("drop", 7)])]
)
def test_a_lost_item_is_dropped_by_its_worker(state: str, asked: list[tuple[str, int]]) -> None:
    worker = RecordingWorker()
    in_state(state, worker).lose()
    assert worker == asked


def test_a_time_limit_stops_only_a_running_item_that_is_not_stopping() -> None:
    worker = RecordingWorker()
    running, stopped, sent = in_state("running", worker), in_state("running"), in_state("sent")
    stopped.stop()
    for item in (running, stopped, sent):
        item.exceed_limit(1.5)
    assert [item.exceeded_limit_s for item in (running, stopped, sent)] == [1.5, None, None]
    assert worker == [("stop", 7)]


# -- outcomes


@pytest.mark.parametrize(
    ("cause", "done", "death"),
    [
        ("none", ("failed", "exception", False), ("failed", "worker_lost", True)),
        ("stop", ("cancelled", None, None), ("cancelled", None, None)),
        ("limit", ("failed", "time_limit_exceeded", False), ("failed", "time_limit_exceeded", False)),
    ],
)
def test_outcomes_of_a_cancelled_run_and_of_a_death(
    cause: str, done: tuple[object, ...], death: tuple[object, ...]
) -> None:
    item = in_state("running")
    if cause == "stop":
        item.stop()
    elif cause == "limit":
        item.exceed_limit(0.25)
    ends = outcome.of_done(item, protocol.Done(id=7, state="cancelled")), outcome.of_death(item, "It crashed.")
    assert [(end.state, end.error and end.error.code, end.error and end.error.transient) for end in ends] == [
        done,
        death,
    ]
    assert ends[1].message == ("Stopped by force." if cause == "stop" else None)


def test_an_item_that_ends_despite_a_stop_keeps_its_outcome() -> None:
    item = in_state("running")
    item.stop()
    done = protocol.Done(id=7, state="succeeded", result={"n": 1}, file="a.txt", message="all of it")
    assert outcome.of_done(item, done) == Outcome(ItemState.SUCCEEDED, None, "all of it", {"n": 1}, "a.txt")


def test_only_claimed_item_changes_an_item() -> None:
    own = {field.name for field in fields(ClaimedItem)} - {"worker"}
    changed = []
    for file in Path(unstuck.runner.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in own:
                changed.append((file.name, ast.unparse(node)))
    assert {file for file, _ in changed} == {"claimed_item.py"}, changed
