"""A job behind the proxy, what is done to it, and what became of it: all that does not depend on who watches.

Must not know: pages, browsers.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from tests.faults.judge import Flaw, Screen, Wrong, flaws, time_to_truth
from tests.faults.proxy import PASS, Proxy
from tests.faults.schedule import KINDS, Fault, Schedule
from tests.faults.stage import NO_BEATS_S, BreakableServer, Need, Stage
from tests.support.server import Server

#: A window in which nothing may be asked any more: a first poll would come after 1 s, a broken stream would be
#: opened anew within 1 s, a running job polled every 2 s.
CALM_S = 4.0
#: A machine in need of everything closes sockets within this, all the same.
CLOSED_S = 30.0
#: How long a job may take that was rehearsed for a few seconds; beyond this the suite itself is broken.
WORK_S = 240.0

#: What a reader that splits text where it should not would tear apart.
NAME = "seed {seed}: Fähre 🚢\u2028\u0085"

Front = Callable[[int], AbstractAsyncContextManager[int]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one schedule. `truth_s` is None where the truth was never shown."""

    schedule: Schedule
    truth_s: float | None
    wrongs: tuple[Wrong, ...]
    screens: tuple[Screen, ...]


class Scene:
    """A job and the proxy to it."""

    def __init__(self, stage: Stage, server: Server, proxy: Proxy) -> None:
        self.stage = stage
        self.server = server
        self.proxy = proxy
        self.job: dict[str, Any] = {}

    async def submit(self, total: int, item_s: float, failures: float = 0.0, seed: int = 1) -> None:
        options = {"seconds": item_s, "failures": failures, "seed": seed}
        asked = {"kind": "rehearsal", "total": total, "name": NAME.format(seed=seed), "options": options}
        answer = await self.stage.http.post(f"{self.server.url}/api/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        self.job = answer.json()

    async def cancel(self) -> None:
        answer = await self.stage.http.post(f"{self.server.url}{self.job['links']['cancel']}")
        assert answer.status_code == 202, answer.text

    async def truth(self) -> dict[str, Any]:
        """The job as the server has it, asked past the proxy."""
        answer = await self.stage.http.get(f"{self.server.url}{self.job['links']['self']}")
        assert answer.status_code == 200, answer.text
        self.job = answer.json()
        return self.job

    async def until_done(self) -> None:
        given_up = time.monotonic() + WORK_S
        while not (await self.truth())["done"]:
            assert time.monotonic() < given_up, f"the job is not done after {WORK_S} s: {self.job}"
            await asyncio.sleep(0.3)

    # -- faults

    async def play_faults(self, schedule: Schedule) -> float:
        """All that is not early, each in its time; the moment of the healing."""
        opened, healed_at = time.monotonic(), 0.0
        for when, fault, begins in schedule.moments():
            await asyncio.sleep(max(0.0, opened + when - time.monotonic()))
            if not begins:
                healed_at = await self.end(fault)
            elif fault not in schedule.early:
                await self.begin(fault)
        return healed_at

    async def begin(self, fault: Fault) -> None:
        breakage = KINDS[fault.kind].breakage
        if fault.mode is not None:
            await self.proxy.set(fault.mode, *fault.where)
        elif breakage is not None:
            assert isinstance(self.server, BreakableServer)
            self.server.break_(breakage)
        elif fault.kind == "server killed":
            await asyncio.to_thread(self.server.stop, signal.SIGKILL)
        else:
            raise NotImplementedError(fault.kind)

    async def end(self, fault: Fault) -> float:
        """Heal this one; the moment from which the truth can be known again (seconds, wall clock)."""
        healed_at = time.time()
        if fault.mode is not None:
            await self.proxy.set(PASS, *fault.where)
        elif isinstance(self.server, BreakableServer) and KINDS[fault.kind].breakage is not None:
            self.server.mend()
        elif fault.kind == "server killed":
            await asyncio.to_thread(self.server.start)
            healed_at = time.time()  # a server that starts cannot answer yet
        else:
            raise NotImplementedError(fault.kind)
        return healed_at

    # -- the end

    def found(
        self, bound_s: float, screens: Sequence[Screen], healed_at: float, seq: int
    ) -> tuple[float | None, list[Wrong]]:
        """The time to the truth, and what was wrong with what was shown."""
        found = flaws(screens, self.job)
        truth_s = time_to_truth(screens, healed_at, seq, _seconds(self.job["finished_at"]))
        if truth_s is not None and truth_s > bound_s:
            late = f"the truth came after {truth_s:.1f} s, not within {bound_s:.1f} s"
            found.append(Wrong(Flaw.STUCK, late))
        return truth_s, found

    async def still_open(self) -> list[Wrong]:
        """What is in flight, also after any machine has had time to close it."""
        given_up = time.monotonic() + CLOSED_S
        while self.proxy.open and time.monotonic() < given_up:
            await asyncio.sleep(0.05)
        return [
            Wrong(Flaw.ALIVE, f"still in flight after the end, {time.time() - one.at:.1f} s after it came: {one}")
            for one in self.proxy.open
        ]


@asynccontextmanager
async def ground(
    stage: Stage, seed: int, need: Need, front: Front | None = None
) -> AsyncIterator[tuple[Server, Proxy]]:
    """A server and the proxy before it; `front` puts something more between them, from port to port."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(stage.server(need))
        port = httpx.URL(server.url).port or 0
        if front is not None:
            port = await stack.enter_async_context(front(port))
        yield server, await stack.enter_async_context(Proxy(port, seed))


def needed(schedule: Schedule) -> Need:
    return Need(breakable=schedule.breakable) if schedule.beats else Need(NO_BEATS_S, schedule.breakable)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
