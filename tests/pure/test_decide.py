"""The gate: single commands, the rules in prose of decide.py, and any sequence that Hypothesis thinks of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unstuck.decide import ITEM_NEXT, NEXT, Change, decide
from unstuck.errors import JobFinished, LeaseLost, NotFound, Refused
from unstuck.job import (
    FINAL,
    ITEM_FINAL,
    Cancel,
    Claim,
    Finish,
    Item,
    ItemState,
    Job,
    Problem,
    Release,
    Renew,
    Report,
    State,
)

BROKEN = Problem("exception", "ValueError: no")
PASSING = Problem("worker_lost", "crashed", transient=True)


def job_of(total: int, **more: object) -> Job:
    return Job(id="j", kind="k", name="n", total=total, waiting=total, created_at=0.0, **more)  # type: ignore[arg-type]


class Bench:
    """One job and its items, changed by `decide` alone, as a store would."""

    def __init__(self, total: int, **more: object) -> None:
        self.job = job_of(total, **more)
        self.items = [Item(index=index, name=f"{index}.csv") for index in range(total)]
        self.now = 100.0

    def take(self, command: object) -> Change:
        index = getattr(command, "index", None)
        change = decide(self.job, command, self.now, None if index is None else self.items[index])  # type: ignore[arg-type]
        self.job = change.job
        if change.item is not None:
            self.items[change.item.index] = change.item
        if change.cancels_waiting:
            self.items = [
                replace(item, state=ItemState.CANCELLED)
                if item.state is ItemState.PENDING and item.lease_until is None
                else item
                for item in self.items
            ]
        return change

    def claim(self, index: int) -> None:
        self.take(Claim("j", index, 30.0))

    def finish(self, index: int, state: str = "succeeded", error: Problem | None = None) -> None:
        lease = self.items[index].lease
        self.take(Finish("j", index, lease, ItemState(state), self.now, error=error))

    def work(self, index: int, state: str = "succeeded", error: Problem | None = None) -> None:
        self.claim(index)
        self.finish(index, state, error)


def test_final_states_have_no_way_out() -> None:
    assert set(NEXT) == set(State)
    assert set(ITEM_NEXT) == set(ItemState)
    assert {state for state in State if not NEXT[state]} == FINAL
    assert {state for state in ItemState if not ITEM_NEXT[state]} == ITEM_FINAL


def test_all_succeeded_or_skipped_is_completed() -> None:
    bench = Bench(2)
    bench.work(0)
    assert (bench.job.state, bench.job.percent) == (State.RUNNING, 50.0)
    bench.work(1, "skipped")
    assert (bench.job.state, bench.job.done, bench.job.percent) == (State.COMPLETED, True, 100.0)


def test_some_failed_is_completed_with_errors() -> None:
    bench = Bench(2)
    bench.work(0)
    bench.work(1, "failed", BROKEN)
    assert bench.job.state is State.COMPLETED_WITH_ERRORS
    assert bench.job.error is None


@pytest.mark.parametrize("other", ["failed", "skipped"])
def test_failed_where_nothing_succeeded(other: str) -> None:
    bench = Bench(2)
    bench.work(0, other, BROKEN if other == "failed" else None)
    bench.work(1, "failed", BROKEN)
    assert bench.job.state is State.FAILED
    assert bench.job.error is not None
    assert bench.job.error.code == "all_items_failed"


def test_the_only_item_says_why() -> None:
    bench = Bench(1)
    bench.work(0, "failed", BROKEN)
    assert bench.job.error == Problem("all_items_failed", BROKEN.message)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_finished_job_takes_no_command(state: State) -> None:
    job = replace(job_of(1), state=state)
    item = Item(index=0, name="a", lease=1, lease_until=9.0)
    finish = Finish("j", 0, 1, ItemState.SUCCEEDED, 0.0)
    commands = [Claim("j", 0, 1.0), Renew("j", 0, 1, 1.0), Report("j", 0, 1, 0.0), finish, Release("j", 0, 1)]
    for command in [*commands, Cancel("j")]:
        with pytest.raises(JobFinished):
            decide(job, command, 1.0, item)


def test_an_outdated_lease_is_refused() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Release("j", 0, 1))
    bench.claim(0)
    assert bench.items[0].lease == 2
    for command in (Report("j", 0, 1, 0.0), Finish("j", 0, 1, ItemState.SUCCEEDED, 0.0), Release("j", 0, 1)):
        with pytest.raises(LeaseLost):
            bench.take(command)
    with pytest.raises(LeaseLost):
        bench.claim(0)


def test_unknown_item() -> None:
    with pytest.raises(NotFound):
        decide(job_of(1), Claim("j", 7, 1.0), 0.0, None)


def test_an_item_cannot_end_as_running() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Report("j", 0, 1, 100.0))
    with pytest.raises(Refused):
        bench.finish(0, "pending")


def test_transient_failures_use_up_the_attempts() -> None:
    bench = Bench(1, max_attempts=2)
    bench.work(0, "failed", PASSING)
    assert (bench.items[0].state, bench.job.waiting, bench.job.attempt) == (ItemState.PENDING, 1, 1)
    bench.work(0, "failed", PASSING)
    assert (bench.items[0].state, bench.items[0].error, bench.job.attempt) == (ItemState.FAILED, PASSING, 2)
    assert bench.job.state is State.FAILED


def test_a_release_costs_no_attempt() -> None:
    bench = Bench(1, max_attempts=1)
    bench.claim(0)
    bench.take(Report("j", 0, 1, 100.0, 0.5))
    bench.take(Release("j", 0, 1))
    assert (bench.items[0].attempt, bench.items[0].state, bench.job.partial) == (0, ItemState.PENDING, 0.0)
    assert bench.job.percent == 50.0, "what was shown is never taken back"
    bench.work(0)
    assert bench.job.state is State.COMPLETED


def test_cancel_ends_what_waits_at_once_and_the_rest_when_it_stopped() -> None:
    bench = Bench(3)
    bench.work(0)
    bench.claim(1)
    change = bench.take(Cancel("j"))
    assert change.cancels_waiting
    assert (bench.job.state, bench.job.cancel_requested) == (State.RUNNING, True)
    with pytest.raises(Refused):
        bench.claim(2)
    bench.finish(1, "cancelled")
    assert (bench.job.state, bench.job.succeeded, bench.job.cancelled) == (State.CANCELLED, 1, 2)
    assert bench.job.percent is not None
    assert bench.job.percent < 100


def test_cancel_twice_changes_nothing_more() -> None:
    bench = Bench(2)
    bench.claim(0)
    bench.take(Cancel("j"))
    seq = bench.job.seq
    assert not bench.take(Cancel("j")).visible
    assert bench.job.seq == seq


def test_cancel_of_a_queued_job_is_final_at_once() -> None:
    bench = Bench(2)
    bench.take(Cancel("j"))
    assert (bench.job.state, bench.job.cancelled) == (State.CANCELLED, 2)


def test_what_was_worked_off_before_the_stop_is_finished_not_cancelled() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Cancel("j"))
    bench.finish(0)
    assert bench.job.state is State.COMPLETED


def test_a_transient_failure_of_a_job_being_stopped_is_cancelled() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Cancel("j"))
    bench.finish(0, "failed", PASSING)
    assert (bench.items[0].state, bench.job.state) == (ItemState.CANCELLED, State.CANCELLED)


def test_nobody_asked_to_cancel() -> None:
    bench = Bench(1)
    bench.claim(0)
    with pytest.raises(Refused):
        bench.finish(0, "cancelled")


def test_too_many_errors_stop_the_job() -> None:
    bench = Bench(10, max_errors=1)
    bench.claim(9)
    bench.work(0, "failed", BROKEN)
    assert bench.job.error is None
    bench.work(1, "failed", BROKEN)
    assert (bench.job.state, bench.job.waiting) == (State.RUNNING, 0), "item 9 still runs"
    bench.finish(9)
    assert bench.job.state is State.FAILED
    assert bench.job.error is not None
    assert bench.job.error.code == "too_many_errors"
    assert (bench.job.succeeded, bench.job.failed, bench.job.cancelled) == (1, 2, 7)


def test_claims_and_renewals_are_not_seen() -> None:
    bench = Bench(2)
    bench.claim(0)
    seq = bench.job.seq
    bench.claim(1)
    bench.take(Renew("j", 0, 1, 60.0))
    assert bench.job.seq == seq
    assert bench.items[0].lease_until == 160.0


def test_progress_within_an_item_moves_the_bar_and_never_back() -> None:
    bench = Bench(1)
    bench.claim(0)
    shown = []
    for fraction in (0.25, 0.1, None, 0.5, 1.0):
        bench.now += 1
        bench.take(Report("j", 0, 1, 100.0, fraction))
        shown.append(bench.job.percent)
    assert shown == [25.0, 25.0, 25.0, 50.0, 99.9]
    bench.finish(0)
    assert (bench.job.percent, bench.job.partial) == (100.0, 0.0)


class AnySequence(RuleBasedStateMachine):
    """Commands in any order, from runners that hold right, wrong and old leases."""

    @initialize(total=st.integers(1, 5), attempts=st.integers(1, 3), errors=st.none() | st.integers(0, 2))
    def submit(self, total: int, attempts: int, errors: int | None) -> None:
        self.bench = Bench(total, max_attempts=attempts, max_errors=errors)
        self.percent = 0.0
        self.final: Job | None = None

    def attempt(self, command: object) -> None:
        before = self.bench.job
        self.bench.now += 0.5
        try:
            change = self.bench.take(command)
        except Refused:
            assert self.bench.job is before
            return
        assert not before.done, "nothing changes after the end"
        assert change.visible == (change.job.seq == before.seq + 1)
        assert change.visible or change.job.seq == before.seq
        after = change.job.state
        assert after is before.state or after in NEXT[before.state]

    @rule(data=st.data())
    def command(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.bench.job.total - 1))
        lease = self.bench.items[index].lease - data.draw(st.sampled_from([0, 0, 0, 1]))
        fraction = data.draw(st.none() | st.floats(-1, 2))
        error = data.draw(st.sampled_from([BROKEN, PASSING]))
        state = data.draw(st.sampled_from(list(ItemState)))
        commands = [
            Claim("j", index, 30.0),
            Renew("j", index, lease, 30.0),
            Report("j", index, lease, self.bench.now, fraction),
            Finish("j", index, lease, state, self.bench.now, error=error if state == "failed" else None),
            Release("j", index, lease),
        ]
        self.attempt(data.draw(st.sampled_from(commands)))

    @rule()
    @precondition(lambda self: self.bench.now > 105)
    def cancel(self) -> None:
        self.attempt(Cancel("j"))

    @invariant()
    def counts_equal_the_items(self) -> None:
        job, items = self.bench.job, self.bench.items
        for state in ITEM_FINAL:
            assert getattr(job, state.value) == sum(item.state is state for item in items)
        held = [item for item in items if item.lease_until is not None]
        assert job.leased == len(held)
        assert job.waiting == sum(i.state is ItemState.PENDING and i.lease_until is None for i in items)
        assert all(item.state in (ItemState.PENDING, ItemState.RUNNING) for item in held)
        assert job.partial == pytest.approx(sum(i.progress or 0 for i in held if i.state == "running"), abs=1e-6)

    @invariant()
    def done_exactly_when_nothing_is_left(self) -> None:
        job = self.bench.job
        assert job.done == (job.waiting == 0 and job.leased == 0)
        assert (job.finished_at is not None) == job.done

    @invariant()
    def the_bar_never_goes_back(self) -> None:
        job = self.bench.job
        assert job.percent is not None
        assert job.percent >= self.percent
        assert job.done or job.percent < 100
        self.percent = job.percent

    @invariant()
    def final_stays_final(self) -> None:
        if self.final is not None:
            assert self.bench.job == self.final
        if self.bench.job.done:
            self.final = self.bench.job

    def teardown(self) -> None:
        """Whatever happened, the job can still end."""
        bench = self.bench
        for index, item in enumerate(bench.items):
            if item.lease_until is not None:
                bench.take(Release("j", index, item.lease))
        for index, item in enumerate(bench.items):
            if not bench.job.done and item.state is ItemState.PENDING:
                bench.work(index)
        assert bench.job.done


TestAnySequence = AnySequence.TestCase
