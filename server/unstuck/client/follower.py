"""Follows one job until it is done: the shell around watchdog.py, as follow.js is that of watchdog.js.

It sets the policy's timer, opens its streams, asks its polls, and tells it what came back. It decides nothing
about when to ask or to give up, and knows nothing of submissions.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import httpx
import msgspec
from httpx_sse import EventSource, SSEError

from unstuck.client import watch_state as w
from unstuck.client.watchdog import step
from unstuck.errors import JobNotFound, JobTimeoutError
from unstuck.wire import Job

#: Events that wait for a caller that is busy; beyond that the stream is not read, and the server coalesces.
WAITING_EVENTS = 64
#: The wall clock ran ahead of the steady one by more: the machine slept (milliseconds).
SLEPT_MS = 2_000


class Follower:
    """One job followed by the policy. All that happens goes through one inbox, one thing after the other."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, job_id: str, on_link: Callable[[str], None] | None
    ) -> None:
        self._http, self._url, self._job_id, self._on_link = http, url, job_id, on_link
        self._state = w.new_state()
        self._inbox: asyncio.Queue[w.Event | BaseException] = asyncio.Queue(WAITING_EVENTS)
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._poll: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._news: Job | None = None
        self._end: w.Action | None = None
        self._etag: tuple[str, int] | None = None
        self._now, self._wall, self._steady = 0.0, time.time(), time.monotonic()

    async def jobs(self) -> AsyncIterator[Job]:
        """What `Client.watch` gives."""
        told: Job | None = None
        self._on({"type": "start"})
        while True:
            while not self._inbox.empty():  # a caller that was busy gets the newest truth, not all that was
                self._take(self._inbox.get_nowait())
            if self._news is not None and _truth(self._news) != _truth(told):
                told = self._news
                yield told
                continue
            if self._end is not None:
                break
            self._set_timer()
            self._take(await self._inbox.get())
        if self._end["reason"] == "gave_up":
            raise JobTimeoutError(self._job_id, self._end["elapsed_minutes"])
        if self._end["reason"] == "not_found":
            raise JobNotFound(self._job_id)

    async def close(self) -> None:
        """Stop everything. The job itself goes on."""
        tasks = [*self._streams.values(), *([self._poll] if self._poll else [])]
        if self._timer is not None:
            self._timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # events in, actions out

    def _take(self, event: w.Event | BaseException) -> None:
        if isinstance(event, BaseException):
            raise event
        self._on(event)

    def _on(self, event: w.Event) -> None:
        before = self._state["link"]
        now, chance = self._tell_time(), random.random()  # noqa: S311 – spreads, hides nothing
        self._state, actions = step(self._state, event, now, chance)
        for action in actions:
            self._act(action, event)
        if self._on_link is not None and self._state["link"] != before:
            self._on_link(self._state["link"])

    def _act(self, action: w.Action, event: w.Event) -> None:
        match action["type"]:
            case "show":
                self._news = event["job"]
            case "open_stream":
                number = action["stream"]
                self._streams[number] = asyncio.create_task(self._guarded(self._read_stream, number))
            case "close_stream":
                self._streams.pop(action["stream"]).cancel()
            case "poll":
                self._poll = asyncio.create_task(self._guarded(self._ask, action["poll"], action["reason"]))
            case "abort_poll" if self._poll is not None:
                self._poll.cancel()
            case "end":
                self._end = action

    def _set_timer(self) -> None:
        """Also where the last one rang a little early, so that the policy did not ask for another."""
        if self._timer is not None:
            self._timer.cancel()
        at = self._state["wake_at"]
        if at is not None:
            delay = max(0, at - self._tell_time()) / w.SECOND_MS
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        if not self._inbox.full():  # what waits there makes the policy look at the time as well
            self._inbox.put_nowait({"type": "tick"})

    def _tell_time(self) -> int:
        """One clock out of two, in milliseconds: steady, but ahead by the time that the machine slept."""
        wall, steady = time.time(), time.monotonic()
        by_wall, by_steady = (wall - self._wall) * w.SECOND_MS, (steady - self._steady) * w.SECOND_MS
        self._now += by_wall if by_wall > by_steady + SLEPT_MS else by_steady
        self._wall, self._steady = wall, steady
        return round(self._now)

    async def _guarded(self, work: Callable[..., Coroutine[Any, Any, w.Event]], *what: Any) -> None:
        try:
            event: w.Event | BaseException = await work(*what)
        except Exception as error:  # noqa: BLE001 – a bug here must reach the caller, not end as a silent task
            event = error
        await self._inbox.put(event)

    # streams and polls

    async def _read_stream(self, number: int) -> w.Event:
        """Reads until it breaks, which is what it answers."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        address = f"{self._url}/events?items=0"
        try:
            async with self._http.stream("GET", address, headers=headers, timeout=None) as answer:
                if answer.status_code == 200:
                    answer.encoding = "utf-8-sig"  # always UTF-8, whatever the header says, and without its BOM
                    source = EventSource(answer)
                    await self._inbox.put({"type": "stream_open", "stream": number})
                    async for event in source.aiter_sse():
                        if not await self._hear(number, event.event, event.data):
                            break
        except (httpx.HTTPError, SSEError):
            pass  # how it broke is all the same to the policy: its poll finds out why
        return {"type": "stream_error", "stream": number}

    async def _hear(self, stream: int, name: str, text: str) -> bool:
        """False for garbage: no stream to rely on."""
        if name not in ("job", "items", "heartbeat", "leaving", "gone"):
            return True
        data = parsed(text)
        event: dict[str, Any] = {"type": name, "stream": stream}
        if data is None:
            return False
        if name == "job":
            event["job"] = job_of(data)
            if event["job"] is None:
                return False
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

    async def _ask(self, number: int, reason: str) -> w.Event:
        headers = {"Accept": "application/json", "X-Unstuck-Poll": reason}
        if self._etag is not None and self._etag[1] == self._state["seq"]:
            headers["If-None-Match"] = self._etag[0]
        try:
            answer = await self._http.get(self._url, headers=headers, timeout=None)
        except httpx.HTTPError:
            return {"type": "poll_failed", "poll": number, "status": None, "code": "no_answer"}
        if answer.status_code == 304:
            return {"type": "poll_not_modified", "poll": number}
        body = parsed(answer.text)
        if answer.is_success and (job := job_of(body)) is not None:
            tag = answer.headers.get("ETag")
            self._etag = (tag, job.seq) if tag else None
            return {"type": "poll_ok", "poll": number, "job": job}
        code = "not_our_answer" if answer.is_success else (body or {}).get("code")
        # Something else after a redirect is what a sign-in page looks like from here.
        status = 401 if answer.is_success and answer.history else answer.status_code
        failed = {"type": "poll_failed", "poll": number, "status": status, "code": code}
        return {**failed, "retry_after_ms": retry_after_ms(answer)}


def parsed(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def job_of(body: object) -> Job | None:
    """The job that an answer holds, or None for anything else."""
    try:
        return msgspec.convert(body, Job)
    except msgspec.ValidationError:
        return None


def next_ms(beat: Mapping[str, Any]) -> float | None:
    """Within which time the next heartbeat comes, where this one says it."""
    next_s = beat.get("next_s")
    return next_s * w.SECOND_MS if isinstance(next_s, int | float) else None


def _truth(job: Job | None) -> Job | None:
    """The job without the time at which it was told."""
    return msgspec.structs.replace(job, server_time="") if job is not None else None


def retry_after_ms(answer: httpx.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return int(text) * w.SECOND_MS if text.isascii() and text.isdigit() and len(text) < 10 else None
