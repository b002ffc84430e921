"""Jobs with files in a data folder, without a server."""

from __future__ import annotations

from uuid import uuid4

from tests.support.jobs import finish
from unstuck.files.folder import DataFolder
from unstuck.jobs.job import Item, Job
from unstuck.store.sqlite import SQLiteStore


async def uploaded(store: SQLiteStore, folder: DataFolder, total: int) -> str:
    """Create a job with inputs, as a submission does; return its id."""
    job_id = str(uuid4())
    items = [Item(index=n, name=f"{n}.csv", file=f"{n:05d}.csv") for n in range(total)]
    folder.identity = store.identity
    folder.begin(job_id)
    for item in items:
        folder.input(job_id, str(item.file)).write_text("a")
    await store.create(Job(id=job_id, kind="k", name="n", total=total, waiting=total, created_at=1.0), items)
    folder.keep(job_id)
    return job_id


async def finished(store: SQLiteStore, folder: DataFolder, total: int = 2) -> str:
    job_id = await uploaded(store, folder, total)
    await store.apply([finish(one) for one in await store.claim(total, 30.0)])
    assert (await store.snapshot(job_id)).job.done
    return job_id
