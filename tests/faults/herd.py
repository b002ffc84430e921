"""Plays a thundering herd: many programs watch one job, and the server is killed and restarted.

Each program has its own connections. Measured are how far their reconnections were spread over time, how long
polls took meanwhile, and whether every program saw the truth. It must not know what plays it.
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

from tests.faults.judge import Screen, violations
from tests.support.server import Server
from unstuck.client.client import Client

#: Long enough that no job ends or changes by itself: only the herd matters here (seconds).
ITEM_S = 600.0
#: The server is restarted after this time, so that some attempts to reconnect have failed more than once
#: (seconds).
DOWN_S = 3.0
#: How long, and how often, the restarted server is polled from outside (seconds).
POLLING_S, POLL_EVERY_S = 5.0, 0.1
#: Creating a client takes 70 ms, and a client's pool goes through all of its connections for each request, so
#: with 500 of them in one pool, or 500 clients, the herd itself would be slow.
VIEWERS_PER_CLIENT = 50
#: For all to connect, and for all to see the end; the policy's bounds are far below (seconds).
PATIENCE_S = 120.0


@dataclass(slots=True)
class Viewer:
    """One program of the herd, and what it received."""

    screens: list[Screen] = field(default_factory=list)
    live_at: list[float] = field(default_factory=list)  # each time its stream became live

    async def watch(self, client: Client, job_id: str) -> None:
        def on_link(link: str) -> None:
            if link == "live":
                self.live_at.append(time.time())

        async for job in client.watch(job_id, on_link=on_link):
            self.screens.append(Screen.from_client(time.time(), job, ""))


@dataclass(frozen=True, slots=True)
class Herd:
    """The outcome for the whole herd; times in seconds."""

    back_s: list[float]  # for each viewer, from the restart until its stream was live again
    polls_s: list[float]  # how long each poll took in the first seconds
    statuses: set[int]  # of the responses to these polls
    truth_s: list[float]  # for each viewer, from the end of the job until it knew
    violations: list[str]

    @property
    def spread_s(self) -> float:
        """The time between the reconnections of the 5th and 95th percentile."""
        times = sorted(self.back_s)
        twentieth = len(times) // 20
        return times[-1 - twentieth] - times[twentieth]


async def play_herd(server: Server, size: int) -> Herd:
    """Let `size` programs watch a job of this server, kill and restart it, and return what happened.

    The server must keep its port across restarts.
    """
    job = await asyncio.to_thread(server.submit, "rehearsal", total=4, options={"seconds": ITEM_S})
    viewers = [Viewer() for _ in range(size)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.url)) for _ in viewers[::VIEWERS_PER_CLIENT]]
        watching = [
            asyncio.create_task(viewer.watch(clients[number // VIEWERS_PER_CLIENT], job["id"]))
            for number, viewer in enumerate(viewers)
        ]
        await _until(lambda: all(viewer.live_at for viewer in viewers))
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(server.start)
        started_at = time.time()
        polls_s, statuses = await _poll_meanwhile(f"{server.url}{job['links']['self']}")
        await _until(lambda: all(viewer.live_at[-1] > started_at for viewer in viewers))
        async with httpx.AsyncClient() as http:
            await http.post(f"{server.url}{job['links']['cancel']}")
        await asyncio.wait(watching, timeout=PATIENCE_S)
        truth: dict[str, Any] = await asyncio.to_thread(server.until_done, job["id"])
        ended = await asyncio.gather(*_cancel_all(watching), return_exceptions=True)
    finished_at = _seconds(truth["finished_at"])
    return Herd(
        back_s=[next(at for at in viewer.live_at if at > started_at) - started_at for viewer in viewers],
        polls_s=polls_s,
        statuses=statuses,
        truth_s=[max(0.0, viewer.screens[-1].at - finished_at) for viewer in viewers],
        violations=[
            *(str(flaw) for viewer in viewers for flaw in violations(viewer.screens, truth)),
            *(repr(error) for error in ended if error is not None),
        ],
    )


async def _poll_meanwhile(url: str) -> tuple[list[float], set[int]]:
    """Poll for POLLING_S, one request at a time, and return how long polls took and their statuses."""
    took, statuses = [], set()
    end = time.monotonic() + POLLING_S
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        while (began := time.monotonic()) < end:
            statuses.add((await http.get(url)).status_code)
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, POLL_EVERY_S - took[-1]))
    return took, statuses


def _cancel_all(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    for task in tasks:
        task.cancel()
    return tasks


async def _until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not check():
            await asyncio.sleep(0.1)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
