"""A claimed item: each transition of the table, each one that it refuses, and wishes in each state."""

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

#: Every way to change a state: what it does, and where it leads.
WAYS: dict[str, tuple[Callable[[ClaimedItem], object], str]] = {
    "send": (lambda item: item.send(7, Asked()), "sent"),
    "start": (lambda item: item.start(1.0, 1_000.0), "running"),
    "take_back": (lambda item: item.take_back(), "claimed"),
    "end": (lambda item: item.end(DONE, 2_000.0), "ended"),
    "release": (lambda item: item.release(), "released"),
    "lose": (lambda item: item.lose(), "lost"),
}
#: From each state, the ways that are allowed.
ALLOWED = {
    "claimed": {"send", "end", "release", "lose"},
    "sent": {"start", "take_back", "release", "lose"},
    "running": {"end", "take_back", "release", "lose"},
    "ended": set(),
    "released": set(),
    "lost": set(),
}


class Asked(list[tuple[str, int]]):
    """A worker that only remembers what it was asked for."""

    def stop(self, run_id: int) -> None:
        self.append(("stop", run_id))

    def drop(self, run_id: int) -> None:
        self.append(("drop", run_id))


def claimed() -> ClaimedItem:
    return ClaimedItem(WorkItem("job", "checksum", {}, Item(index=3, name="a", size=0, lease=2)))


def in_state(state: str, worker: Asked | None = None) -> ClaimedItem:
    item = claimed()
    if state != "claimed":
        item.send(7, Asked() if worker is None else worker)
    if state in ("running", "ended"):
        item.start(1.0, 1_000.0)
    if state in ("ended", "released", "lost"):
        WAYS[{"ended": "end", "released": "release", "lost": "lose"}[state]][0](item)
    assert item.state == state
    if worker is not None:
        worker.clear()
    return item


def values(item: ClaimedItem) -> list[object]:
    return [getattr(item, field.name) for field in fields(item)]


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("way", WAYS)
def test_a_way_leads_where_the_table_says_or_is_refused(state: str, way: str) -> None:
    item, (go, target) = in_state(state), WAYS[way]
    before = values(item)
    if way in ALLOWED[state]:
        go(item)
        assert item.state == target
    else:
        with pytest.raises(WrongTransitionError):
            go(item)
        assert values(item) == before


def test_the_table_has_a_row_for_each_state() -> None:
    assert set(NEXT) == set(ClaimState)
    assert {state: {WAYS[way][1] for way in ways} for state, ways in ALLOWED.items()} == NEXT


@pytest.mark.parametrize(("state", "held"), [(state, bool(ALLOWED[state])) for state in ALLOWED])
def test_an_item_is_held_until_its_last_state(state: str, held: bool) -> None:
    assert in_state(state).held is held


def test_each_command_carries_the_lease() -> None:
    assert in_state("running").report(0.5, "half") == Report("job", 3, 2, 1_000.0, 0.5, "half")
    assert in_state("running").release() == Release("job", 3, 2)
    end = in_state("running").end(DONE, 2_000.0, 1.5)
    assert end == Finish("job", 3, 2, ItemState.SUCCEEDED, 1_000.0, message="well", pause_s=1.5)
    assert claimed().end(DONE, 2_000.0).started_at == 2_000.0, "it never started, so it starts where it ends"


@pytest.mark.parametrize("state", sorted(set(ALLOWED) - {"running"}))
def test_only_a_running_item_reports(state: str) -> None:
    with pytest.raises(WrongTransitionError):
        in_state(state).report(0.5)


def test_an_item_that_comes_back_can_be_sent_again() -> None:
    item = in_state("running")
    item.report()
    item.exceed_limit(1.0)
    item.overtake()
    item.take_back()
    assert (item.reported, item.exceeded_limit_s, item.worker, item.run_id) == (False, None, None, 0)
    assert (item.began_at, item.started_at) == (0.0, 0.0)
    assert item.overtaken
    other = Asked()
    item.send(8, other)
    item.stop()
    assert other == [("stop", 8)]


# -- wishes


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
def test_a_stop_asks_the_worker_that_has_the_item_once(state: str, asked: list[tuple[str, int]]) -> None:
    worker = Asked()
    item = in_state(state, worker)
    item.stop()
    item.stop()
    assert worker == asked
    assert item.stopped is item.held
    assert item.state == state, "a wish changes no state"


@pytest.mark.parametrize(
    ("state", "asked"), [("claimed", []), ("sent", [("drop", 7)]), ("running", [("drop", 7)])]
)
def test_the_loss_of_an_item_makes_its_worker_drop_it(state: str, asked: list[tuple[str, int]]) -> None:
    worker = Asked()
    in_state(state, worker).lose()
    assert worker == asked


def test_a_time_limit_stops_what_runs_and_is_not_being_stopped() -> None:
    worker = Asked()
    running, stopped, sent = in_state("running", worker), in_state("running"), in_state("sent")
    stopped.stop()
    for item in (running, stopped, sent):
        item.exceed_limit(1.5)
    assert [item.exceeded_limit_s for item in (running, stopped, sent)] == [1.5, None, None]
    assert worker == [("stop", 7)]


# -- outcomes


@pytest.mark.parametrize(
    ("wish", "done", "death"),
    [
        ("none", ("failed", "exception", False), ("failed", "worker_lost", True)),
        ("stop", ("cancelled", None, None), ("cancelled", None, None)),
        ("limit", ("failed", "time_limit_exceeded", False), ("failed", "time_limit_exceeded", False)),
    ],
)
def test_how_an_end_by_cancel_or_death_is_called(
    wish: str, done: tuple[object, ...], death: tuple[object, ...]
) -> None:
    item = in_state("running")
    if wish == "stop":
        item.stop()
    elif wish == "limit":
        item.exceed_limit(0.25)
    ends = outcome.of_done(item, protocol.Done(id=7, state="cancelled")), outcome.of_death(item, "It crashed.")
    assert [(end.state, end.error and end.error.code, end.error and end.error.transient) for end in ends] == [
        done,
        death,
    ]
    assert ends[1].message == ("Stopped by force." if wish == "stop" else None)


def test_what_ended_although_it_was_to_stop_has_ended() -> None:
    item = in_state("running")
    item.stop()
    done = protocol.Done(id=7, state="succeeded", result={"n": 1}, file="a.txt", message="all of it")
    assert outcome.of_done(item, done) == Outcome(ItemState.SUCCEEDED, None, "all of it", {"n": 1}, "a.txt")


def test_no_other_file_changes_an_item() -> None:
    own = {field.name for field in fields(ClaimedItem)} - {"worker"}
    changed = []
    for file in Path(unstuck.runner.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in own:
                changed.append((file.name, ast.unparse(node)))
    assert {file for file, _ in changed} == {"claimed_item.py"}, changed
