"""Keeps background loops running: a loop that breaks is logged, counted, and restarted after a pause.

It decides when a loop counts as down and when it is restarted. It must not know what a loop does.
See also: app.py (starts the loops), api/health.py and api/metrics.py (show their state).
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

#: Pauses before a restart. A loop that ran for longer than the longest pause starts over with the first.
PAUSE = Backoff(0.2, 10.0)
#: The pause between two looks whether a thread has ended (seconds).
JOIN_S = 0.01
#: A restarted loop counts as down until it has run for this long (seconds).
SETTLED_S = 1.0

Body = Callable[[], Awaitable[None]]
#: Runs in its own thread until the event is set.
ThreadBody = Callable[[threading.Event], None]


class Loop:
    """A loop that restarts its body whenever it ends, and knows whether it is down. Any thread may read it."""

    def __init__(self, name: str, pause: Backoff = PAUSE, settled_s: float = SETTLED_S) -> None:
        self.name = name
        #: How often the body was restarted.
        self.restarts = 0
        self._pause = pause
        self._settled_s = settled_s
        self._failures = 0
        self._starts_at = -math.inf  # time of the last or next restart (monotonic)

    @property
    def down(self) -> bool:
        """True while the loop waits for a restart, or was restarted only a moment ago."""
        return time.monotonic() < self._starts_at + self._settled_s

    @property
    def trouble(self) -> str | None:
        """A sentence for people while the loop is down, else None."""
        if not self.down:
            return None
        wait_s = self._starts_at - time.monotonic()
        restart = f"restarts in {wait_s:.1f} s" if wait_s > 0 else "has just been restarted"
        return f'The loop "{self.name}" broke and {restart}; see the log for the reason.'

    async def keep(self, body: Body) -> None:
        """Run the body until cancelled, and restart it whenever it ends."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            error: BaseException | None = None
            try:
                await body()
            except asyncio.CancelledError as cancelled:
                if task.cancelling():
                    raise
                error = cancelled  # something that the body awaited was cancelled, not this task
            except Exception as broken:  # noqa: BLE001 – logged below
                error = broken
            if task.cancelling():
                self._log_end(error)
                return
            await asyncio.sleep(self.plan_restart(error))
            self._restart()

    def start_thread(self, body: ThreadBody, ending: threading.Event) -> threading.Thread:
        """Run the body in a new thread until `ending` is set, even while the event loop is blocked."""

        def keep() -> None:
            while True:
                error: BaseException | None = None
                try:
                    body(ending)
                except BaseException as broken:  # noqa: BLE001 – logged below; SystemExit would end it silently
                    error = broken
                if ending.is_set():
                    self._log_end(error)
                    return
                if ending.wait(self.plan_restart(error)):
                    return
                self._restart()

        thread = threading.Thread(target=keep, name=f"unstuck {self.name}", daemon=True)
        thread.start()
        return thread

    def plan_restart(self, error: BaseException | None) -> float:
        """Log that the body raised `error`, or returned (None); return the pause before the restart (seconds)."""
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

    def _restart(self) -> None:
        self._starts_at = time.monotonic()
        self.restarts += 1

    def _log_end(self, error: BaseException | None) -> None:
        if error is not None:
            log.error("Loop failed while it was being stopped: loop=%r", self.name, exc_info=error)


class Supervisor:
    """Starts loops and holds them by name. Created by `supervising()`, which ends them."""

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
        """The number of loops that are down."""
        return sum(loop.down for loop in self.loops.values())

    def run(self, name: str, body: Body) -> Loop:
        """Run `body` as a task. The name is shown to operators and is a label of the metrics."""
        loop = self.watch(Loop(name, self._pause, self._settled_s))
        self._spawn(loop, loop.keep(body))
        return loop

    def run_in_thread(self, name: str, body: ThreadBody) -> Loop:
        """Run `body` in a thread, so that it continues while the event loop is blocked."""
        loop = self.watch(Loop(name, self._pause, self._settled_s))
        self._spawn(loop, _own_thread(loop, body))
        return loop

    def watch(self, loop: Loop) -> Loop:
        """Show the state of a loop that its owner starts and ends, and that outlives the supervisor."""
        if loop.name in self.loops:
            raise ValueError(f"There is already a loop {loop.name!r}.")
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
    """Yield a supervisor; its loops have ended when the block is left."""
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
    thread: threading.Thread | None = None
    try:
        while thread is None:
            try:
                thread = loop.start_thread(body, ending)
            except RuntimeError as error:  # there is no room for a thread now
                await asyncio.sleep(loop.plan_restart(error))
        await asyncio.Event().wait()
    finally:
        ending.set()
        while thread is not None and thread.is_alive():  # noqa: ASYNC110 (threads set no asyncio.Event)
            await asyncio.sleep(JOIN_S)  # joining it in another thread would need room for one
