"""Reports work that runs elsewhere: decides which reports are batched, sent again and dropped.

Only the newest progress of an item is sent; how an item or the job ended is dropped only if the server refuses it.
Reports wait in memory while the server is unreachable, and may be sent twice, which does no harm.

It must not know HTTP or the server's rules; the function that sends is passed in.
See also: client.py, which passes it in; ending.py, which decides how the job ends; plain_reporter.py, the same
without asyncio; PROTOCOL.md, section 9.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import threading
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

from unstuck.client import watch_state as w
from unstuck.client.ending import end_of, leaves_to_next_attempt
from unstuck.errors import JobFinished, NoAnswer, ServerRefused, UnstuckError
from unstuck.wire import Job

log = logging.getLogger("unstuck.client")

#: Reports are collected for this long and then sent as one batch (seconds).
GATHER_S = 0.2
#: With nothing to report, an empty batch is sent after this long, so that the server knows the reporter is alive.
BEAT_S = 15.0
#: The longest wait for the server before the work begins without it (seconds).
ENTER_S = 3.0
#: How long the last reports are sent again before they are given up (seconds).
PATIENCE_S = 10.0
#: Statuses of an overloaded or restarting server or proxy: the same request may succeed a moment later.
RETRYABLE = frozenset({429, 502, 503, 504})
#: Statuses that refuse one report because of what it says; the next one may be accepted.
ABOUT_THE_REPORT = frozenset({400, 409, 413, 422})

Send = Callable[[bytes], Awaitable[Job]]


class Reporter:
    """A reporter of work that runs elsewhere: `async with client.report(job_id) as report`.

    With `ends`, leaving the block ends the job: as `completed`, as `cancelled` if that was requested, or as
    `failed` if an exception was raised. An exception by which a task queue (Celery, Dramatiq, …) tries the work
    again, or one of `retry_on`, leaves the job as it is, for the next attempt. Stop working once `over` is true.

    Calls return at once and may come from any thread; a background task sends the reports. A server that does not
    answer never fails the work: it begins without the server, the reports wait, and on leaving the last ones are
    sent again for up to `patience_s` seconds and then given up. All that is lost is logged, as is a report that
    the server refuses. With `strict` these raise instead: NoAnswer on entering and leaving, and ServerRefused from
    every call after the refusal.

    Entering raises JobNotFound, and JobFinished unless the job was cancelled: then the block is entered with
    `over` true.
    """

    def __init__(
        self,
        job_id: str,
        send: Send,
        fetch: Callable[[], Awaitable[Job]],
        *,
        ends: bool = True,
        strict: bool = False,
        patience_s: float = PATIENCE_S,
        retry_on: Iterable[type[BaseException]] = (),
    ) -> None:
        self._job_id, self._send, self._fetch = job_id, send, fetch
        self._ends, self._strict, self._patience_s = ends, strict, patience_s
        self._retry_on = tuple(retry_on)
        self._job: Job | None = None
        self._refusal: UnstuckError | None = None
        self._failure: UnstuckError | None = None  # why the server cannot be reached at present
        # What waits to be sent; guarded by the lock, since calls come from any thread.
        self._lock = threading.Lock()
        self._running: dict[int | str, dict[str, Any]] = {}  # the newest report of each running item
        self._final: list[dict[str, Any]] = []  # how items and the job ended
        self._counts: dict[str, Any] = {}
        self._told = 0  # calls so far
        self._kept = 0  # of these, how many the server has kept
        self._woken = self._left = self._stopped = False
        # The background task, and what it waits for.
        self._changed, self._hurry, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._delivered = asyncio.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._task: asyncio.Task[None] | None = None

    @property
    def job(self) -> Job:
        """The job as of the last response; only its id is known until there was one."""
        if self._job is None:
            raise RuntimeError("Enter the reporter first: async with client.report(job_id) as reporter.")
        return self._job

    @property
    def over(self) -> bool:
        """True once the job is done or to be cancelled: stop working on it."""
        return self.job.done or self.job.cancel_requested

    def item(
        self,
        which: int | str,
        state: str = "running",
        *,
        progress: float | None = None,
        message: str | None = None,
        error: str | dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Report that an item runs, how far it is (`progress`, 0 to 1), or in which state it ended.

        `which` is the item's index (from 0) or its name.
        """
        fields = {"state": state, "progress": progress, "message": message, "error": error, "result": result}
        item: dict[str, Any] = {"index" if isinstance(which, int) else "name": which}
        item |= {name: value for name, value in fields.items() if value is not None}
        self._check()
        with self._lock:
            if state == "running":
                self._running[which] = {**self._running.get(which, {}), **item}
            else:
                self._running.pop(which, None)
                self._final.append({"items": [item]})
            wake = self._count()
        if wake:
            self._wake()

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """Report how many items have been processed so far, and of how many.

        `more` may hold `failed`, `skipped`, `stage` and `message`.
        """
        self._check()
        with self._lock:
            counts = self._counts
            if processed is not None:
                counts["processed"] = processed
            if total is not None:
                counts["total"] = total
            for name, value in more.items():
                if value is not None:
                    counts[name] = value
            wake = self._count()
        if wake:
            self._wake()

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """End the job as `completed`, `completed_with_errors`, `failed` or `cancelled`."""
        self._check()
        with self._lock:
            self._final.append(self._counts | {"state": state} | ({} if error is None else {"error": error}))
            self._counts, self._ends = {}, False
            wake = self._count()
        if wake:
            self._wake()

    async def flush(self) -> None:
        """Wait until the server has kept everything reported so far; ServerRefused if it refused something."""
        self._check()
        with self._lock:
            self._count()
            told = self._told
        self._hurry.set()
        self._changed.set()
        async with self._delivered:
            await self._delivered.wait_for(lambda: self._kept >= told or self._stopped)
        if self._refusal is not None:
            raise self._refusal

    async def __aenter__(self) -> Reporter:
        try:
            async with asyncio.timeout(None if self._strict else ENTER_S):
                self._job = await self._fetch()
        except (UnstuckError, TimeoutError) as error:
            if self._strict or not (isinstance(error, TimeoutError) or is_away(error)):
                raise
            self._job = Job(id=self._job_id, seq=0, done=False)
            self._note_failure(error)
        if self._job.done and self._job.state != "cancelled":
            raise JobFinished(self._job_id, self._job.state)
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        self._task = asyncio.create_task(self._run(), name="report")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        again = error is not None and leaves_to_next_attempt(error, self._retry_on)
        if self._ends and not again and not self.job.done and not self._stopped:
            self.end(*end_of(error, cancel_requested=self.job.cancel_requested))
        self._left = True
        for event in (self._closing, self._hurry, self._changed):
            event.set()
        try:
            finished, _ = await asyncio.wait({self._task}, timeout=self._patience_s)
        finally:
            self._task.cancel()
        if not finished:
            self._refusal = self._failure or no_response(self._patience_s)
            if not self._strict:
                log.error("Last reports given up, job not ended: job=%s reason=%s", self._job_id, self._refusal)
        if error is None and self._strict and self._refusal is not None:
            raise self._refusal

    def _check(self) -> None:
        if self._strict and self._refusal is not None:
            raise self._refusal
        if self._left:
            raise RuntimeError(f"The block that reports on job {self._job_id} was left; nothing more is sent.")
        if self._process != os.getpid():
            raise RuntimeError(
                f"Process {os.getpid()} cannot report through process {self._process}, from which it was forked. "
                "Report in it with a Client of its own, and ends=False."
            )

    def _count(self) -> bool:
        """Count one more call, and return whether the task must be woken: once for all calls that it gathers."""
        self._told += 1
        if self._woken or self._stopped or self._loop is None:
            return False
        self._woken = True
        return True

    def _wake(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._changed.set)

    async def _run(self) -> None:
        try:
            while True:
                await _wait(self._changed, BEAT_S)
                await _wait(self._hurry, GATHER_S)
                reports, told = self._take()
                if not self.job.done:  # else drop them: the server keeps no reports about a finished job
                    await self._deliver(reports)
                async with self._delivered:
                    self._kept = told
                    self._delivered.notify_all()
                if self._closing.is_set() and self._kept == self._told:
                    return
        except UnstuckError as refusal:
            self._refusal = refusal
            if not self._strict:
                log.error("Reports refused, sending no more: job=%s reason=%s", self._job_id, refusal)
        finally:
            self._stopped = True
            async with self._delivered:
                self._delivered.notify_all()

    def _take(self) -> tuple[list[bytes], int]:
        """Take everything that waits to be sent, as lines of JSON, and the number of calls so far."""
        with self._lock:
            reports = [*({"items": [item]} for item in self._running.values()), *self._final]
            if self._counts:
                reports.append(self._counts)
            self._running, self._final, self._counts = {}, [], {}
            self._woken = False
            told = self._told
        if not self._closing.is_set():
            self._changed.clear()
            self._hurry.clear()
        return [json.dumps(report).encode() + b"\n" for report in reports], told

    async def _deliver(self, reports: list[bytes]) -> None:
        """Send reports, or a sign of life if there are none; if one is refused, drop only that one."""
        try:
            await self._send_until_kept(b"".join(reports) or b"\n")
        except UnstuckError as refusal:
            if self._strict or refusal.status not in ABOUT_THE_REPORT:
                raise
            if len(reports) > 1:
                for report in reports:
                    await self._deliver([report])
            else:
                self._refusal = refusal
                log.error("Report refused, dropping it: job=%s reason=%s", self._job_id, refusal)

    async def _send_until_kept(self, body: bytes) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                self._job = await self._send(body)
            except UnstuckError as error:
                if error.code == "job_finished":
                    self._job = await self._fetch()
                    return
                if not is_away(error):
                    raise
                self._note_failure(error)
            else:
                self._note_success()
                return
            backoff = w.backoff(min(attempt, 8), w.BACKOFF_MAX_MS, random.random())  # noqa: S311 – no secret
            await self._pause(backoff / w.SECOND_MS)

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(seconds)
        else:
            await _wait(self._closing, seconds)

    def _note_failure(self, error: UnstuckError | TimeoutError) -> None:
        first = self._failure is None
        self._failure = error if isinstance(error, UnstuckError) else no_response(ENTER_S)
        if first:
            log.warning("Server does not answer, keeping reports: job=%s reason=%s", self._job_id, self._failure)

    def _note_success(self) -> None:
        if self._failure is not None:
            log.info("Server answers again, reports sent: job=%s", self._job_id)
        self._failure = None


def is_away(error: UnstuckError) -> bool:
    """Return whether this is a server or proxy that may answer a moment later, and not a refusal."""
    if isinstance(error, NoAnswer):
        return True
    return isinstance(error, ServerRefused) and (
        error.status in RETRYABLE or error.status >= 500 or error.code == "not_our_answer"
    )


def no_response(seconds: float) -> NoAnswer:
    return NoAnswer(
        "the server", f"there was no response within {seconds:g} s", "Check that the server is running."
    )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most this long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
