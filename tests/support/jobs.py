"""Put jobs into a store without a server, and finish their items."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.support.waiting import soon
from unstuck.jobs.job import Finish, Item, ItemState, Job, JobError
from unstuck.store.database_store import DatabaseStore
from unstuck.store.protocol import WorkItem


async def submitted(store: DatabaseStore, total: int = 3, *, kind: str = "checksum", **more: Any) -> str:
    """Create a job with `total` items named `0.csv`, `1.csv`, …; return its id. `more` are fields of the job."""
    fields = {"created_at": 1_000_000.0, "name": f"{total} files", **more}
    job = Job(id=str(uuid4()), kind=kind, total=total, waiting=total, **fields)
    await store.create(job, [Item(index=index, name=f"{index}.csv", size=index) for index in range(total)])
    return job.id


async def until_done(store: DatabaseStore, job_id: str) -> Job:
    """Wait until the job is done, and return it."""

    async def done() -> Job | None:
        job = (await store.snapshot(job_id)).job
        return job if job.done else None

    return await soon(done)


def finish(
    claimed: WorkItem, state: str = "succeeded", error: JobError | None = None, pause_s: float = 0.0
) -> Finish:
    """Return the command that ends this item with its index as the result."""
    item = claimed.item
    result = {"n": item.index}
    return Finish(
        claimed.job_id, item.index, item.lease, ItemState(state), 1.0, error, result=result, pause_s=pause_s
    )
