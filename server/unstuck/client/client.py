"""The Python client: turns calls into requests and refusals into exceptions, in asyncio and in plain scripts.

It must not know the server's code, only PROTOCOL.md, and it does not decide when a watched job is polled.
Next: follower.py, which watches a job; reporter.py, which reports work that runs elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import anyio
import httpx
import msgspec

from unstuck.address import server_url
from unstuck.client import watch_state as w
from unstuck.client.follower import Follower, job_of, parsed, retry_after_ms
from unstuck.client.reporter import RETRYABLE, PlainReporter, Reporter
from unstuck.errors import InvalidJobId, JobNotFound, NoAnswer, ServerRefused, UnstuckError
from unstuck.wire import Items, Job, Jobs, Kinds

#: Attempts at a submission; with the pauses between polls they span about half a minute.
SUBMIT_ATTEMPTS = 5
#: The longest wait for a response before a submission is sent again (seconds); the upload itself has no limit.
ANSWER_S = 60.0
#: Each watched job has its own stream. Under a limit (httpx: 100) further streams, and their polls, wait silently
#: for a free connection: of 150 jobs watched at once, 50 never got an event.
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)

T = TypeVar("T")
Page = TypeVar("Page", Jobs, Items)


class Client:
    """An asyncio client of one server: `async with Client(url) as client`.

    Without a `url` it is that of the environment, UNSTUCK_URL, else DEFAULT_URL. `headers` are sent with every
    request, such as the Authorization that a proxy requires. Every method that sends a request may raise
    ServerRefused (with `code`, `status` and `detail`) or NoAnswer; those that take a job id also raise
    InvalidJobId and JobNotFound.
    """

    def __init__(self, url: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        self.url = server_url(url)
        self._http = httpx.AsyncClient(
            headers=headers, follow_redirects=True, timeout=httpx.Timeout(ANSWER_S), limits=CONNECTIONS
        )

    async def __aenter__(self) -> Client:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def submit(
        self,
        kind: str,
        *,
        files: Iterable[str | os.PathLike[str] | tuple[str, bytes]] | None = None,
        items: Iterable[str] | None = None,
        total: int | None = None,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        max_errors: int | None = None,
        deadline_seconds: float | None = None,
        item_limit_seconds: float | None = None,
        webhook_url: str | None = None,
        external: bool = False,
        unit: str | None = None,
        units: str | None = None,
    ) -> Job:
        """Submit a job and return it.

        Its items are `files` (paths, or pairs of a name and its bytes), `items` (names), or `total` numbered ones.
        Jobs of a higher `priority` start first (default 0). An item is tried up to `max_attempts` times, each for
        at most `item_limit_seconds`. The job fails once more than `max_errors` of its items have failed, or if it
        is not done within `deadline_seconds`. When it is done, the server posts it to `webhook_url`. An `external`
        job is worked on elsewhere and reported with `report`; it needs neither items nor a total. One item
        is called `unit`, such as "row", and several are called `units` (default: the English plural).

        The submission is sent again, under the same Idempotency-Key, if the response is lost or the server asks
        for patience (`queue_full`). Raises FileNotFoundError, before anything is sent, if a file is missing.
        """
        fields: dict[str, Any] = {
            "kind": kind,
            "name": name,
            "options": dict(options) if options else None,
            "items": None if items is None else list(items),
            "total": total,
            "priority": priority,
            "max_attempts": max_attempts,
            "max_errors": max_errors,
            "deadline_seconds": deadline_seconds,
            "item_limit_seconds": item_limit_seconds,
            "webhook_url": webhook_url,
            "external": external or None,
            "unit": unit,
            "units": units,
        }
        given = {field: value for field, value in fields.items() if value is not None}
        if files is None:
            return await self._post_until_answered("/api/jobs", {"json": given})
        form = {field: value if isinstance(value, str) else json.dumps(value) for field, value in given.items()}
        parts = [("files", _file_part(file)) for file in files]
        return await self._post_until_answered("/api/jobs", {"data": form, "files": parts})

    async def job(self, job_id: str) -> Job:
        """Return the job in its current state."""
        return _job_or_error(await self._request("GET", f"/api/jobs/{_checked_id(job_id)}"), job_id)

    def report(self, job_id: str, *, ends: bool = True) -> Reporter:
        """Return a Reporter of work that runs elsewhere: `async with client.report(job_id) as report`.

        Leaving the block ends the job, unless `ends` is false; see Reporter.
        """
        path = f"/api/jobs/{_checked_id(job_id)}/progress"
        headers = {"Content-Type": "application/x-ndjson"}

        async def send(body: bytes) -> Job:
            return _job_or_error(await self._request("POST", path, content=body, headers=headers), job_id)

        return Reporter(send, lambda: self.job(job_id), ends=ends)

    async def cancel(self, job_id: str) -> Job:
        """Ask for the job to be cancelled, and return it.

        Its state becomes `cancelled` only once its work has really stopped. A finished job does not change.
        """
        return _job_or_error(await self._request("POST", f"/api/jobs/{_checked_id(job_id)}/cancel"), job_id)

    async def retry(self, job_id: str, only: str = "failed") -> Job:
        """Submit a new job for the failed and cancelled items of a finished one, and return it.

        With `only="all"` the new job has all of its items. Sent again as a submission is. Raises ServerRefused
        (`nothing_to_retry`) if no item failed or was cancelled.
        """
        path = f"/api/jobs/{_checked_id(job_id)}/retry"
        return await self._post_until_answered(path, {"json": {"only": only}}, job_id)

    async def jobs(
        self,
        *,
        states: Iterable[str] = (),
        healths: Iterable[str] = (),
        id_prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Jobs:
        """Return a page of up to `limit` jobs (1 to 200), newest first.

        Its `next` is the cursor of the next page, or None. `states` and `healths` select jobs in any of these,
        `id_prefix` those whose id begins with it (4 characters or more).
        """
        params = {
            "state": list(states),
            "health": list(healths),
            "id_prefix": id_prefix,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._page("/api/jobs", params, Jobs)

    async def items(
        self, job_id: str, *, states: Iterable[str] = (), limit: int = 100, cursor: str | None = None
    ) -> Items:
        """Return a page of up to `limit` of the job's items (1 to 1,000), by index.

        Its `next` is the cursor of the next page, or None. `states` selects items in any of these.
        """
        params = {"state": list(states), "limit": limit, "cursor": cursor}
        return await self._page(f"/api/jobs/{_checked_id(job_id)}/items", params, Items, job_id)

    async def kinds(self) -> Kinds:
        """Return the kinds of work that the server offers, and the limits of a submission."""
        answer = await self._request("GET", "/api/kinds")
        body = parsed(answer.text)
        if answer.is_success:
            with suppress(msgspec.ValidationError):
                return msgspec.convert(body, Kinds)
        raise _refusal(answer, body, "")

    async def download(self, job_id: str, target: str | os.PathLike[str]) -> int:
        """Write all results of a finished job to the file `target` as a ZIP, and return its size (bytes).

        The file appears, or is replaced, when the ZIP is whole. Raises ServerRefused (`job_not_done`) if the job
        is not done, and OSError if the file cannot be written.
        """
        address = f"{self.url}/api/jobs/{_checked_id(job_id)}/results"
        partial = anyio.Path(f"{os.fspath(target)}.partial-{uuid4().hex[:8]}")
        try:
            async with self._http.stream("GET", address) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(answer, parsed(answer.text), job_id)
                async with await partial.open("xb") as file:
                    async for piece in answer.aiter_bytes():
                        await file.write(piece)
                    size = await file.tell()
            await partial.replace(os.fspath(target))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(self.url, error) from error
        finally:
            await partial.unlink(missing_ok=True)
        return size

    async def rescue(self, job_id: str) -> Job:
        """Take the job's running items from their workers for another attempt, and return the job."""
        return _job_or_error(await self._request("POST", f"/api/jobs/{_checked_id(job_id)}/rescue"), job_id)

    async def fail(self, job_id: str, why: str) -> Job:
        """Stop the job's running items and end it as failed, for the reason `why`; return the job."""
        answer = await self._request("POST", f"/api/jobs/{_checked_id(job_id)}/fail", json={"why": why})
        return _job_or_error(answer, job_id)

    async def remove(self, job_id: str) -> None:
        """Remove a finished job and its files; ServerRefused (`job_not_done`) if it is not finished."""
        answer = await self._request("DELETE", f"/api/jobs/{_checked_id(job_id)}")
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise _refusal(answer, parsed(answer.text), job_id)

    async def finished(self, longer_ago_s: float, states: Iterable[str] = ()) -> AsyncIterator[Job]:
        """Yield the jobs that finished more than `longer_ago_s` seconds ago by the server's clock, oldest first.

        `states` selects jobs in any of these final states. Raises ServerRefused (`not_our_answer`) if the server
        is too old to list jobs by when they finished.
        """
        newest = (await self.jobs(limit=1)).jobs
        if not newest:
            return
        before = datetime.fromisoformat(newest[0].server_time) - timedelta(seconds=longer_ago_s)
        params: dict[str, Any] = {"finished_before": before.isoformat(), "limit": 200, "state": list(states)}
        while True:
            page = await self._page("/api/jobs", params, Jobs)
            for job in page.jobs:
                if job.finished_at is None or datetime.fromisoformat(job.finished_at) >= before:
                    # A server that does not know the filter lists all jobs; these must not pass for old ones.
                    raise ServerRefused(
                        f"{self.url} cannot list jobs by when they finished; upgrade the server.",
                        code="not_our_answer",
                    )
                yield job
            if page.next is None:
                return
            params["cursor"] = page.next

    async def watch(self, job_id: str, *, on_link: Callable[[str], None] | None = None) -> AsyncIterator[Job]:
        """Yield the job whenever it has changed, always in its newest state; the last one yielded is done.

        Survives lost connections and server restarts; `on_link` is called with each new state of the connection
        (`live`, `polling`, `offline`, …). Raises JobTimeoutError after 30 minutes without any news of the job.
        """
        follower = Follower(self._http, f"{self.url}/api/jobs/{_checked_id(job_id)}", job_id, on_link)
        try:
            async for job in follower.jobs():
                yield job
        finally:
            await follower.close()

    async def wait(self, job_id: str) -> Job:
        """Wait until the job is done, and return it, whatever its final state; raises what `watch` raises."""
        newest: Job | None = None
        async for job in self.watch(job_id):
            newest = job
        assert newest is not None  # `watch` yields a job that is done, or raises
        return newest

    async def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, f"{self.url}{path}", **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(self.url, error) from error

    async def _page(self, path: str, params: Mapping[str, Any], kind: type[Page], job_id: str = "") -> Page:
        given = {name: value for name, value in params.items() if value}
        answer = await self._request("GET", path, params=given)
        body = parsed(answer.text)
        if answer.is_success:
            with suppress(msgspec.ValidationError):
                return msgspec.convert(body, kind)
        raise _refusal(answer, body, job_id)

    async def _post_until_answered(self, path: str, content: dict[str, Any], job_id: str = "") -> Job:
        key = {"Idempotency-Key": str(uuid4())}
        limits = httpx.Timeout(ANSWER_S, write=None)
        for attempt in range(1, SUBMIT_ATTEMPTS + 1):
            last = attempt == SUBMIT_ATTEMPTS
            retry_after = 0.0
            try:
                answer = await self._request("POST", path, headers=key, timeout=limits, **content)
                if last or answer.status_code not in RETRYABLE:
                    return _job_or_error(answer, job_id)
                retry_after = min(w.RETRY_AFTER_MAX_MS, retry_after_ms(answer) or 0)
            except NoAnswer as error:
                if last or isinstance(error.__cause__, httpx.InvalidURL | httpx.UnsupportedProtocol):
                    raise
            backoff = w.poll_backoff(attempt, w.POLL_BACKOFF_MAX_MS, random.random())  # noqa: S311 – no secret
            await asyncio.sleep(max(retry_after, backoff) / w.SECOND_MS)
        raise AssertionError("the last attempt returns or raises")


# --- answers


def _job_or_error(answer: httpx.Response, job_id: str = "") -> Job:
    body = parsed(answer.text)
    if answer.is_success and (job := job_of(body)) is not None:
        return job
    raise _refusal(answer, body, job_id)


def _refusal(answer: httpx.Response, body: Mapping[str, Any] | None, job_id: str) -> UnstuckError:
    problem = body or {}
    if problem.get("code") == JobNotFound.code:
        return JobNotFound(job_id)
    if answer.is_success or not isinstance(problem.get("detail"), str):
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        return ServerRefused(
            f"{answer.url} answered {status}, but not as unstuck does. Is this its address, without /api?",
            code="not_our_answer",
            status=answer.status_code,
        )
    code = problem.get("code")
    return ServerRefused(
        problem["detail"], code=code if isinstance(code, str) else None, status=answer.status_code
    )


def _checked_id(job_id: str) -> str:
    """Return the id if it is safe in a URL path; InvalidJobId if it would lead to another address."""
    if not job_id or not job_id.isascii() or not all(char.isalnum() or char == "-" for char in job_id):
        raise InvalidJobId(job_id)
    return job_id


# --- files


class _LazyFile:
    """A file that is open only while it is read, so that ten thousand of them need one descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._open: BinaryIO | None = None

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Close the file, so that it is read from the start again; from its end, return its size.

        An upload needs nothing else.
        """
        self._close()
        return self._size if whence == os.SEEK_END else offset

    def read(self, size: int = -1) -> bytes:
        if self._open is None:
            self._open = self._path.open("rb")
        data = self._open.read(size)
        if not data:
            self._close()
        return data

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _file_part(file: str | os.PathLike[str] | tuple[str, bytes]) -> tuple[str, Any]:
    if isinstance(file, tuple):
        return file
    path = Path(file)
    return path.name, _LazyFile(path)


# --- plain functions for scripts


def _run(url: str | None, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    async def once() -> T:
        async with Client(url) as client:
            return await call(client)

    return asyncio.run(once())


def submit(kind: str, *, url: str | None = None, **more: Any) -> Job:
    """Submit a job and return it, as `Client.submit` does."""
    return _run(url, lambda client: client.submit(kind, **more))


def report(job_id: str, *, url: str | None = None, ends: bool = True) -> PlainReporter:
    """Return a reporter of work that runs elsewhere, for `with`; see `Client.report`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Reporter]:
        async with Client(url) as client, client.report(job_id, ends=ends) as reporter:
            yield reporter

    return PlainReporter(opened)


def wait(job_id: str, *, url: str | None = None) -> Job:
    """Wait until the job is done, and return it, as `Client.wait` does."""
    return _run(url, lambda client: client.wait(job_id))


def cancel(job_id: str, *, url: str | None = None) -> Job:
    """Ask for the job to be cancelled, and return it, as `Client.cancel` does."""
    return _run(url, lambda client: client.cancel(job_id))


def retry(job_id: str, only: str = "failed", *, url: str | None = None) -> Job:
    """Submit a new job for what failed in a finished one, and return it, as `Client.retry` does."""
    return _run(url, lambda client: client.retry(job_id, only))


def remove(job_id: str, *, url: str | None = None) -> None:
    """Remove a finished job and its files, as `Client.remove` does."""
    return _run(url, lambda client: client.remove(job_id))


def watch(job_id: str, *, url: str | None = None, on_link: Callable[[str], None] | None = None) -> Iterator[Job]:
    """Yield the job whenever it has changed, as `Client.watch` does.

    Nothing runs between two steps of the iteration; the next one catches up.
    """
    with asyncio.Runner() as runner:
        client = Client(url)
        jobs = client.watch(job_id, on_link=on_link)

        async def next_job() -> Job | None:
            return await anext(jobs, None)

        async def close() -> None:
            await jobs.aclose()  # type: ignore[attr-defined]
            await client.__aexit__(None, None, None)

        try:
            while (job := runner.run(next_job())) is not None:
                yield job
        finally:
            runner.run(close())
