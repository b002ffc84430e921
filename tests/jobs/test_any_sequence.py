"""`decide` under any sequence of commands that Hypothesis generates."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.bench import BROKEN, PASSING, Bench
from unstuck.errors import Refused
from unstuck.jobs.decide import NEXT, Change
from unstuck.jobs.job import (
    ITEM_FINAL,
    Cancel,
    CheckHealth,
    Command,
    Fail,
    Finish,
    HealthLimits,
    ItemState,
    Job,
    Lapse,
    Release,
    Renew,
    Report,
)


class AnySequence(RuleBasedStateMachine):
    """Commands in any order, from runners with current and outdated leases."""

    @initialize(total=st.integers(1, 5), attempts=st.integers(1, 3), errors=st.none() | st.integers(0, 2))
    def submit(self, total: int, attempts: int, errors: int | None) -> None:
        self.bench = Bench(total, max_attempts=attempts, max_errors=errors)
        self.percent = 0.0
        self.final: Job | None = None

    def attempt(self, command: Command) -> None:
        before = self.bench.job
        self.bench.now += 0.5
        try:
            change = self.bench.take(command)
        except Refused:
            assert self.bench.job is before
            return
        self.check(before, change)

    def check(self, before: Job, change: Change) -> None:
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
        commands: list[Command] = [
            Renew("j", index, lease, 30.0),
            Report("j", index, lease, self.bench.now, fraction),
            Finish(
                "j",
                index,
                lease,
                state,
                self.bench.now,
                error=error if state == "failed" else None,
                pause_s=data.draw(st.sampled_from([0.0, 1.0, 60.0])),
            ),
            Release("j", index, lease),
            Lapse("j", index, lease, "silent", forced=data.draw(st.booleans())),
        ]
        self.attempt(data.draw(st.sampled_from(commands)))

    @rule(data=st.data())
    @precondition(lambda self: self.bench.claimable())
    def claim(self, data: st.DataObject) -> None:
        before, found = self.bench.job, self.bench.claimable()
        indexes = data.draw(st.lists(st.sampled_from(found), min_size=1, unique=True))
        self.bench.now += 0.5
        self.check(before, self.bench.claim(*indexes))

    @rule(data=st.data())
    @precondition(lambda self: self.bench.now > 105)
    def end_early(self, data: st.DataObject) -> None:
        commands: list[Command] = [Cancel("j"), Fail("j", BROKEN)]
        self.attempt(data.draw(st.sampled_from(commands)))

    @rule(seconds=st.sampled_from([1.0, 25.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds
        self.attempt(CheckHealth("j", HealthLimits(expiry_s=2_000.0)))

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
    def a_pausing_item_is_not_leased(self) -> None:
        assert all(item.not_before is None or item.lease_until is None for item in self.bench.items)

    @invariant()
    def final_stays_final(self) -> None:
        if self.final is not None:
            assert self.bench.job == self.final
        if self.bench.job.done:
            self.final = self.bench.job

    def teardown(self) -> None:
        """Check that the job can still end, whatever happened."""
        bench = self.bench
        for index, item in enumerate(bench.items):
            if item.lease_until is not None:
                bench.take(Release("j", index, item.lease))
        bench.now += 60  # the longest pause
        for index, item in enumerate(bench.items):
            if not bench.job.done and item.state is ItemState.PENDING:
                bench.work(index)
        assert bench.job.done


TestAnySequence = AnySequence.TestCase
