"""A herd: many programs watch one job, the server is killed and started again, and all come back.

All watch over connections of their own. Told is how their streams were spread over time, how long
polls took meanwhile, and whether all saw the truth. Must not know: who asks for it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from tests.faults.judge import Screen, flaws
from tests.support.server import Server
from unstuck.client.client import Client

#: No job ends by itself, or has anything to tell meanwhile: it is the herd that is looked at.
ITEM_S = 600.0
#: The server is told to start again after this (seconds), so that some have failed more than once.
DOWN_S = 3.0
#: How long it is asked from outside, and how often, after it is back.
LOOK_S, EVERY_S = 5.0, 0.1
#: Viewers for each client: to make a client takes 70 ms, and the pool of one looks through all of its connections
#: for each request, so that with 500 of them the herd itself would be what is slow.
EACH = 50
#: For all to be there, and for all to know the end; the policy's bounds are far below.
PATIENCE_S = 120.0


@dataclass(slots=True)
class Viewer:
    """What one of them was told."""

    screens: list[Screen] = field(default_factory=list)
    live_at: list[float] = field(default_factory=list)  # when its stream spoke, each time

    async def watch(self, client: Client, job_id: str) -> None:
        def on_link(link: str) -> None:
            if link == "live":
                self.live_at.append(time.time())

        async for job in client.watch(job_id, on_link=on_link):
            self.screens.append(Screen.told(time.time(), job, ""))


@dataclass(frozen=True, slots=True)
class Herd:
    """What became of it. Times are in seconds."""

    back_s: list[float]  # after the start of the server, for each viewer: its stream spoke
    polls_s: list[float]  # how long each poll took in the first seconds
    statuses: set[int]  # that they were answered with
    truth_s: list[float]  # after the end of the job, for each viewer
    wrongs: list[str]

    @property
    def spread_s(self) -> float:
        """Between the first twentieth of them and the last."""
        times = sorted(self.back_s)
        twentieth = len(times) // 20
        return times[-1 - twentieth] - times[twentieth]


async def play_herd(server: Server, size: int) -> Herd:
    """`server` runs on a port that stays the same, with workers of any number."""
    job = await asyncio.to_thread(server.submit, "rehearsal", total=4, options={"seconds": ITEM_S})
    viewers = [Viewer() for _ in range(size)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.url)) for _ in viewers[::EACH]]
        watching = [
            asyncio.create_task(viewer.watch(clients[number // EACH], job["id"]))
            for number, viewer in enumerate(viewers)
        ]
        await _until(lambda: all(viewer.live_at for viewer in viewers))
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(server.start)
        started_at = time.time()
        polls_s, statuses = await _asked_from_outside(f"{server.url}{job['links']['self']}")
        await _until(lambda: all(viewer.live_at[-1] > started_at for viewer in viewers))
        async with httpx.AsyncClient() as http:
            await http.post(f"{server.url}{job['links']['cancel']}")
        await asyncio.wait(watching, timeout=PATIENCE_S)
        truth: dict[str, Any] = await asyncio.to_thread(server.until_done, job["id"])
        ended = await asyncio.gather(*_cancelled(watching), return_exceptions=True)
    finished_at = _seconds(truth["finished_at"])
    return Herd(
        back_s=[next(at for at in viewer.live_at if at > started_at) - started_at for viewer in viewers],
        polls_s=polls_s,
        statuses=statuses,
        truth_s=[max(0.0, viewer.screens[-1].at - finished_at) for viewer in viewers],
        wrongs=[
            *(str(flaw) for viewer in viewers for flaw in flaws(viewer.screens, truth)),
            *(repr(error) for error in ended if error is not None),
        ],
    )


async def _asked_from_outside(url: str) -> tuple[list[float], set[int]]:
    """How long polls take, and what they are answered, one after the other and never sooner than so often."""
    took, statuses = [], set()
    end = time.monotonic() + LOOK_S
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        while (began := time.monotonic()) < end:
            statuses.add((await http.get(url)).status_code)
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, EVERY_S - took[-1]))
    return took, statuses


def _cancelled(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    for task in tasks:
        task.cancel()
    return tasks


async def _until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not check():
            await asyncio.sleep(0.1)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
