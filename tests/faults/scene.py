"""A job behind the proxy: submits it, applies faults, and judges the outcome, whatever the client is.

It must not know pages or browsers.
Next: browser.py plays a schedule in Chromium, program.py with the Python client.
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

from tests.faults.judge import Flaw, Screen, Silence, time_to_truth, violations
from tests.faults.proxy import PASS, Proxy
from tests.faults.schedule import KINDS, Fault, Schedule
from tests.faults.stage import NO_HEARTBEATS_S, BreakableServer, Need, Stage
from tests.support.server import Server
from tests.support.violation import Violation

#: How long no request may come after the end (seconds): a first poll would come after 1 s, a broken stream would
#: be reopened within 1 s, and a running job polled every 2 s.
CALM_S = 4.0
#: Even an overloaded machine closes sockets within this time (seconds).
CLOSED_S = 30.0
#: How long a job meant to take a few seconds may take; beyond this the suite itself is broken (seconds).
WORK_S = 240.0

#: A name that a reader breaks if it splits text in the wrong places.
NAME = "seed {seed}: Fähre 🚢\u2028\u0085"

#: Something between the server and the proxy: from the port of one to the port for the other.
Relay = Callable[[int], AbstractAsyncContextManager[int]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one schedule; `truth_s` is None if the truth was never shown."""

    schedule: Schedule
    truth_s: float | None
    violations: tuple[Violation, ...]
    screens: tuple[Screen, ...]


class Scene:
    """A job, and the proxy in front of its server."""

    def __init__(self, stage: Stage, server: Server, proxy: Proxy) -> None:
        self.stage = stage
        self.server = server
        self.proxy = proxy
        self.job: dict[str, Any] = {}
        self.silences: list[Silence] = []

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
        """Return the job as the server has it, fetched past the proxy."""
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
        """Begin and end each fault in its time (early ones have begun already); return when the last one ended."""
        opened, healed_at = time.monotonic(), 0.0
        began_at = time.time()
        for when, fault, begins in schedule.moments():
            await asyncio.sleep(max(0.0, opened + when - time.monotonic()))
            if not begins:
                if fault.told_within_s is not None:
                    self.silences.append(Silence(began_at + fault.told_within_s, time.time()))
                healed_at = await self.end(fault)
            elif fault not in schedule.early:
                await self.begin(fault)
                began_at = time.time()
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
        """End this fault, and return when the truth became available again (seconds, wall clock)."""
        healed_at = time.time()
        if fault.mode is not None:
            await self.proxy.set(PASS, *fault.where)
        elif isinstance(self.server, BreakableServer) and KINDS[fault.kind].breakage is not None:
            self.server.mend()
        elif fault.kind == "server killed":
            await asyncio.to_thread(self.server.start)
            healed_at = time.time()  # a server cannot answer while it starts
        else:
            raise NotImplementedError(fault.kind)
        return healed_at

    # -- the end

    def found(
        self, bound_s: float, screens: Sequence[Screen], healed_at: float, seq: int
    ) -> tuple[float | None, list[Violation]]:
        """Return the time to truth, and the violations in what was shown."""
        found = violations(screens, self.job, self.silences)
        truth_s = time_to_truth(screens, healed_at, seq, _seconds(self.job["finished_at"]))
        if truth_s is not None and truth_s > bound_s:
            late = f"the truth came after {truth_s:.1f} s, not within {bound_s:.1f} s"
            found.append(Violation(Flaw.STUCK, late))
        return truth_s, found

    async def still_open(self) -> list[Violation]:
        """Return a violation for each request still in flight after even a slow machine could have closed it."""
        given_up = time.monotonic() + CLOSED_S
        while self.proxy.open and time.monotonic() < given_up:
            await asyncio.sleep(0.05)
        return [
            Violation(Flaw.OPEN, f"still in flight {time.time() - one.at:.1f} s after it was received: {one}")
            for one in self.proxy.open
        ]


@asynccontextmanager
async def server_and_proxy(
    stage: Stage, seed: int, need: Need, relay: Relay | None = None
) -> AsyncIterator[tuple[Server, Proxy]]:
    """Yield a server and the proxy in front of it, with `relay` between them."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(stage.server(need))
        port = httpx.URL(server.url).port or 0
        if relay is not None:
            port = await stack.enter_async_context(relay(port))
        yield server, await stack.enter_async_context(Proxy(port, seed))


def need_of(schedule: Schedule) -> Need:
    """Return which server a schedule needs."""
    return Need(breakable=schedule.breakable) if schedule.heartbeats else Need(NO_HEARTBEATS_S, schedule.breakable)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
