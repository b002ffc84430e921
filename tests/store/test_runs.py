"""Commands applied in one call leave what the same commands leave one by one: runs of successes change nothing.

Two stores get the same jobs, claims and commands, as Hypothesis draws them. Each batch goes to one of them in one
call, and is applied to the other command by command; then everything that can be seen of both is compared.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.clock import Clock
from unstuck.jobs.job import Cancel, Command, Finish, Health, Item, ItemState, Job, JobError, Release, Report
from unstuck.store.protocol import Outcome, WorkItem
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.transaction import Transaction, Work

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
TOTALS = (1, 4, 8)
BROKEN = JobError("exception", "ValueError: no")
BUSY = JobError("busy", "not now", transient=True)

#: What happens to a claimed item: mostly successes, so that there are runs to break.
ACTIONS = (
    "success", "success", "success", "success", "success with a result", "success with words",
    "success twice", "report and success", "report", "success with an error", "failure", "another attempt",
        "outdated", "release", "cancel",
)  # fmt: skip


class Batch(NamedTuple):
    """Claims, what happens to each claimed item, and how much later."""

    claimed: int
    actions: list[str]
    grouped: bool
    seconds: float


batches = st.builds(
    Batch,
    claimed=st.sampled_from([3, 12]),
    # By a seed: drawn one by one, the rarer actions hardly occur in so few examples.
    actions=st.integers(0, 9_999).map(lambda seed: Random(seed).choices(ACTIONS, k=12)),
    grouped=st.booleans(),
    seconds=st.sampled_from([0.0, 0.5, 7.0]),
)


def commands_for(one: WorkItem, action: str, now: float) -> list[Command]:
    where = (one.job_id, one.item.index, one.item.lease)
    half = Report(*where, now - 1, 0.5, "half of it")
    success = Finish(*where, ItemState.SUCCEEDED, now - 1)
    match action:
        case "success with a result":
            return [replace(success, result={"n": one.item.index}, result_file="result.csv")]
        case "success with words":
            return [replace(success, message="all rows")]
        case "success with an error":
            return [replace(success, error=BROKEN)]
        case "success twice":
            return [success, success]
        case "report and success":
            return [half, success]
        case "report":
            return [half]
        case "failure":
            return [replace(success, state=ItemState.FAILED, error=BROKEN)]
        case "another attempt":
            return [replace(success, state=ItemState.FAILED, error=BUSY)]
        case "outdated":
            return [replace(success, lease=one.item.lease - 1)]
        case "release":
            return [Release(*where)]
        case "cancel":
            return [success, Cancel(one.job_id)]
    return [success]


class Side:
    """One of the two stores, and what its listeners were told last."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.store = SQLiteStore(path, clock=clock)
        self.told: dict[str, Job | None] = {}
        self.store.on_commit(self._listen)

    def _listen(self, changed: Mapping[str, Job | None] | None) -> None:
        assert changed is not None
        self.told.update(changed)

    async def state_of(self, job_id: str) -> dict[str, Any]:
        cached = await self.store.snapshot(job_id)
        self.store._snapshots.drop_outdated([job_id], {})  # so that it is read
        snapshot = await self.store.snapshot(job_id)
        assert cached == snapshot, "the cached snapshot is not what a read returns"
        told = self.told.get(job_id)
        assert told is None or told.seq == snapshot.job.seq
        job = snapshot.job
        return {
            "job": replace(job, meter=replace(job.meter, work=0.0)),
            "work": pytest.approx(job.meter.work),  # the same numbers, added up in another order
            "running": snapshot.running,
            "errors": snapshot.item_errors,
            "items": await self.store.items(job_id),
            "timeline": await self.store.timeline(job_id),
            "told": None if told is None else told.seq,
        }


async def play(history: Sequence[Batch], max_errors: int | None, folder: Path) -> None:
    clock = Clock()
    together, one_by_one = sides = [Side(folder / f"{name}.db", clock) for name in ("together", "one_by_one")]
    ids = [str(UUID(int=number)) for number in range(len(TOTALS))]
    for side in sides:
        await side.store.open()
        for job_id, total in zip(ids, TOTALS, strict=True):
            job = Job(job_id, "k", "n", total, total, clock.now, max_errors=max_errors, health=Health.WAITING_LONG)
            await side.store.create(job, [Item(index=index, name=f"{index}") for index in range(total)])
    for batch in history:
        claimed = await together.store.claim(batch.claimed, 60.0, "w")
        assert claimed == await one_by_one.store.claim(batch.claimed, 60.0, "w")
        clock.now += batch.seconds
        for side in sides:  # half of what was claimed shows in the snapshot as running
            await side.store.apply([Report(o.job_id, o.item.index, o.item.lease, 1.0, 0.25) for o in claimed[::2]])
            for job_id in ids:
                await side.store.snapshot(job_id)  # cached from here on
        commands = [
            command
            for one, action in zip(claimed, batch.actions, strict=False)
            for command in commands_for(one, action, clock.now)
        ]
        if not batch.grouped:
            commands = [*commands[::2], *commands[1::2]]
        found = await together.store.apply(commands)
        # Each by `decide` itself: a call with one command would be a run of one.
        expected = await one_by_one.store._write(Work(partial(applied_one_by_one, commands)))
        assert list(map(kind_of, found)) == list(map(kind_of, expected))
        for job_id in ids:
            assert await together.state_of(job_id) == await one_by_one.state_of(job_id)
    for side in sides:
        await side.store.close()


def applied_one_by_one(commands: Sequence[Command], transaction: Transaction) -> list[Outcome]:
    return [transaction.try_apply(command) for command in commands]


def kind_of(outcome: Outcome) -> Any:
    return Job if isinstance(outcome, Job) else (type(outcome), str(outcome))


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(history=st.lists(batches, min_size=1, max_size=3), max_errors=st.none() | st.integers(0, 1))
def test_a_batch_leaves_what_its_commands_leave_one_by_one(history: list[Batch], max_errors: int | None) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        asyncio.run(play(history, max_errors, Path(folder)))
