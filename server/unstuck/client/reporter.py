"""Reports of work that runs elsewhere, from Python: gathered, sent in batches, and sent again until they are kept.

Of passing progress only the newest is sent; ends are never dropped. While the server cannot be reached everything
waits here; what it refuses is raised in the next call. Knows neither HTTP nor the server's rules: it is given a
way to send, and reports may be sent twice without harm.
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

#: Gathered for so long before it is sent, and sent as a sign of life after so long (seconds).
GATHER_S = 0.2
BEAT_S = 15.0
#: Attempts at sending the last of it; before that there is no end to them.
LAST_ATTEMPTS = 5
#: Statuses of a balancer or a server in trouble: the same request may succeed a moment later.
RETRYABLE = frozenset({429, 502, 503, 504})

Send = Callable[[bytes], Awaitable[Job]]


class Reporter:
    """`async with client.report(job_id) as report:` …; with `ends`, leaving the block ends the job.

    Left in the ordinary way the job is `completed` (or `cancelled`, where that was asked for); left by an
    exception it has `failed`. `over` says when to stop.
    """

    def __init__(self, send: Send, look: Callable[[], Awaitable[Job]], *, ends: bool = True) -> None:
        self._job: Job | None = None
        self._send = send
        self._look = look
        self._ends = ends
        self._passing: dict[int | str, dict[str, Any]] = {}
        self._firm: list[dict[str, Any]] = []
        self._counts: dict[str, Any] = {}
        self._refusal: ServerRefused | None = None
        self._closing = False
        self._bell = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def job(self) -> Job:
        """The job as the last answer told it."""
        if self._job is None:
            raise RuntimeError("Enter the reporter first: async with client.report(job_id) as reporter.")
        return self._job

    @property
    def over(self) -> bool:
        """The job is done, or is to be cancelled: nothing more needs to be worked on."""
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
        """An item, by its index or its name: that it runs, and how far (0..1) it is, or how it ended."""
        said = {"state": state, "progress": progress, "message": message, "error": error, "result": result}
        told: dict[str, Any] = {"index" if isinstance(which, int) else "name": which}
        told |= {name: value for name, value in said.items() if value is not None}
        if state == "running":
            self._passing[which] = {**self._passing.get(which, {}), **told}
        else:
            self._passing.pop(which, None)
            self._firm.append({"items": [told]})
        self._notify()

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """How many are through, all in all; `more`: failed, skipped, stage, message."""
        said = {"processed": processed, "total": total, **more}
        self._counts |= {name: value for name, value in said.items() if value is not None}
        self._notify()

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """End the job: completed, completed_with_errors, failed, cancelled."""
        self._firm.append(self._counts | {"state": state} | ({} if error is None else {"error": error}))
        self._counts, self._ends = {}, False
        self._notify()

    async def flush(self) -> None:
        """Everything that was said is kept by the server when this returns; ServerRefused."""
        self._notify()
        await self._idle.wait()
        self._raise()

    async def __aenter__(self) -> Reporter:
        self._job = await self._look()
        self._task = asyncio.create_task(self._run(), name="report")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        if self._ends and not self.job.done and self._refusal is None:
            stopped = kind is not None and not issubclass(kind, Exception)
            if error is not None and not stopped:
                self.end("failed", {"code": "exception", "message": f"{type(error).__name__}: {error}"[:2_500]})
            else:
                self.end("cancelled" if stopped or self.job.cancel_requested else "completed")
        self._closing = True
        self._bell.set()
        await self._task
        if error is None:
            self._raise()

    def _notify(self) -> None:
        self._raise()
        self._idle.clear()
        self._bell.set()

    def _raise(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _run(self) -> None:
        try:
            while not self._closing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._bell.wait()
                if not self._closing:
                    await asyncio.sleep(GATHER_S)
                self._bell.clear()
                await self._deliver()
            await self._deliver()
        except ServerRefused as refusal:
            self._refusal = refusal
        finally:
            self._idle.set()

    async def _deliver(self) -> None:
        if self.job.done:
            self._batch()  # nobody keeps what is said of a finished job
        else:
            await self._insist(self._batch())
        if not (self._passing or self._firm or self._counts):
            self._idle.set()

    def _batch(self) -> bytes:
        said = [*({"items": [one]} for one in self._passing.values()), *self._firm]
        if self._counts:
            said.append(self._counts)
        self._passing, self._firm, self._counts = {}, [], {}
        return b"".join(json.dumps(one).encode() + b"\n" for one in said) or b"\n"

    async def _insist(self, body: bytes) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                self._job = await self._send(body)
            except ServerRefused as refusal:
                if refusal.code == "job_finished":
                    self._job = await self._look()
                    return
                if refusal.status not in RETRYABLE or (self._closing and attempt >= LAST_ATTEMPTS):
                    raise
            except NoAnswer:
                if self._closing and attempt >= LAST_ATTEMPTS:
                    raise
            else:
                return
            pause = w.poll_backoff(min(attempt, 8), w.POLL_BACKOFF_MAX_MS, random.random())  # noqa: S311 – spreads
            await asyncio.sleep(pause / w.SECOND_MS)


class PlainReporter:
    """A Reporter for code without asyncio: it sends from a thread of its own. The same calls, with `with`."""

    def __init__(self, opened: Callable[[], contextlib.AbstractAsyncContextManager[Reporter]]) -> None:
        self._opened = opened
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="unstuck-reporter", daemon=True)
        self._context: contextlib.AbstractAsyncContextManager[Reporter] | None = None
        self._reporter: Reporter | None = None

    @property
    def job(self) -> Job:
        """The job as the last answer told it."""
        return self._here.job

    @property
    def over(self) -> bool:
        """As Reporter.over."""
        return self._here.over

    def item(self, which: int | str, state: str = "running", **more: Any) -> None:
        """As Reporter.item."""
        self._do(lambda: self._here.item(which, state, **more))

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """As Reporter.progress."""
        self._do(lambda: self._here.progress(processed, total, **more))

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """As Reporter.end."""
        self._do(lambda: self._here.end(state, error))

    def flush(self) -> None:
        """As Reporter.flush."""
        self._wait(self._here.flush())

    @property
    def _here(self) -> Reporter:
        if self._reporter is None:
            raise RuntimeError("Enter the reporter first: with report(job_id) as reporter.")
        return self._reporter

    def _do(self, call: Callable[[], None]) -> None:
        self._here._raise()
        self._loop.call_soon_threadsafe(call)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> PlainReporter:
        self._thread.start()
        try:
            self._context = self._opened()
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
