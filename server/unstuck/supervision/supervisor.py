"""Keeps background loops running: a loop that breaks is logged, counted, and started again after a pause.

Decides when a loop counts as down and when it is tried again. Must not know what a loop does.
Read on in app.py, which starts the loops, and in api/health.py and api/metrics.py, which show their state.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

from unstuck.supervision.backoff import Backoff

log = logging.getLogger("unstuck.supervision")

#: Before a loop is started again. One that ran for longer than the longest pause begins with the first again.
PAUSE = Backoff(0.2, 10.0)
#: A loop that was started again counts as down until it has run for this long (seconds).
SETTLED_S = 1.0

Body = Callable[[], Awaitable[None]]
#: Runs in a thread of its own, until the event is set.
ThreadBody = Callable[[threading.Event], None]


class Loop:
    """One loop: runs its body again and again, and knows whether it is down. Any thread may read its state."""

    def __init__(self, name: str, pause: Backoff = PAUSE, settled_s: float = SETTLED_S) -> None:
        self.name = name
        #: How often it was started again.
        self.restarts = 0
        self._pause = pause
        self._settled_s = settled_s
        self._failures = 0
        self._starts_at = -math.inf  # when it was, or will be, started again (monotonic)

    @property
    def down(self) -> bool:
        """It waits for another start, or had one only a moment ago."""
        return time.monotonic() < self._starts_at + self._settled_s

    @property
    def trouble(self) -> str | None:
        """A sentence for people while it is down, else None."""
        if not self.down:
            return None
        wait_s = self._starts_at - time.monotonic()
        again = f"starts again in {wait_s:.1f} s" if wait_s > 0 else "has just been started again"
        return f'The loop "{self.name}" broke and {again}; the log says why.'

    async def keep(self, body: Body) -> None:
        """Run the body until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            error: BaseException | None = None
            try:
                await body()
            except asyncio.CancelledError as cancelled:
                if task.cancelling():
                    raise
                error = cancelled  # of something that the body waited for, not of this task
            except Exception as broken:  # noqa: BLE001 – logged below
                error = broken
            if task.cancelling():
                self._log_end(error)
                return
            await asyncio.sleep(self._broke(error))
            self._start_again()

    def start_thread(self, body: ThreadBody, ending: threading.Event) -> threading.Thread:
        """Run the body in a new thread until `ending` is set, whatever the event loop does meanwhile."""

        def keep() -> None:
            while True:
                error: BaseException | None = None
                try:
                    body(ending)
                except BaseException as broken:  # noqa: BLE001 – logged below; SystemExit would end it in silence
                    error = broken
                if ending.is_set():
                    self._log_end(error)
                    return
                if ending.wait(self._broke(error)):
                    return
                self._start_again()

        thread = threading.Thread(target=keep, name=f"unstuck {self.name}", daemon=True)
        thread.start()
        return thread

    def _broke(self, error: BaseException | None) -> float:
        """Log that the body raised this, or returned; how long to wait before the next start (seconds)."""
        now = time.monotonic()
        if now - self._starts_at > self._pause.longest_s:
            self._failures = 0
        self._failures += 1
        pause_s = self._pause.pause_s(self._failures, random.random())  # noqa: S311 – spreads, hides nothing
        self._starts_at = now + pause_s
        if error is None:
            log.error("Loop ended by itself, starting it again: loop=%r pause_s=%.1f", self.name, pause_s)
        else:
            log.error("Loop failed, starting it again: loop=%r pause_s=%.1f", self.name, pause_s, exc_info=error)
        return pause_s

    def _start_again(self) -> None:
        self._starts_at = time.monotonic()
        self.restarts += 1

    def _log_end(self, error: BaseException | None) -> None:
        if error is not None:
            log.error("Loop failed while it was being stopped: loop=%r", self.name, exc_info=error)


class Supervisor:
    """Starts loops and holds them by name. Made by `supervising()`, which ends them."""

    def __init__(self, group: asyncio.TaskGroup, pause: Backoff, settled_s: float) -> None:
        self.loops: dict[str, Loop] = {}
        self._group = group
        self._pause = pause
        self._settled_s = settled_s
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def troubles(self) -> list[str]:
        """A sentence for each loop that is down."""
        return [trouble for loop in self.loops.values() if (trouble := loop.trouble) is not None]

    @property
    def down(self) -> int:
        """How many loops are down."""
        return sum(loop.down for loop in self.loops.values())

    def run(self, name: str, body: Body) -> Loop:
        """Run `body` as a task. Its name is shown to operators and is a label of the metrics."""
        loop = self.watch(Loop(name, self._pause, self._settled_s))
        self._spawn(loop, loop.keep(body))
        return loop

    def run_in_thread(self, name: str, body: ThreadBody) -> Loop:
        """Run `body` in a thread, so that it goes on while the event loop is blocked."""
        loop = self.watch(Loop(name, self._pause, self._settled_s))
        self._spawn(loop, _own_thread(loop, body))
        return loop

    def watch(self, loop: Loop) -> Loop:
        """Show the state of a loop that outlives the supervisor, and that its owner starts and ends."""
        if loop.name in self.loops:
            raise ValueError(f"There is a loop {loop.name!r} already.")
        self.loops[loop.name] = loop
        return loop

    def cancel(self) -> None:
        """End all loops; `supervising()` waits for them."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, loop: Loop, keeping: Coroutine[None, None, None]) -> None:
        self._tasks.append(self._group.create_task(keeping, name=loop.name))


@asynccontextmanager
async def supervising(pause: Backoff = PAUSE, settled_s: float = SETTLED_S) -> AsyncIterator[Supervisor]:
    """A supervisor whose loops run while inside, and have ended afterwards."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, pause, settled_s)
        try:
            yield supervisor
        except Exception as error:  # noqa: BLE001 – raised below: the group would wrap it
            failure = error
        finally:
            supervisor.cancel()
    if failure is not None:
        raise failure


async def _own_thread(loop: Loop, body: ThreadBody) -> None:
    """Run the loop in a thread until cancelled."""
    ending = threading.Event()
    thread = loop.start_thread(body, ending)
    try:
        await asyncio.Event().wait()
    finally:
        ending.set()
        await asyncio.to_thread(thread.join)
