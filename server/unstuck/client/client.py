"""The Python client: submit, watch, wait, cancel, retry, remove; async, and as plain functions for scripts.

It turns calls into requests, and refusals into exceptions. How a job is watched is follow.py's affair. It must
not know the server's inside: it speaks PROTOCOL.md over HTTP.
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

import httpx
import msgspec

from unstuck.client import watch_state as w
from unstuck.client.follower import Follower, job_of, parsed, retry_after_ms
from unstuck.client.reporter import RETRYABLE, PlainReporter, Reporter
from unstuck.errors import InvalidJobId, JobNotFound, NoAnswer, ServerRefused, UnstuckError
from unstuck.wire import Items, Job, Jobs

DEFAULT_URL = "http://127.0.0.1:8765"
#: How often a submission is sent; with the pauses of the polls that is about half a minute.
SUBMIT_ATTEMPTS = 5
#: An answer within this, or the submission is sent again (seconds); sending itself may take as long as it takes.
ANSWER_S = 60.0
#: Each watched job has a stream of its own. With a limit on them (httpx: 100), those beyond it wait for a place
#: without a word, and so do their polls: 150 jobs watched at once, and 50 never heard of.
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)

T = TypeVar("T")
Page = TypeVar("Page", Jobs, Items)


class Client:
    """A server, spoken to from asyncio: `async with Client(url) as client`.

    `headers` go with every request, such as the Authorization that a proxy wants. Methods raise ServerRefused
    (with `code`, `status`, `detail`), JobNotFound, or NoAnswer.
    """

    def __init__(self, url: str = DEFAULT_URL, *, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
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
    ) -> Job:
        """A new job of `files` (paths, or names with bytes), of named `items`, or of a `total`.

        Of a higher `priority`, it goes first; an item is worked on up to `max_attempts` times, for up to
        `item_limit_seconds`; the job fails when more than `max_errors` items have, or after `deadline_seconds`
        from now; its end is told to `webhook_url`. `external`: its work runs elsewhere, see `report`; then
        it may do without items and total.

        Sent again when the answer is lost, or the server asks for patience (`queue_full`): a key tells it that it
        is the same submission.
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
        }
        given = {field: value for field, value in fields.items() if value is not None}
        if files is None:
            return await self._insist("/api/jobs", {"json": given})
        form = {field: value if isinstance(value, str) else json.dumps(value) for field, value in given.items()}
        return await self._insist("/api/jobs", {"data": form, "files": [("files", _part(one)) for one in files]})

    async def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return _job_or_error(await self._ask("GET", f"/api/jobs/{_checked(job_id)}"), job_id)

    def report(self, job_id: str, *, ends: bool = True) -> Reporter:
        """For work that runs elsewhere: `async with client.report(job_id) as report`, see reporter.py."""
        path = f"/api/jobs/{_checked(job_id)}/progress"
        headers = {"Content-Type": "application/x-ndjson"}

        async def send(body: bytes) -> Job:
            return _job_or_error(await self._ask("POST", path, content=body, headers=headers), job_id)

        return Reporter(send, lambda: self.job(job_id), ends=ends)

    async def cancel(self, job_id: str) -> Job:
        """Ask for the job's end; it is `cancelled` when the work has really stopped. A finished job stays."""
        return _job_or_error(await self._ask("POST", f"/api/jobs/{_checked(job_id)}/cancel"), job_id)

    async def retry(self, job_id: str, only: str = "failed") -> Job:
        """A new job of what failed or was cancelled in a finished one, or, with `only="all"`, of all of it.

        Sent again as a submission is.
        """
        return await self._insist(f"/api/jobs/{_checked(job_id)}/retry", {"json": {"only": only}}, job_id)

    async def jobs(
        self,
        *,
        states: Iterable[str] = (),
        healths: Iterable[str] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> Jobs:
        """A page of jobs, the newest first; its `next` is the cursor of the following one."""
        wanted = {"state": list(states), "health": list(healths), "limit": limit, "cursor": cursor}
        return await self._page("/api/jobs", wanted, Jobs)

    async def items(
        self, job_id: str, *, states: Iterable[str] = (), limit: int = 100, cursor: str | None = None
    ) -> Items:
        """A page of a job's items; its `next` is the cursor of the following one."""
        wanted = {"state": list(states), "limit": limit, "cursor": cursor}
        return await self._page(f"/api/jobs/{_checked(job_id)}/items", wanted, Items, job_id)

    async def rescue(self, job_id: str) -> Job:
        """Have what the job works on taken from its workers and tried again."""
        return _job_or_error(await self._ask("POST", f"/api/jobs/{_checked(job_id)}/rescue"), job_id)

    async def fail(self, job_id: str, why: str) -> Job:
        """Give up on the job: it ends as failed, and what runs is stopped."""
        answer = await self._ask("POST", f"/api/jobs/{_checked(job_id)}/fail", json={"why": why})
        return _job_or_error(answer, job_id)

    async def remove(self, job_id: str) -> None:
        """Remove a finished job and its files."""
        answer = await self._ask("DELETE", f"/api/jobs/{_checked(job_id)}")
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise _refusal(answer, parsed(answer.text), job_id)

    async def finished(self, longer_ago_s: float, states: Iterable[str] = ()) -> AsyncIterator[Job]:
        """The jobs that finished longer ago than this by the server's clock, the oldest end first."""
        newest = (await self.jobs(limit=1)).jobs
        if not newest:
            return
        before = datetime.fromisoformat(newest[0].server_time) - timedelta(seconds=longer_ago_s)
        wanted: dict[str, Any] = {"finished_before": before.isoformat(), "limit": 200, "state": list(states)}
        while True:
            page = await self._page("/api/jobs", wanted, Jobs)
            for job in page.jobs:
                if job.finished_at is None or datetime.fromisoformat(job.finished_at) >= before:
                    # A server that does not know the filter lists all jobs: nobody may take these for old ones.
                    raise ServerRefused(
                        f"{self.url} cannot list jobs by their end; upgrade the server.", code="not_our_answer"
                    )
                yield job
            if page.next is None:
                return
            wanted["cursor"] = page.next

    async def watch(self, job_id: str, *, on_link: Callable[[str], None] | None = None) -> AsyncIterator[Job]:
        """Every news of the job, the newest truth each time; the last one has `done`.

        Survives whatever breaks on the way; `on_link` is told how it stands (`live`, `polling`, `offline`, …).
        JobTimeoutError after 30 minutes without any news, JobNotFound.
        """
        watch = Follower(self._http, f"{self.url}/api/jobs/{_checked(job_id)}", job_id, on_link)
        try:
            async for job in watch.jobs():
                yield job
        finally:
            await watch.close()

    async def wait(self, job_id: str) -> Job:
        """The finished job, in whichever final state. Errors as those of `watch`."""
        job: Job | None = None
        async for news in self.watch(job_id):
            job = news
        assert job is not None  # watching ends with a job that is done, or raises
        return job

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, f"{self.url}{path}", **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(self.url, error) from error

    async def _page(self, path: str, wanted: Mapping[str, Any], kind: type[Page], job_id: str = "") -> Page:
        params = {name: value for name, value in wanted.items() if value}
        answer = await self._ask("GET", path, params=params)
        body = parsed(answer.text)
        if answer.is_success:
            with suppress(msgspec.ValidationError):
                return msgspec.convert(body, kind)
        raise _refusal(answer, body, job_id)

    async def _insist(self, path: str, content: dict[str, Any], job_id: str = "") -> Job:
        key = {"Idempotency-Key": str(uuid4())}
        limits = httpx.Timeout(ANSWER_S, write=None)
        for attempt in range(1, SUBMIT_ATTEMPTS + 1):
            last = attempt == SUBMIT_ATTEMPTS
            asked = 0.0
            try:
                answer = await self._ask("POST", path, headers=key, timeout=limits, **content)
                if last or answer.status_code not in RETRYABLE:
                    return _job_or_error(answer, job_id)
                asked = min(w.RETRY_AFTER_MAX_MS, retry_after_ms(answer) or 0)
            except NoAnswer as error:
                if last or isinstance(error.__cause__, httpx.InvalidURL | httpx.UnsupportedProtocol):
                    raise
            pause = max(asked, w.poll_backoff(attempt, w.POLL_BACKOFF_MAX_MS, random.random()))  # noqa: S311 – spreads, hides nothing
            await asyncio.sleep(pause / w.SECOND_MS)
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
        what = f"{answer.status_code} {answer.reason_phrase}".strip()
        return ServerRefused(
            f"{answer.url} answered {what}, but not as unstuck does. Is this its address, without /api?",
            code="not_our_answer",
            status=answer.status_code,
        )
    code = problem.get("code")
    return ServerRefused(
        problem["detail"], code=code if isinstance(code, str) else None, status=answer.status_code
    )


def _checked(job_id: str) -> str:
    """An id that can stand in a URL; anything else would be another address."""
    if not job_id or not job_id.isascii() or not all(sign.isalnum() or sign == "-" for sign in job_id):
        raise InvalidJobId(job_id)
    return job_id


# --- files


class _Late:
    """A file that is open only while it is read: ten thousand of them need one descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._open: BinaryIO | None = None

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Only what an upload needs: its size, and from the start again."""
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


def _part(one: str | os.PathLike[str] | tuple[str, bytes]) -> tuple[str, Any]:
    if isinstance(one, tuple):
        return one
    path = Path(one)
    return path.name, _Late(path)


# --- plain functions for scripts: the same, waited for


def _run(url: str, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    async def once() -> T:
        async with Client(url) as client:
            return await call(client)

    return asyncio.run(once())


def submit(kind: str, *, url: str = DEFAULT_URL, **more: Any) -> Job:
    """`Client.submit`."""
    return _run(url, lambda client: client.submit(kind, **more))


def report(job_id: str, *, url: str = DEFAULT_URL, ends: bool = True) -> PlainReporter:
    """`Client.report`, with `with`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Reporter]:
        async with Client(url) as client, client.report(job_id, ends=ends) as reporter:
            yield reporter

    return PlainReporter(opened)


def wait(job_id: str, *, url: str = DEFAULT_URL) -> Job:
    """`Client.wait`."""
    return _run(url, lambda client: client.wait(job_id))


def cancel(job_id: str, *, url: str = DEFAULT_URL) -> Job:
    """`Client.cancel`."""
    return _run(url, lambda client: client.cancel(job_id))


def retry(job_id: str, only: str = "failed", *, url: str = DEFAULT_URL) -> Job:
    """`Client.retry`."""
    return _run(url, lambda client: client.retry(job_id, only))


def remove(job_id: str, *, url: str = DEFAULT_URL) -> None:
    """`Client.remove`."""
    return _run(url, lambda client: client.remove(job_id))


def watch(job_id: str, *, url: str = DEFAULT_URL, on_link: Callable[[str], None] | None = None) -> Iterator[Job]:
    """`Client.watch`. Between two steps nothing runs; what happened meanwhile is found with the next one."""
    with asyncio.Runner() as runner:
        client = Client(url)
        news = client.watch(job_id, on_link=on_link)

        async def following() -> Job | None:
            return await anext(news, None)

        async def close() -> None:
            await news.aclose()  # type: ignore[attr-defined]
            await client.__aexit__(None, None, None)

        try:
            while (job := runner.run(following())) is not None:
                yield job
        finally:
            runner.run(close())
