"""Jobs in memory in place of a store: a test decides what is cached, and when a read answers or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from unstuck.errors import JobNotFound
from unstuck.jobs.job import Item, Job, State
from unstuck.jobs.snapshot import Snapshot
from unstuck.store.protocol import Changes, CommitListener


class MemoryJobs:
    """Implements LiveJobs of store/protocol.py. Reads wait for `gate`, and the next `failures` of them fail."""

    def __init__(self, *job_ids: str) -> None:
        self.jobs = {one: Job(id=one, kind="k", name=one, total=9, waiting=9, created_at=1.0) for one in job_ids}
        self.cached = set(job_ids)
        self.reads: list[str] = []
        self.failures = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._listeners: list[CommitListener] = []

    def commit(self, *job_ids: str, done: bool = False) -> None:
        """Change these jobs and notify the listeners."""
        self.publish(self.change(*job_ids, done=done))

    def change(self, *job_ids: str, done: bool = False) -> dict[str, Job | None]:
        """Change these jobs without notifying the listeners; return what to `publish`."""
        changed: dict[str, Job | None] = {}
        for job_id in job_ids:
            before = self.jobs[job_id]
            state = State.COMPLETED if done else before.state
            changed[job_id] = self.jobs[job_id] = replace(before, seq=before.seq + 1, state=state)
        return changed

    def remove(self, job_id: str) -> None:
        """Remove this job and notify the listeners."""
        del self.jobs[job_id]
        self.publish({job_id: None})

    def publish(self, changed: Changes) -> None:
        for listener in self._listeners:
            listener(changed)

    def on_commit(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        return Snapshot(self.jobs[job_id]) if job_id in self.cached and job_id in self.jobs else None

    async def snapshot(self, job_id: str) -> Snapshot:
        """Read at once and answer later, so that the answer may be stale."""
        self.reads.append(job_id)
        job = self.jobs.get(job_id)
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("the test makes this read fail")
        if job is None:
            raise JobNotFound(job_id)
        return Snapshot(job)

    async def items(
        self,
        job_id: str,
        *,
        states: Sequence[str] = (),
        after_seq: int | None = None,
        after_index: int = -1,
        limit: int = 100,
    ) -> list[Item]:
        await asyncio.sleep(0)
        return [Item(index=0, name="0")]

    async def live_ids(self, finished_within_s: float) -> list[str]:
        return list(self.jobs)

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        return {job_id: self.jobs[job_id].seq for job_id in job_ids if job_id in self.jobs}
