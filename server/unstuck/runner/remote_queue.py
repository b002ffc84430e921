"""A WorkQueue that is another machine's server: claims, commands, renewals and files over HTTP.

Must not know: workers, or what a command does to an item.
See also: api/work.py (the other end), scratch.py (the files here), remote.py (puts it together).

Inputs are fetched before an item is handed to the runner, and its lease is renewed here until then. While the
server does not answer, work goes on: what is to be written is kept and sent again, and the leases decide whether
it still counts. The server's word on a lease is final.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx
import msgspec

from unstuck import wire
from unstuck.client.transport import no_answer, open_http, open_plain_http
from unstuck.errors import LeaseLost, NoAnswer, Refused, ServerRefused, StoreUnavailable, UnstuckError
from unstuck.files.folder import stored_name
from unstuck.jobs.job import (
    Command,
    Finish,
    HealthLimits,
    Item,
    ItemState,
    Job,
    JobError,
    Release,
    Renew,
    Report,
    State,
)
from unstuck.runner.claimed_item import LeaseKey
from unstuck.runner.scratch import Scratch
from unstuck.store.protocol import NO_BATCHES, CommitListener, Outcome, SweepResult, WorkItem
from unstuck.wire.work import LONGEST_WAIT_S, MOST_CLAIMED, MOST_COMMANDS

log = logging.getLogger("unstuck.work")

#: The longest wait for an answer beside a claim's own wait, of a renewal, and at the end (seconds).
ANSWER_S = 30.0
RENEWAL_S = 5.0
LAST_ANSWER_S = 2.0
#: Most bytes of the commands of one request.
REPORT_BYTES = 4 * 1024 * 1024
#: Pauses before a file is sent or fetched again (seconds); the last one repeats.
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Statuses that say nothing about what was sent: it is kept and sent again.
LATER = frozenset({401, 403, 404, 408, 421, 429, *range(500, 600)})

T = TypeVar("T")


class RemoteQueue:
    """The queue of the server at `url`. With `only`, items of other kinds are left to others."""

    def __init__(self, url: str, token: str, only: Collection[str] = (), scratch: Path | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._url = url
        self._only = frozenset(only)
        self._http = open_http(url, headers, cookies=False)
        self._plain = open_plain_http(url, headers)
        self.scratch = Scratch(self._upload, scratch)
        self._listeners: list[CommitListener] = []
        self._worker: str | None = None
        self._lock = threading.Lock()
        self._coming: dict[LeaseKey, asyncio.Task[None] | None] = {}  # claimed, not handed to the runner yet
        self._ready: list[WorkItem] = []
        self._arrived = asyncio.Event()
        self._outputs: dict[LeaseKey, str] = {}  # the path to which a result file goes
        self._ending = threading.Event()
        self._silent = False

    def on_commit(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    async def hello(self) -> wire.Work:
        """Return what the server says of itself. Raises NoAnswer, ServerRefused."""
        try:
            answer = await self._http.get(f"{self._url}/api/work", timeout=ANSWER_S)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise no_answer(self._url, error) from error
        if answer.is_success:
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(answer.content, type=wire.Work)
        elif (problem := _problem(answer)) is not None and answer.status_code != 404:
            raise ServerRefused(problem.detail, code=problem.code, status=answer.status_code)
        advice = "Check the address; an unstuck server must be of this version or newer."
        raise NoAnswer(self._url, "there is no server here that gives work to other machines", advice)

    async def close(self) -> None:
        """Give back what the runner did not get, and remove the files here. Call it after the runner's stop."""
        tasks = [task for task in self._coming.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(UnstuckError):
            await self.apply([Release(*key) for key in self._coming])
        await self._http.aclose()
        self._plain.close()
        self.scratch.close()

    def end(self) -> None:
        """Wait for nothing long any more, since the program ends."""
        self._ending.set()

    # -- WorkQueue

    async def claim(
        self,
        limit: int,
        lease_s: float,
        worker: str | None = None,
        short: Mapping[str, int] = NO_BATCHES,
        kinds: Collection[str] | None = None,
    ) -> list[WorkItem]:
        """Claim items and fetch their files; return those whose files are here."""
        self._worker = worker
        wanted = [kind for kind in kinds or () if not self._only or kind in self._only]
        fetching = any(task is not None for task in self._coming.values())
        room = limit - len(self._coming)
        if wanted and room > 0 and not self._ready:
            wait_s = 0.0 if fetching else LONGEST_WAIT_S
            body = wire.WorkClaim(
                kinds=wanted,
                limit=min(room, MOST_CLAIMED),
                wait_s=wait_s,
                worker=worker,
                short={job: min(count, MOST_CLAIMED) for job, count in short.items() if count},
            )
            raw = msgspec.json.encode(body)
            found = await self._post("claim", raw, wire.WorkItems, wait_s + ANSWER_S)
            for item in found.items:
                self._take(item)
            if not found.items and wait_s:
                self._tell(None)  # nothing is known of any job that has no items here
        while not self._ready and any(task is not None for task in self._coming.values()):
            self._arrived.clear()
            await self._arrived.wait()
        ready, self._ready = self._ready, []
        with self._lock:
            for one in ready:
                self._coming.pop((one.job_id, one.item.index, one.item.lease), None)
        return ready

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """Send the commands in order. What is sent again, since a later part failed, does no harm."""
        outcomes: list[Outcome] = []
        for part in _parts(commands):
            timeout = LAST_ANSWER_S if self._ending.is_set() else ANSWER_S
            answer = await self._post("report", _body(part, self._worker), wire.WorkOutcomes, timeout)
            outcomes += [_outcome(one, found) for one, found in zip(part, answer.outcomes, strict=True)]
        ended = [one for one in commands if isinstance(one, Finish | Release)]
        if ended:
            await asyncio.to_thread(self._discard, ended)
        stopping = {job.id: job for job in outcomes if isinstance(job, Job) and job.stopping}
        if stopping:
            self._tell(stopping)
        return outcomes

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), **_: Any) -> SweepResult:
        """Renew the leases `held`, and those of items that are on their way. The rest is the server's to do."""
        with self._lock:
            coming = [Renew(*key, 0.0) for key in self._coming]
        outcomes: list[Outcome] = []
        for part in _parts([*held, *coming]):
            try:
                body = _body(part, self._worker)
                answer = self._plain.post(f"{self._url}/api/work/report", content=body, timeout=RENEWAL_S)
            except (httpx.HTTPError, OSError) as error:
                raise self._unavailable(str(no_answer(self._url, error))) from error
            found = self._decode(answer, wire.WorkOutcomes)
            outcomes += [_outcome(one, each) for one, each in zip(part, found.outcomes, strict=True)]
        with self._lock:
            for renew, outcome in zip(coming, outcomes[len(held) :], strict=True):
                key = renew.job_id, renew.index, renew.lease
                if isinstance(outcome, UnstuckError) and (task := self._coming.get(key)) is not None:
                    task.get_loop().call_soon_threadsafe(task.cancel)
        return SweepResult(outcomes[: len(held)], ())

    # -- files

    def _take(self, found: wire.WorkItem) -> None:
        file = None if found.input is None else stored_name(found.index, found.name)
        item = Item(
            found.index, found.name, found.size, file, lease=found.lease, attempt=found.attempt
        )  # fmt: skip
        claimed = WorkItem(found.job_id, found.kind, found.options, item, found.limit_s)
        key = found.job_id, found.index, found.lease
        self._outputs[key] = urljoin(f"{self._url}/", found.output)
        with self._lock:
            self._coming[key] = None
        # What the runner knows of a job it learns from notices of commits.
        job = _job(found.job_id, stopping=False)
        self._tell({job.id: msgspec.structs.replace(job, max_errors=found.errors_left, leased=1)})
        if found.input is None:
            self._ready.append(claimed)
        else:
            assert file is not None
            fetching = self._fetch(key, claimed, urljoin(f"{self._url}/", found.input), file)
            self._coming[key] = asyncio.create_task(fetching)

    async def _fetch(self, key: LeaseKey, claimed: WorkItem, url: str, file: str) -> None:
        """Fetch an item's input. A file that the server does not have is missing here too: its kind says so."""
        try:
            await self._download(url, self.scratch.input(key, file))
        except OSError as error:
            message = f"The item's file could not be fetched: {error}"
            why = JobError("input_not_fetched", message[:500], transient=True)
            end = Finish(*key, ItemState.FAILED, time.time(), why, pause_s=RETRY_S[-1])
            with contextlib.suppress(UnstuckError):  # the lease lapses
                await self.apply([end])
        except (LeaseLost, asyncio.CancelledError):
            await asyncio.to_thread(self._discard, [Release(*key)])
        else:
            self._ready.append(claimed)
            self._coming[key] = None
            self._arrived.set()
            return
        with self._lock:
            if not self._ending.is_set():
                self._coming.pop(key, None)
        self._arrived.set()

    async def _download(self, url: str, path: Path) -> None:
        """Write the file, continuing where it was cut off. Raises OSError, LeaseLost."""
        failures = 0
        with path.open("wb") as file:
            while True:
                headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
                with contextlib.suppress(httpx.HTTPError):
                    async with self._http.stream("GET", url, headers=headers) as answer:
                        if answer.status_code == 409:
                            raise LeaseLost("The lease ended while the item's file was fetched.")
                        if answer.status_code == 200:
                            file.seek(0)
                            file.truncate()
                        if answer.status_code in (200, 206):
                            async for piece in answer.aiter_bytes():
                                file.write(piece)
                            return
                        if answer.status_code == 416:
                            return
                        if answer.status_code == 404 and await _says_not_found(answer):
                            await asyncio.to_thread(path.unlink)
                            return
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    def _upload(self, key: LeaseKey, path: Path) -> None:
        """Send a result file until the server has it. Raises OSError if it refuses."""
        failures = 0
        while True:
            with contextlib.suppress(httpx.HTTPError), path.open("rb") as file:
                size = {"Content-Length": str(path.stat().st_size)}
                answer = self._plain.put(
                    self._outputs[key], params={"name": path.name}, content=file, headers=size
                )
                if answer.is_success:
                    return
                if answer.status_code not in LATER:
                    problem = _problem(answer)
                    raise OSError(problem.detail if problem else f"the server answered {answer.status_code}")
            if self._ending.wait(RETRY_S[min(failures, len(RETRY_S) - 1)]):
                raise OSError("the worker was stopped before the server had it")
            failures += 1

    def _discard(self, ended: Sequence[Finish | Release]) -> None:
        for one in ended:
            key = one.job_id, one.index, one.lease
            self._outputs.pop(key, None)
            with contextlib.suppress(OSError):  # it is removed with the folder
                self.scratch.remove_output(*key)

    # -- requests

    async def _post(self, call: str, body: bytes, kind: type[T], timeout_s: float) -> T:
        try:
            answer = await self._http.post(f"{self._url}/api/work/{call}", content=body, timeout=timeout_s)
        except (httpx.HTTPError, OSError) as error:
            raise self._unavailable(str(no_answer(self._url, error))) from error
        return self._decode(answer, kind)

    def _decode(self, answer: httpx.Response, kind: type[T]) -> T:
        problem = None if answer.is_success else _problem(answer)
        if not answer.is_success and answer.status_code not in LATER:
            detail = problem.detail if problem else f"The server answered {answer.status_code}."
            raise ServerRefused(detail, code=problem.code if problem else None, status=answer.status_code)
        try:
            if not answer.is_success:
                raise self._unavailable(problem.detail if problem else f"It answered {answer.status_code}.")
            decoded = msgspec.json.decode(answer.content, type=kind)
        except msgspec.DecodeError as error:
            raise self._unavailable(f"Its answer cannot be read: {error}") from error
        if self._silent:
            self._silent = False
            log.info("Server answers again: url=%s", self._url)
        return decoded

    def _unavailable(self, why: str) -> StoreUnavailable:
        if not self._silent:
            self._silent = True
            log.warning("Server does not answer, work continues and reports wait: reason=%s", why)
        return StoreUnavailable(why)

    def _tell(self, changed: Mapping[str, Job | None] | None) -> None:
        for listener in self._listeners:
            listener(changed)


async def _says_not_found(answer: httpx.Response) -> bool:
    await answer.aread()
    return _problem(answer) is not None


def _problem(answer: httpx.Response) -> wire.Problem | None:
    """Return the problem document of a refusal, or None if something else answered."""
    try:
        return msgspec.json.decode(answer.content, type=wire.Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _job(job_id: str, *, stopping: bool) -> Job:
    """Return what is known here of a job: whether it is being stopped."""
    return Job(job_id, "", "", 1, 1, 0.0, state=State.RUNNING, cancel_requested=stopping)


def _outcome(command: Command, found: wire.WorkOutcome) -> Outcome:
    if found.ok:
        assert isinstance(command, Renew | Report | Finish | Release)
        return _job(command.job_id, stopping=found.stopping)
    kind = LeaseLost if found.code == "lease_lost" else Refused
    return kind(found.detail or "The server refused the command.", code=found.code)


def _parts(commands: Sequence[Command]) -> list[Sequence[Command]]:
    """Return the commands in parts, each of which one request holds."""
    parts: list[list[Command]] = []
    size = 0
    for command in commands:
        more = len(msgspec.json.encode(command.result)) if isinstance(command, Finish) else 0
        if not parts or len(parts[-1]) == MOST_COMMANDS or size + more > REPORT_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(command)
        size += more
    return list(parts)


def _body(commands: Sequence[Command], worker: str | None) -> bytes:
    now = time.time()
    return msgspec.json.encode({"commands": [_sent(one, now) for one in commands], "worker": worker})


def _sent(command: Command, now: float) -> dict[str, Any]:
    """Return a command as the wire has it."""
    assert isinstance(command, Renew | Report | Finish | Release)
    key = {"job_id": command.job_id, "index": command.index, "lease": command.lease}
    if isinstance(command, Renew | Release):
        return {"command": "renew" if isinstance(command, Renew) else "release", **key}
    known = {**key, "running_s": max(now - command.started_at, 0.0), "message": command.message}
    if isinstance(command, Report):
        return {"command": "progress", **known, "fraction": command.fraction}
    more = {"result": command.result} if command.result is not None else {}
    return {
        "command": "finish", **known, **more, "state": command.state, "result_file": command.result_file,
        "pause_s": command.pause_s, "error": command.error and msgspec.to_builtins(command.error),
    }  # fmt: skip
