"""Follows one job until it is done: carries out over HTTP what watchdog.py decides, and feeds back what happened.

It must not decide when to poll, reopen or give up, and must not know how jobs are submitted.
Next: watchdog.py; client.py, which offers this as `Client.watch`; frontend/client/follower.js, its twin.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Literal

import anyio
import httpx
import msgspec

from unstuck.client.sse_decoder import SSEDecoder
from unstuck.client.watch_state import SECOND_MS, WatchAction, WatchEvent, WatchState
from unstuck.client.watchdog import step
from unstuck.errors import JobNotFound, JobTimeoutError
from unstuck.wire import Job

#: Events queued for a busy caller; when the queue is full the stream is not read, and the server coalesces.
INBOX_SIZE = 64
#: The machine has slept if the wall clock gained more than this on the monotonic one (milliseconds).
SLEPT_MS = 2_000


class Follower:
    """One followed job, whose events all pass through one inbox, one at a time."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        job_id: str,
        on_link: Callable[[str], None] | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Literal["progress"] | None = None,
    ) -> None:
        self._headers = dict(headers or {})
        self._events_url = f"{url}/events?items=0{f'&fields={fields}' if fields else ''}"
        self._http, self._url, self._job_id, self._on_link = http, url, job_id, on_link
        self._state = WatchState()
        self._inbox: asyncio.Queue[WatchEvent | BaseException] = asyncio.Queue(INBOX_SIZE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[int, anyio.CancelScope] = {}
        self._poll: anyio.CancelScope | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._newest: Job | None = None
        self._end: WatchAction | None = None
        self._etag: tuple[str, int] | None = None
        self._now, self._wall, self._monotonic = 0.0, time.time(), time.monotonic()

    async def jobs(self) -> AsyncIterator[Job]:
        """Yield the job whenever it has changed, until it is done.

        Raises JobTimeoutError if the policy gives up, JobNotFound if the server does not know the job.
        """
        yielded: Job | None = None
        self._handle({"type": "start"})
        while True:
            while not self._inbox.empty():  # a caller that was busy gets only the newest state
                self._receive(self._inbox.get_nowait())
            if self._newest is not None and _without_time(self._newest) != _without_time(yielded):
                yielded = self._newest
                yield yielded
                continue
            if self._end is not None:
                break
            self._set_timer()
            self._receive(await self._inbox.get())
        if self._end["reason"] == "gave_up":
            raise JobTimeoutError(self._job_id, self._end["elapsed_minutes"])
        if self._end["reason"] == "not_found":
            raise JobNotFound(self._job_id)

    async def close(self) -> None:
        """Close every connection; the job itself continues."""
        if self._timer is not None:
            self._timer.cancel()
        for scope in (*self._streams.values(), *([self._poll] if self._poll else [])):
            scope.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # events in, actions out

    def _receive(self, event: WatchEvent | BaseException) -> None:
        if isinstance(event, BaseException):
            raise event
        self._handle(event)

    def _handle(self, event: WatchEvent) -> None:
        link_before = self._state.link
        chance = random.random()  # noqa: S311 – no secret
        self._state, actions = step(self._state, event, self._now_ms(), chance)
        for action in actions:
            self._act(action, event)
        if self._on_link is not None and self._state.link != link_before:
            self._on_link(self._state.link)

    def _act(self, action: WatchAction, event: WatchEvent) -> None:
        match action["type"]:
            case "show":
                self._newest = event["job"]
            case "open_stream":
                number = action["stream"]
                self._streams[number] = self._start(self._read_stream, number)
            case "close_stream":
                self._streams.pop(action["stream"]).cancel()
            case "poll":
                self._poll = self._start(self._fetch_job, action["poll"], action["reason"])
            case "abort_poll" if self._poll is not None:
                self._poll.cancel()
            case "end":
                self._end = action

    def _set_timer(self) -> None:
        """Set the timer anew: if it rang a little early, the policy does not ask for another."""
        if self._timer is not None:
            self._timer.cancel()
        at = self._state.wake_at
        if at is not None:
            delay_s = max(0, at - self._now_ms()) / SECOND_MS
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        if not self._inbox.full():  # any queued event also runs the policy's timers
            self._inbox.put_nowait({"type": "tick"})

    def _now_ms(self) -> int:
        """Return the time by a monotonic clock that also counts the time the machine slept (milliseconds)."""
        wall, monotonic = time.time(), time.monotonic()
        by_wall, by_monotonic = (wall - self._wall) * SECOND_MS, (monotonic - self._monotonic) * SECOND_MS
        self._now += by_wall if by_wall > by_monotonic + SLEPT_MS else by_monotonic
        self._wall, self._monotonic = wall, monotonic
        return round(self._now)

    def _start(self, work: Callable[..., Coroutine[Any, Any, WatchEvent]], *arguments: Any) -> anyio.CancelScope:
        """Start a request, and return the scope that ends it.

        The task itself is not cancelled: httpcore shields the closing of a connection from anyio's cancellation
        only, and a stream that ended in the same moment stayed open, half closed, in the pool.
        """
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await self._report(work, *arguments)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return scope

    async def _report(self, work: Callable[..., Coroutine[Any, Any, WatchEvent]], *arguments: Any) -> None:
        try:
            event: WatchEvent | BaseException = await work(*arguments)
        except Exception as error:  # noqa: BLE001 – a bug must reach the caller, not end a task silently
            event = error
        await self._inbox.put(event)

    # streams and polls

    async def _read_stream(self, number: int) -> WatchEvent:
        """Read a stream until it breaks, and return the `stream_error` event."""
        headers = {**self._headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        broken: WatchEvent = {"type": "stream_error", "stream": number}
        try:
            request = self._http.build_request("GET", self._events_url, headers=headers, timeout=None)
            answer = await self._http.send(request, stream=True)
        except Exception:  # noqa: BLE001 – h11, ssl and sockets raise exceptions of their own
            return broken  # the policy treats all breaks alike; its poll finds out why
        try:
            if answer.status_code == 200 and is_event_stream(answer):
                await self._inbox.put({"type": "stream_open", "stream": number})
                await self._read_events(number, answer)
        finally:
            with suppress(Exception):
                await answer.aclose()
        return broken

    async def _read_events(self, number: int, answer: httpx.Response) -> None:
        decoder = SSEDecoder()
        held: dict[str, Any] = {}
        async for piece in _until_broken(answer):
            for event in decoder.feed(piece):
                if not await self._read_event(number, event.event, event.data, held):
                    return

    async def _read_event(self, stream: int, name: str, text: str, held: dict[str, Any]) -> bool:
        """Queue one event of a stream, and return whether it could be read; a stream of garbage is unreliable.

        `held` is the job as the stream's events so far make it.
        """
        if name not in ("job", "items", "heartbeat", "leaving", "gone"):
            return True
        data = parsed(text)
        event: dict[str, Any] = {"type": name, "stream": stream}
        if data is None:
            return False
        if name == "job":
            if job_of(data) is None:
                return False
            update(held, data)
            event["job"] = job_of(held)
        elif name == "heartbeat":
            seqs = data.get("jobs")
            seq = seqs.get(self._job_id.lower()) if isinstance(seqs, dict) else None
            event["seq"] = seq if isinstance(seq, int) else None
            event["next_ms"] = next_ms(data)
        elif name == "leaving":
            retry = data.get("retry_ms")
            event["retry_ms"] = retry if isinstance(retry, int | float) else 0
        await self._inbox.put(event)
        return True

    async def _fetch_job(self, number: int, reason: str) -> WatchEvent:
        """Poll the job's status, and return the event for the outcome."""
        headers = {**self._headers, "Accept": "application/json", "X-Unstuck-Poll": reason}
        if self._etag is not None and self._etag[1] == self._state.seq:
            headers["If-None-Match"] = self._etag[0]
        try:
            answer = await self._http.get(self._url, headers=headers, timeout=None)
        except Exception:  # noqa: BLE001 – as for a stream
            return {"type": "poll_failed", "poll": number, "status": None, "code": "no_answer"}
        if answer.status_code == 304:
            return {"type": "poll_not_modified", "poll": number}
        body = parsed(answer.text)
        if answer.is_success and (job := job_of(body)) is not None:
            tag = answer.headers.get("ETag")
            self._etag = (tag, job.seq) if tag else None
            return {"type": "poll_ok", "poll": number, "job": job}
        code = "not_our_answer" if answer.is_success else (body or {}).get("code")
        # A redirect to something that is not a job is most likely a sign-in page.
        status = 401 if answer.is_success and answer.history else answer.status_code
        failed = {"type": "poll_failed", "poll": number, "status": status, "code": code}
        return {**failed, "retry_after_ms": retry_after_ms(answer)}


async def _until_broken(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the bytes of a stream until it ends, for whatever reason."""
    with suppress(Exception):
        async for piece in answer.aiter_bytes():
            yield piece


def is_event_stream(answer: httpx.Response) -> bool:
    """Return whether the Content-Type is that of an event stream, which is UTF-8 whatever its parameters say."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    return str(media_type).strip().lower() == "text/event-stream"


def parsed(text: str) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def job_of(body: object) -> Job | None:
    """Return the job in a decoded response body, or None if it holds no job."""
    try:
        return msgspec.convert(body, Job)
    except msgspec.ValidationError:
        return None


def update(held: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Update a job object; what `?fields=progress` leaves out of it stays as it was."""
    if "links" in data or not held:
        held.clear()
        held.update(data)
    else:
        progress = {**held.get("progress", {}), **data.get("progress", {})}
        held.update(data, progress=progress)


def next_ms(heartbeat: Mapping[str, Any]) -> float | None:
    """Return the milliseconds within which the next heartbeat is due, or None if this one does not say."""
    next_s = heartbeat.get("next_s")
    return next_s * SECOND_MS if isinstance(next_s, int | float) else None


def _without_time(job: Job | None) -> Job | None:
    """Return the job without the time of its snapshot, for comparison with another."""
    return msgspec.structs.replace(job, server_time="") if job is not None else None


def retry_after_ms(answer: httpx.Response) -> float | None:
    """Return `Retry-After` in milliseconds, or None unless it is a whole number of seconds."""
    text = answer.headers.get("Retry-After", "")
    return int(text) * SECOND_MS if text.isascii() and text.isdigit() and len(text) < 10 else None
