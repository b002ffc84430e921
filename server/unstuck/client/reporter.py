"""Reports work that runs elsewhere: decides which reports are batched, sent again and dropped.

Only the newest progress of an item is sent; how an item or the job ended is never dropped. Reports wait in memory
while the server is unreachable, and may be sent twice, which does no harm. A refusal is raised by the next call.

It must not know HTTP or the server's rules; the function that sends is passed in.
See also: client.py, which passes it in; PROTOCOL.md, section 9.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from unstuck.client import watch_state as w
from unstuck.errors import NoAnswer, ServerRefused
from unstuck.wire import Job

#: Reports are collected for this long and then sent as one batch (seconds).
GATHER_S = 0.2
#: With nothing to report, an empty batch is sent after this long, so that the server knows the reporter is alive.
BEAT_S = 15.0
#: Attempts at the last batch, when the reporter closes; until then attempts are unlimited.
LAST_ATTEMPTS = 5
#: Statuses of an overloaded or restarting server or proxy: the same request may succeed a moment later.
RETRYABLE = frozenset({429, 502, 503, 504})

Send = Callable[[bytes], Awaitable[Job]]


class Reporter:
    """A reporter of work that runs elsewhere: `async with client.report(job_id) as report`.

    With `ends`, leaving the block ends the job: as `completed`, as `cancelled` if that was requested, or as
    `failed` if an exception was raised. Stop working once `over` is true.

    Calls return at once; a background task sends the reports. Once the server has refused a report, every further
    call raises ServerRefused. Leaving the block raises NoAnswer if the last reports could not be sent.
    """

    def __init__(self, send: Send, fetch: Callable[[], Awaitable[Job]], *, ends: bool = True) -> None:
        self._job: Job | None = None
        self._send = send
        self._fetch = fetch
        self._ends = ends
        self._running: dict[int | str, dict[str, Any]] = {}  # the newest report of each running item
        self._final: list[dict[str, Any]] = []  # how items and the job ended; never dropped
        self._counts: dict[str, Any] = {}
        self._refusal: ServerRefused | None = None
        self._closing = False
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def job(self) -> Job:
        """The job as of the last response."""
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
        if state == "running":
            self._running[which] = {**self._running.get(which, {}), **item}
        else:
            self._running.pop(which, None)
            self._final.append({"items": [item]})
        self._notify()

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """Report how many items have been processed so far, and of how many.

        `more` may hold `failed`, `skipped`, `stage` and `message`.
        """
        fields = {"processed": processed, "total": total, **more}
        self._counts |= {name: value for name, value in fields.items() if value is not None}
        self._notify()

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """End the job as `completed`, `completed_with_errors`, `failed` or `cancelled`."""
        self._final.append(self._counts | {"state": state} | ({} if error is None else {"error": error}))
        self._counts, self._ends = {}, False
        self._notify()

    async def flush(self) -> None:
        """Wait until the server has kept everything reported so far; ServerRefused if it refused something."""
        self._notify()
        await self._idle.wait()
        self._raise()

    async def __aenter__(self) -> Reporter:
        self._job = await self._fetch()
        self._task = asyncio.create_task(self._run(), name="report")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        if self._ends and not self.job.done and self._refusal is None:
            interrupted = kind is not None and not issubclass(kind, Exception)
            if error is not None and not interrupted:
                self.end("failed", {"code": "exception", "message": f"{type(error).__name__}: {error}"[:2_500]})
            else:
                self.end("cancelled" if interrupted or self.job.cancel_requested else "completed")
        self._closing = True
        self._changed.set()
        await self._task
        if error is None:
            self._raise()

    def _notify(self) -> None:
        self._raise()
        self._idle.clear()
        self._changed.set()

    def _raise(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _run(self) -> None:
        try:
            while not self._closing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._changed.wait()
                if not self._closing:
                    await asyncio.sleep(GATHER_S)
                self._changed.clear()
                await self._deliver()
            await self._deliver()
        except ServerRefused as refusal:
            self._refusal = refusal
        finally:
            self._idle.set()

    async def _deliver(self) -> None:
        if self.job.done:
            self._batch()  # drop it: the server keeps no reports about a finished job
        else:
            await self._send_until_kept(self._batch())
        if not (self._running or self._final or self._counts):
            self._idle.set()

    def _batch(self) -> bytes:
        """Take everything that waits to be sent, as NDJSON; a blank line if there is nothing."""
        reports = [*({"items": [item]} for item in self._running.values()), *self._final]
        if self._counts:
            reports.append(self._counts)
        self._running, self._final, self._counts = {}, [], {}
        return b"".join(json.dumps(report).encode() + b"\n" for report in reports) or b"\n"

    async def _send_until_kept(self, body: bytes) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                self._job = await self._send(body)
            except ServerRefused as refusal:
                if refusal.code == "job_finished":
                    self._job = await self._fetch()
                    return
                if refusal.status not in RETRYABLE or (self._closing and attempt >= LAST_ATTEMPTS):
                    raise
            except NoAnswer:
                if self._closing and attempt >= LAST_ATTEMPTS:
                    raise
            else:
                return
            pause = w.poll_backoff(min(attempt, 8), w.POLL_BACKOFF_MAX_MS, random.random())  # noqa: S311 – no secret
            await asyncio.sleep(pause / w.SECOND_MS)


class PlainReporter:
    """A Reporter for code without asyncio: the same calls, in `with`; its own thread does the sending."""

    def __init__(self, enter: Callable[[], contextlib.AbstractAsyncContextManager[Reporter]]) -> None:
        self._enter = enter
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="unstuck-reporter", daemon=True)
        self._context: contextlib.AbstractAsyncContextManager[Reporter] | None = None
        self._reporter: Reporter | None = None

    @property
    def job(self) -> Job:
        """The job as of the last response."""
        return self._entered.job

    @property
    def over(self) -> bool:
        """True once the job is done or to be cancelled: stop working on it."""
        return self._entered.over

    def item(self, which: int | str, state: str = "running", **more: Any) -> None:
        """Report that an item runs, how far it is, or in which state it ended; see Reporter.item."""
        self._call(lambda: self._entered.item(which, state, **more))

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """Report how many items have been processed so far, and of how many; see Reporter.progress."""
        self._call(lambda: self._entered.progress(processed, total, **more))

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """End the job as `completed`, `completed_with_errors`, `failed` or `cancelled`."""
        self._call(lambda: self._entered.end(state, error))

    def flush(self) -> None:
        """Wait until the server has kept everything reported so far; ServerRefused if it refused something."""
        self._wait(self._entered.flush())

    @property
    def _entered(self) -> Reporter:
        if self._reporter is None:
            raise RuntimeError("Enter the reporter first: with report(job_id) as reporter.")
        return self._reporter

    def _call(self, method: Callable[[], None]) -> None:
        self._entered._raise()
        self._loop.call_soon_threadsafe(method)

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __enter__(self) -> PlainReporter:
        self._thread.start()
        try:
            self._context = self._enter()
            self._reporter = self._wait(self._context.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._context is not None
        try:
            self._wait(self._context.__aexit__(*error))
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
