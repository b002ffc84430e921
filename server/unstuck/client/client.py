"""The Python client: turns calls into requests and refusals into exceptions.

It must not know the server's code, only PROTOCOL.md, and it does not decide when a watched job is polled.
Next: plain.py, the same without asyncio; form.py, what a submission sends; transport.py, how the server is
reached; follower.py, which watches a job; reporter.py, which reports work that runs elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from uuid import uuid4

import httpx
import msgspec

from unstuck.address import server_url
from unstuck.client import watch_state as w
from unstuck.client.download import save
from unstuck.client.follower import Follower, job_of, parsed, retry_after_ms
from unstuck.client.form import File, Form, Upload, json_body, uploads
from unstuck.client.reporter import PATIENCE_S, RETRYABLE, Reporter
from unstuck.client.transport import ANSWER_S, NO_ADDRESS, no_answer, open_http
from unstuck.errors import InvalidJobId, JobNotFound, NoAnswer, ServerRefused, UnstuckError
from unstuck.wire import Items, Job, Jobs, Kinds

#: How long a submission is tried while the server does not answer, or asks for patience (seconds).
SUBMIT_S = 5.0
#: The server may take this much longer to answer for each MiB of files, which it makes durable (seconds).
MIB_S = 1.0
#: The shortest wait for a response, also in the last of the time for a submission (seconds).
LEAST_ANSWER_S = 0.5

Found = TypeVar("Found", Jobs, Items, Kinds)


class Client:
    """An asyncio client of one server: `async with Client(url) as client`.

    Without a `url` it is that of the environment, UNSTUCK_URL, else DEFAULT_URL. `headers` are sent with every
    request, such as the Authorization that a proxy requires. `http` is an httpx.AsyncClient of your own, which is
    used as it is and not closed. Every method that sends a request may raise ServerRefused (with `code`, `status`
    and `detail`) or NoAnswer; those that take a job id also raise InvalidJobId and JobNotFound.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.url = server_url(url)
        self._headers = dict(headers or {})
        self._owned = http is None
        self._http = http or open_http(self.url)

    async def __aenter__(self) -> Client:
        if self._owned:
            await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            await self._http.__aexit__(kind, error, trace)

    async def submit(
        self,
        kind: str,
        *,
        files: Iterable[File | Upload] | None = None,
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
        lost_after_s: float | None = None,
        unit: str | None = None,
        units: str | None = None,
        patience_s: float = SUBMIT_S,
    ) -> Job:
        """Submit a job and return it.

        Its items are `files` (paths, or pairs of a name and its bytes), `items` (names), or `total` numbered ones.
        Jobs of a higher `priority` start first (default 0). An item is tried up to `max_attempts` times, each for
        at most `item_limit_seconds`. The job fails once more than `max_errors` of its items have failed, or if it
        is not done within `deadline_seconds`. When it is done, the server posts it to `webhook_url`. An `external`
        job is worked on elsewhere and reported with `report`; it needs neither items nor a total, and fails after
        `lost_after_s` seconds without a report (default: as the server is set). One item is called `unit`, such
        as "row", and several are called `units` (default: the English plural).

        The submission is sent again, under the same Idempotency-Key, if the response is lost or the server asks
        for patience (`queue_full`), for up to `patience_s` seconds; the time in which files are sent does not
        count. Raises FileUnusable if a file cannot be read or shrinks while it is sent, FileMissing (which is also
        a FileNotFoundError) if there is none, and InvalidOptions if an option is not JSON. A file that grows is
        sent as long as it was at first; a pipe is copied to a temporary file first.
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
            "lost_after_s": lost_after_s,
            "unit": unit,
            "units": units,
        }
        given = {field: value for field, value in fields.items() if value is not None}
        if files is None:
            return await self._submit(Body(json_body(given)), patience_s, kind)
        ready = await asyncio.to_thread(uploads, files)
        try:
            return await self._submit(Form(given, ready), patience_s, kind)
        finally:
            for upload in ready:
                upload.close()

    async def _submit(self, body: Body | Form, patience_s: float, kind: str) -> Job:
        try:
            return await self._post_until_answered("/api/jobs", body, patience_s)
        except ServerRefused as refusal:
            if refusal.code != "no_files" or isinstance(body, Form):
                raise
            text = f"{kind} works on files, and none was given: name at least one."
            raise ServerRefused(text, code=refusal.code, status=refusal.status) from None

    async def job(self, job_id: str) -> Job:
        """Return the job in its current state."""
        return _job_or_error(await self._request("GET", f"/api/jobs/{_checked_id(job_id)}"), job_id)

    def report(
        self,
        job_id: str,
        *,
        ends: bool = True,
        strict: bool = False,
        patience_s: float = PATIENCE_S,
        retry_on: Iterable[type[BaseException]] = (),
    ) -> Reporter:
        """Return a Reporter of work that runs elsewhere: `async with client.report(job_id) as report`.

        Leaving the block ends the job, unless `ends` is false or the work is tried again; see Reporter.
        """
        path = f"/api/jobs/{_checked_id(job_id)}/progress"
        headers = {"Content-Type": "application/x-ndjson"}

        async def send(body: bytes) -> Job:
            return _job_or_error(await self._request("POST", path, content=body, headers=headers), job_id)

        return Reporter(
            job_id, send, lambda: self.job(job_id),
            ends=ends, strict=strict, patience_s=patience_s, retry_on=retry_on,
        )  # fmt: skip

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
        return await self._post_until_answered(path, Body(json_body({"only": only})), SUBMIT_S, job_id)

    async def jobs(
        self,
        *,
        states: Iterable[str] = (),
        healths: Iterable[str] = (),
        name: str | None = None,
        id_prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Jobs:
        """Return a page of up to `limit` jobs (1 to 200), newest first.

        Its `next` is the cursor of the next page, or None. `states` and `healths` select jobs in any of these,
        `id_prefix` those whose id begins with it (4 characters or more), and `name` those whose name contains it,
        whatever the case. A search by name may return a shorter page, even an empty one, before the last: go by
        `next`.
        """
        params = {
            "state": list(states),
            "health": list(healths),
            "name": name,
            "id_prefix": id_prefix,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._get("/api/jobs", params, Jobs)

    async def items(
        self, job_id: str, *, states: Iterable[str] = (), limit: int = 100, cursor: str | None = None
    ) -> Items:
        """Return a page of up to `limit` of the job's items (1 to 1,000), by index.

        Its `next` is the cursor of the next page, or None. `states` selects items in any of these.
        """
        params = {"state": list(states), "limit": limit, "cursor": cursor}
        return await self._get(f"/api/jobs/{_checked_id(job_id)}/items", params, Items, job_id)

    async def kinds(self) -> Kinds:
        """Return the kinds of work that the server offers, and the limits of a submission."""
        return await self._get("/api/kinds", {}, Kinds)

    async def download(self, job_id: str, target: str | os.PathLike[str]) -> int:
        """Write all results of a finished job to the file `target` as a ZIP, and return its size (bytes).

        The file appears, or is replaced, when the ZIP is whole. Raises ServerRefused (`job_not_done`) if the job
        is not done, and FileUnusable if the file cannot be written.
        """
        return await self._save(job_id, "results", target)

    async def download_errors(self, job_id: str, target: str | os.PathLike[str]) -> int:
        """Write the errors of all failed items to the file `target` as CSV, and return its size (bytes).

        The job need not be done. The file appears, or is replaced, when it is whole. Raises FileUnusable if it
        cannot be written.
        """
        return await self._save(job_id, "errors", target)

    async def _save(self, job_id: str, what: str, target: str | os.PathLike[str]) -> int:
        address = f"{self.url}/api/jobs/{_checked_id(job_id)}/{what}"
        answer = await self._send(self._http.build_request("GET", address, headers=self._headers), stream=True)
        try:
            if answer.is_success:
                return await save(self._pieces(answer), Path(target))
            body = b"".join([piece async for piece in self._pieces(answer)])
            raise _refusal(answer, parsed(body.decode("utf-8", "replace")), job_id)
        finally:
            with suppress(Exception):  # the connection may be broken already
                await answer.aclose()

    async def rescue(self, job_id: str) -> Job:
        """Take the job's running items from their workers for another attempt, and return the job."""
        return _job_or_error(await self._request("POST", f"/api/jobs/{_checked_id(job_id)}/rescue"), job_id)

    async def fail(self, job_id: str, why: str) -> Job:
        """Stop the job's running items and end it as failed, for the reason `why`; return the job."""
        body = Body(json_body({"why": why}))
        path = f"/api/jobs/{_checked_id(job_id)}/fail"
        answer = await self._request("POST", path, content=body.content, headers=body.headers)
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
            page = await self._get("/api/jobs", params, Jobs)
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

    async def watch(
        self,
        job_id: str,
        *,
        on_link: Callable[[str], None] | None = None,
        fields: Literal["progress"] | None = None,
    ) -> AsyncIterator[Job]:
        """Yield the job whenever it has changed, always in its newest state; the last one yielded is done.

        Survives lost connections and server restarts; `on_link` is called with each new state of the connection
        (`live`, `polling`, `offline`, …). With `fields="progress"` the server sends a quarter of the bytes, and
        until the job is done its texts and times may be older than its numbers. Raises JobTimeoutError after 30
        minutes without any news of the job.
        """
        address = f"{self.url}/api/jobs/{_checked_id(job_id)}"
        if fields not in (None, "progress"):
            raise ValueError(f"fields must be 'progress' or None, not {fields!r}")
        follower = Follower(self._http, address, job_id, on_link, self._headers, fields)
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
        headers = {**self._headers, **more.pop("headers", {})}
        try:
            request = self._http.build_request(method, f"{self.url}{path}", headers=headers, **more)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise no_answer(self.url, error) from error
        return await self._send(request)

    async def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Send a request; raise NoAnswer for whatever a library raises, which no caller knows."""
        try:
            return await self._http.send(request, stream=stream)
        except UnstuckError:
            raise  # from a file that is sent
        except Exception as error:  # h11, ssl and sockets raise exceptions of their own
            raise no_answer(self.url, error) from error

    async def _pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_bytes():
                yield piece
        except Exception as error:  # as in _send
            raise no_answer(self.url, error) from error

    async def _get(self, path: str, params: Mapping[str, Any], kind: type[Found], job_id: str = "") -> Found:
        given = {name: value for name, value in params.items() if value}
        answer = await self._request("GET", path, params=given)
        body = parsed(answer.text)
        if answer.is_success:
            with suppress(msgspec.ValidationError):
                return msgspec.convert(body, kind)
        raise _refusal(answer, body, job_id)

    async def _post_until_answered(self, path: str, body: Body | Form, patience_s: float, job_id: str = "") -> Job:
        headers = {"Idempotency-Key": str(uuid4()), **body.headers}
        began, sending_s, attempt = time.monotonic(), 0.0, 0
        while True:
            attempt += 1
            left = max(patience_s - (time.monotonic() - began - sending_s), LEAST_ANSWER_S)
            answer_s = left + min(body.file_bytes / 2**20 * MIB_S, ANSWER_S)
            limits = httpx.Timeout(left, read=answer_s, write=None)
            error: UnstuckError
            retry_after = 0.0
            try:
                answer = await self._request("POST", path, headers=headers, content=body.content, timeout=limits)
                if answer.status_code not in RETRYABLE:
                    return _job_or_error(answer, job_id)
                error = _refusal(answer, parsed(answer.text), job_id)
                retry_after = min(w.RETRY_AFTER_MAX_MS, retry_after_ms(answer) or 0)
            except NoAnswer as failure:
                if failure.advice in NO_ADDRESS:
                    raise
                error = failure
            sending_s += body.sending_s
            backoff = w.backoff(attempt, w.BACKOFF_MAX_MS, random.random())  # noqa: S311 – no secret
            pause_s = max(retry_after, backoff) / w.SECOND_MS
            if time.monotonic() - began - sending_s + pause_s > patience_s:
                raise error
            await asyncio.sleep(pause_s)


class Body:
    """A body of JSON that is in memory."""

    file_bytes, sending_s = 0, 0.0
    headers: Mapping[str, str] = {"Content-Type": "application/json"}

    def __init__(self, content: bytes) -> None:
        self.content = content


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
