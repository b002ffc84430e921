"""Runs the server that is measured: the real app, with jobs that change at a steady rate from inside.

    python -m tests.bench.product PORT DATA JOBS      (any setting by its UNSTUCK_ variable)

Everything is real: each change is decided, committed with synchronous=FULL, passed to the hub and sent. The
program prints the paths of the jobs' streams when it is ready. It takes the order of broadcast.c, with the rate
of each job, and `finish`, which ends all jobs; `probe`, which starts recording the delay of the event loop; and
`report FILE`, which writes the delays and when each change was due. It must not know what watches, or what is
measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.bench.orders import Publish, read_orders
from unstuck.api.context import Services
from unstuck.app import create_app
from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, Report
from unstuck.serve import listen, run
from unstuck.settings import load
from unstuck.store.protocol import WorkItem

#: The timer that probes the loop (seconds).
PROBE_S = 0.002
#: Jobs created in one commit.
TOGETHER = 100


class Notes:
    """What is recorded: when each change was due (job, seq, ns), and how late the loop's timer was (ms).

    The CPU that the loop's thread used meanwhile (ms) is recorded too: on a shared machine only that is its own.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[int, int, int]] = []
        self.delay: list[float] = []
        self.busy: list[float] = []

    async def probe(self) -> None:
        while True:
            asked, used = time.monotonic(), time.thread_time()
            await asyncio.sleep(PROBE_S)
            self.delay.append((time.monotonic() - asked - PROBE_S) * 1e3)
            self.busy.append((time.thread_time() - used) * 1e3)

    def write(self, path: str) -> None:
        Path(path).write_text(json.dumps({"changes": self.changes, "delay_ms": self.delay, "busy_ms": self.busy}))
        self.changes, self.delay, self.busy = [], [], []


class Jobs:
    """Jobs with one item each, which this program holds and ends only when told to."""

    def __init__(self, parts: Services, notes: Notes) -> None:
        self.stopping = False  # ends `change`
        self._parts = parts
        self._notes = notes
        self._held: list[WorkItem] = []
        self._numbers: dict[str, int] = {}

    async def create(self, count: int) -> None:
        for start in range(0, count, TOGETHER):
            # Each is claimed in the commit that creates it, before a worker can take the item.
            pairs = [self._pair() for _ in range(start, min(start + TOGETHER, count))]
            for claimed in await asyncio.gather(*itertools.chain(*pairs)):
                self._held += claimed if isinstance(claimed, list) else []
        assert len(self._held) == count, "a worker took an item"
        self._numbers = {one.job_id: number for number, one in enumerate(self._held)}

    def _pair(self) -> tuple[Coroutine[Any, Any, Job], Coroutine[Any, Any, list[WorkItem]]]:
        store = self._parts.store
        job = Job(id=str(uuid4()), kind="checksum", name="bench", total=1, waiting=1, created_at=time.time())
        return store.create(job, [Item(index=0, name="a-file-of-some-name.csv")]), store.claim(1, 1e9)

    def paths(self) -> list[str]:
        return [f"/api/jobs/{one.job_id}/events?items=0" for one in self._held]

    async def change(self, asked: Publish) -> None:
        """Change each job `rate` times a second, evenly spread; changes due at once are written together."""
        held, step, count = self._held, 1 / (asked.rate * len(self._held)), 0
        start = time.monotonic() + 0.01
        while not self.stopping and (not asked.count or count < asked.count * len(held)):
            await asyncio.sleep(max(start + count * step - time.monotonic(), 0))
            due = range(count, max(int((time.monotonic() - start) / step) + 1, count + 1))
            await self._apply([self._report(number) for number in due], [start + number * step for number in due])
            count = due.stop

    async def finish(self) -> None:
        now = time.time()
        ends = [Finish(one.job_id, 0, one.item.lease, ItemState.SUCCEEDED, now) for one in self._held]
        await self._apply(ends, [time.monotonic()] * len(ends))

    async def _apply(self, commands: Sequence[Command], due: Sequence[float]) -> None:
        outcomes = await self._parts.store.apply(commands)
        for outcome, at in zip(outcomes, due, strict=True):
            assert isinstance(outcome, Job), outcome
            self._notes.changes.append((self._numbers[outcome.id], outcome.seq, int(at * 1e9)))

    def _report(self, number: int) -> Command:
        one = self._held[number % len(self._held)]
        turn = number // len(self._held) + 1
        return Report(one.job_id, 0, one.item.lease, time.time(), turn % 1_000_000 / 1_000_000, f"row {turn}")


async def run_orders(parts: Services, count: int) -> None:
    notes = Notes()
    jobs = Jobs(parts, notes)
    await jobs.create(count)
    print(*jobs.paths(), "", sep="\n", flush=True)
    changing: asyncio.Task[None] | None = None
    probing: asyncio.Task[None] | None = None
    async for order in read_orders():
        word, _, rest = order.partition(" ")
        if word == "report":
            notes.write(rest)
            print("{}", flush=True)
            continue
        if word == "probe":
            probing = asyncio.create_task(notes.probe())
            continue
        if changing is not None:
            jobs.stopping = True
            await changing
            jobs.stopping = False
        if word == "finish":
            await jobs.finish()
        else:
            changing = asyncio.create_task(jobs.change(Publish.of(order)))
    jobs.stopping = True
    await asyncio.gather(*filter(None, [changing]))
    if probing is not None:
        probing.cancel()


def main(port: str, data: str, count: str) -> None:
    """Serve until stdin ends."""
    settings = load({"port": int(port), "data": data, "workers": 1, "stream_life_s": 1e6, "lease_s": 1e6})
    app = create_app(settings)
    running = []

    def ready() -> None:
        running.append(asyncio.get_running_loop().create_task(serve()))

    async def serve() -> None:
        try:
            await run_orders(app.state.services, int(count))
        finally:
            signal.raise_signal(signal.SIGTERM)

    run(app, settings, listen(settings), ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
