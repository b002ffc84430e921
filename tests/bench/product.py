"""The server under measurement: the real app, with one job that changes at a steady rate from inside.

    python -m tests.bench.product PORT DATA RATE

Everything is real: each change is decided, committed with synchronous=FULL, read by the hub and sent. It prints
the path of the job's stream when it is ready. Must not know: who listens, or what is measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from uuid import uuid4

from unstuck.app import create_app
from unstuck.job import Item, Job, Report
from unstuck.routes import Parts
from unstuck.serve import listen, run
from unstuck.settings import load


async def change(parts: Parts, rate: float) -> None:
    """One job, one item that never ends, and `rate` changes a second, each due at its time."""
    job_id = str(uuid4())
    job = Job(id=job_id, kind="checksum", name="bench", total=1, waiting=1, created_at=time.time())
    await parts.store.create(job, [Item(index=0, name="a-file-of-some-name.csv")])
    while not (claimed := await parts.store.claim(1, 1e9)):
        await asyncio.sleep(0.01)
    item = claimed[0].item
    print(f"/api/jobs/{job_id}/events?items=0", flush=True)
    due, count = time.monotonic(), 0
    while rate > 0:
        count += 1
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        fraction = count % 1_000_000 / 1_000_000
        await parts.store.apply([Report(job_id, 0, item.lease, time.time(), fraction, f"row {count}")])


def main(port: str, data: str, rate: str) -> None:
    """See the module."""
    given = {"port": int(port), "data": data, "workers": 1, "stream_life_s": 1e6, "lease_s": 1e6}
    settings = load(given, {})
    app = create_app(settings)
    running = []

    def ready() -> None:
        # The one worker would take the item: it is claimed before its loop has a turn.
        running.append(asyncio.get_running_loop().create_task(change(app.state.parts, float(rate))))

    run(app, settings, listen(settings), ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
