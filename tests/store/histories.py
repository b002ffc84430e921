"""Histories of a store that Hypothesis generates: runners, time and restarts, in any order.

Nothing is predicted. Each reading is compared with what was read and acknowledged before it, by the rules that
users rely on (truths.py). A subclass opens the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.truths import Seen, counts_equal_the_items, follows
from tests.support.clock import Clock
from tests.support.external import reports
from unstuck.errors import JobNotDone, JobNotFound, NotExternal, UnstuckError
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.job import (
    ITEM_FINAL,
    Cancel,
    CheckHealth,
    Command,
    Fail,
    Finish,
    HealthLimits,
    Item,
    ItemState,
    Job,
    JobCommand,
    JobError,
    Lapse,
    Release,
    Renew,
    Report,
    State,
)
from unstuck.jobs.snapshot import public
from unstuck.store.database_store import DatabaseStore
from unstuck.store.protocol import JobFilter, WorkItem

T = TypeVar("T")

LEASE_S = 30.0
ALARMS = HealthLimits(waiting_long_s=60.0, stalled_s=40.0, unresponsive_s=20.0, expiry_s=2_000.0)
BROKEN = JobError("exception", "ValueError: no")
PASSING = JobError("busy", "not now", transient=True)
RUNNERS = ("alpha/1", "beta/2", "gamma/3")
#: Fields of the public job that may change although nothing happened: with the clock, or with signs of life.
PASSING_FIELDS = {"server_time", "heartbeat_at", "attempt", "progress"}


class AnyHistory(RuleBasedStateMachine):
    """A store, its jobs, and every runner that ever held an item."""

    store: DatabaseStore

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.ids = 0
        self.held: list[WorkItem] = []
        self.owner: dict[tuple[str, int], int] = {}  # {(job id, index): the newest lease}
        self.seen: dict[str, Seen] = {}
        self.shown: dict[tuple[str, int], dict[str, Any]] = {}  # {(job id, seq): the public job}
        self.removed: set[str] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # -- reading

    async def read(self, job_id: str) -> Seen:
        snapshot = await self.store.snapshot(job_id)
        items = await self.store.items(job_id, limit=100)
        shown = msgspec.to_builtins(public(snapshot, self.clock.now, ""))
        counts = {name: shown["progress"][name] for name in ("total", "succeeded", "failed", "skipped", "percent")}
        shown = {name: value for name, value in shown.items() if name not in PASSING_FIELDS}
        return Seen(snapshot.job, tuple(items), {**shown, "counts": counts})

    async def read_all(self) -> dict[str, Seen]:
        jobs = await self.store.jobs(JobFilter(), before=None, limit=100)
        for _, snapshot in jobs:
            assert await self.store.snapshot(snapshot.job.id) == snapshot, "the cached snapshot is wrong"
        return {snapshot.job.id: await self.read(snapshot.job.id) for _, snapshot in jobs}

    def live(self) -> list[str]:
        return [job_id for job_id, one in self.seen.items() if not one.job.done]

    # -- submissions and operators

    def new_job(self, total: int, **more: Any) -> tuple[Job, list[Item]]:
        self.ids += 1
        job = Job(
            id=str(UUID(int=self.ids)),
            kind="k",
            name="n",
            total=total,
            waiting=total,
            created_at=self.clock.now,
            **more,
        )
        return job, [Item(index=index, name=f"{index}") for index in range(total)]

    @initialize()
    def submit_first_job(self) -> None:
        self.submit_some(3)

    @rule(
        total=st.integers(1, 4),
        priority=st.integers(0, 1),
        attempts=st.integers(1, 3),
        errors=st.none() | st.integers(0, 1),
        deadline=st.none() | st.just(100.0),
    )
    def submit(self, total: int, priority: int, attempts: int, errors: int | None, deadline: float | None) -> None:
        at = None if deadline is None else self.clock.now + deadline
        if len(self.seen) < 4:
            self.submit_some(total, priority=priority, max_attempts=attempts, max_errors=errors, deadline_at=at)

    @rule(total=st.integers(0, 3), errors=st.none() | st.integers(0, 1))
    def submit_external(self, total: int, errors: int | None) -> None:
        if len(self.seen) < 4:
            percent = 0.0 if total else None
            more = {"external": True, "counted": not total, "open_end": not total, "percent": percent}
            self.submit_some(total, max_errors=errors, **more)

    def submit_some(self, total: int, **more: Any) -> None:
        job, items = self.new_job(total, **more)
        assert self.run(self.store.create(job, items)) == job
        assert job.id in self.run(self.read_all())

    @rule(data=st.data())
    @precondition(lambda self: self.seen)
    def job_command(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.seen)))
        commands: list[Command] = [Cancel(job_id), Fail(job_id, BROKEN), CheckHealth(job_id, ALARMS)]
        self.attempt(data.draw(st.sampled_from(commands)))

    @rule(data=st.data(), run=st.lists(reports, min_size=1, max_size=5))
    @precondition(lambda self: self.seen)
    def report(self, data: st.DataObject, run: list[ExternalReport]) -> None:
        """Send reports to any job in one transaction."""
        job_id = data.draw(st.sampled_from(sorted(self.seen)))
        before = self.seen[job_id].job
        result = self.run(self.store.report(job_id, run))
        assert (result.refusal is None) == (result.accepted == len(run))
        assert before.external or isinstance(result.refusal, NotExternal)
        assert not before.done or self.run(self.read(job_id)) == self.seen[job_id]

    @rule(data=st.data())
    @precondition(lambda self: self.seen)
    def remove(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.seen)))
        done = self.seen[job_id].job.done
        try:
            self.run(self.store.remove(job_id))
            assert done, "an unfinished job was removed"
            self.removed.add(job_id)
        except JobNotDone:
            assert not done

    @rule(data=st.data())
    @precondition(lambda self: any(one.job.done for one in self.seen.values()))
    def all_at_once(self, data: st.DataObject) -> None:
        """Remove, submit and claim in one commit, in which the new job may take the old one's row."""
        old = data.draw(st.sampled_from(sorted(one.job.id for one in self.seen.values() if one.job.done)))
        job, items = self.new_job(2)

        async def together() -> list[WorkItem]:
            late, store = Report(old, 0, 1, self.clock.now), self.store
            answers = await asyncio.gather(
                store.apply([late]),
                store.remove(old),
                store.create(job, items),
                store.claim(100, LEASE_S, "alpha/1"),
            )
            return answers[3]

        self.take(self.run(together()))
        self.removed.add(old)
        assert sum(job_id == job.id for job_id, _ in self.owner) == 2

    # -- runners

    @rule(limit=st.integers(1, 4), runner=st.sampled_from(RUNNERS))
    def claim(self, limit: int, runner: str) -> None:
        claimed = self.run(self.store.claim(limit, LEASE_S, runner))
        assert len(claimed) <= limit
        assert all(one.item.worker == runner for one in claimed)
        self.take(claimed)

    def take(self, claimed: list[WorkItem]) -> None:
        for one in claimed:
            key = (one.job_id, one.item.index)
            before = self.seen.get(one.job_id)
            if before is not None:
                assert before.items[one.item.index].lease_until is None, "the item was leased already"
            assert one.item.lease > self.owner.get(key, 0)
            self.owner[key] = one.item.lease
        self.held += claimed

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def runner_command(self, data: st.DataObject) -> None:
        """Apply a command of any runner that ever held an item, in time or long after."""
        self.attempt(self.any_command(data))

    @rule(data=st.data(), count=st.integers(2, 6))
    @precondition(lambda self: self.held)
    def runner_commands_at_once(self, data: st.DataObject, count: int) -> None:
        commands = [self.any_command(data) for _ in range(count)]
        self.run(self.store.apply(commands))

    def any_command(self, data: st.DataObject) -> Command:
        one = data.draw(st.sampled_from(self.held[-8:]))
        job_id, index, lease, now = one.job_id, one.item.index, one.item.lease, self.clock.now
        if data.draw(st.booleans()):
            state = data.draw(st.sampled_from(sorted(ITEM_FINAL)))
            error = data.draw(st.sampled_from([BROKEN, PASSING])) if state == "failed" else None
            pause_s = data.draw(st.sampled_from([0.0, 5.0]))
            result = {"lease": lease} if state == "succeeded" else None
            return Finish(job_id, index, lease, state, now, error, result=result, pause_s=pause_s)
        others: list[Command] = [
            Renew(job_id, index, lease, LEASE_S),
            Report(job_id, index, lease, now, data.draw(st.sampled_from([None, 0.3, 0.7]))),
            Release(job_id, index, lease),
            Lapse(job_id, index, lease, "an operator says so", forced=data.draw(st.booleans())),
        ]
        return data.draw(st.sampled_from(others))

    def attempt(self, command: Command) -> None:
        before = self.seen.get(command.job_id)
        (outcome,) = self.run(self.store.apply([command]))
        if before is None:
            assert isinstance(outcome, JobNotFound)
            return
        after = self.run(self.read(command.job_id))
        if not isinstance(command, JobCommand):
            item = before.items[command.index]
            stale = item.lease != command.lease or item.lease_until is None or before.job.done
            assert not stale or isinstance(outcome, UnstuckError), "a stale lease must be refused"
        if isinstance(outcome, UnstuckError):
            assert (after.job, after.items) == (before.job, before.items), "a refusal changes nothing"
        else:
            assert after.job == outcome, "the acknowledged job differs from the stored one"

    # -- time

    @rule(seconds=st.sampled_from([1.0, 12.0, 31.0, 90.0]), data=st.data(), everything=st.booleans())
    def time_passes(self, seconds: float, data: st.DataObject, everything: bool) -> None:
        self.clock.now += seconds
        kept = [one for one in self.held[-8:] if data.draw(st.booleans())]
        renewals = [Renew(one.job_id, one.item.index, one.item.lease, LEASE_S) for one in kept]
        swept = self.store.sweep(ALARMS, renewals, ended="an earlier run" if everything else None)
        for job_id, index, _ in swept.lapsed:
            assert self.seen[job_id].items[index].lease_until is not None
        if everything and self.store.ALONE:
            assert all(
                item.lease_until is None for one in self.run(self.read_all()).values() for item in one.items
            )

    # -- invariants

    @invariant()
    def nothing_is_undone(self) -> None:
        now = self.run(self.read_all())
        for job_id, before in self.seen.items():
            if job_id in self.removed:
                assert job_id not in now
                continue
            follows(before, now[job_id])
        for job_id, one in now.items():
            assert self.shown.setdefault((job_id, one.job.seq), one.shown) == one.shown, "one seq, two states"
        self.seen = now

    @invariant()
    def counts_equal_the_items(self) -> None:
        for one in self.seen.values():
            counts_equal_the_items(one)

    @invariant()
    def one_owner_at_a_time(self) -> None:
        for job_id, one in self.seen.items():
            for item in one.items:
                if item.lease_until is not None:
                    assert item.lease == self.owner[job_id, item.index], "the item is held under an old lease"

    @invariant()
    def the_timeline_knows_each_state(self) -> None:
        for job_id, one in self.seen.items():
            entries = [entry for entry in self.run(self.store.timeline(job_id)) if entry.index is None]
            states = [entry.text for entry in entries if entry.what == "state"]
            assert entries[0].what == "submitted"
            assert (states or ["queued"])[-1] == one.job.state
            assert ("running" in states) == (one.job.started_at is not None)
            assert any(entry.what == "cancel_requested" for entry in entries) == one.job.cancel_requested

    def teardown(self) -> None:
        """Check that every job can still end, whatever happened."""
        for _ in range(2):  # a lease that was not ended at once lapses by time
            self.store.sweep(ALARMS, ended="an earlier run")
            self.clock.now += 60.0  # longer than any lease or pause
        while claimed := self.run(self.store.claim(100, LEASE_S, "the last one")):
            ends = [
                Finish(one.job_id, one.item.index, one.item.lease, ItemState.SUCCEEDED, 0.0) for one in claimed
            ]
            assert all(isinstance(outcome, Job) for outcome in self.run(self.store.apply(ends)))
        for job_id, one in self.run(self.read_all()).items():
            if not one.job.done:
                assert one.job.external, "the last runner could not claim its items"
                assert self.run(self.store.report(job_id, [ExternalReport(state=State.COMPLETED)])).refusal is None
        ended = self.run(self.read_all())
        assert all(one.job.done for one in ended.values())
        self.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def close(self) -> None:
        self.run(self.store.close())
