"""Runs a server with one large job that changes at a steady rate, for page.py.

    python -m tests.bench.crowd PORT DATA ITEMS RATE SECONDS

The app is the real one. This program holds the items: it reports on forty at a time and finishes them (one in
twenty fails), at RATE changes a second, so that some are still left after SECONDS. It prints the job's id when
it is ready. It must not know what is measured.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from uuid import uuid4

from unstuck.api.context import Services
from unstuck.app import create_app
from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, JobError, Report
from unstuck.serve import listen, run
from unstuck.settings import load
from unstuck.store.protocol import WorkItem

AT_A_TIME = 40
TICK_S = 0.05
#: The share of items that may be done in the end.
MOST_DONE = 0.95


async def change(parts: Services, items: int, rate: float, seconds: float) -> None:
    """Submit the job, print its id, and change it until its items are done."""
    job_id = str(uuid4())
    job = Job(id=job_id, kind="checksum", name="A large job", total=items, waiting=items, created_at=time.time())
    await parts.store.create(job, [Item(index=n, name=f"measurements/{n:05d}.csv") for n in range(items)])
    waiting = list(reversed(await parts.store.claim(items, 1e6, "worker 1")))
    print(job_id, flush=True)
    each = math.ceil(rate * seconds / (items * MOST_DONE))  # changes per item
    running: list[tuple[WorkItem, int]] = []
    due = time.monotonic()
    while waiting:
        due += TICK_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        commands: list[Command] = []
        for _ in range(round(rate * TICK_S)):
            one, count = running.pop(0) if len(running) >= AT_A_TIME or not waiting else (waiting.pop(), 0)
            commands.append(_changed(one, count, each))
            if count < each:
                running.append((one, count + 1))
        await parts.store.apply(commands)


def _changed(one: WorkItem, count: int, each: int) -> Command:
    now, item = time.time(), one.item
    where = (one.job_id, item.index, item.lease)
    if count < each:
        return Report(*where, now, count / each, f"row {count * 1_000}")
    if item.index % 20:
        return Finish(*where, ItemState.SUCCEEDED, now, result={"rows": item.index})
    return Finish(
        *where, ItemState.FAILED, now, error=JobError("broken", f"Row {item.index} has 3 columns, not 2.")
    )


def main(port: str, data: str, items: str, rate: str, seconds: str) -> None:
    """Serve until stopped."""
    given = {"port": int(port), "data": data, "workers": 1, "lease_s": 1e6}
    settings = load(given, {})
    app = create_app(settings)
    running = []

    def ready() -> None:
        life = change(app.state.services, int(items), float(rate), float(seconds))
        running.append(asyncio.get_running_loop().create_task(life))

    run(app, settings, listen(settings), ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
