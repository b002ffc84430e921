"""A server that is killed again and again while users submit and cancel, and a viewer and a poller watch.

`Siege` starts and kills the server, keeps it busy, and judges at the end what was lost, done twice or undone. A
user who gets no response repeats the request under the same Idempotency-Key. It must not know when the server is
killed.
Next: kills.py, points.py and power.py kill it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.crash.result import expected
from tests.crash.witness import Flaw, Witness
from tests.support.server import Server
from tests.support.violation import Violation
from tests.support.waiting import eventually

APP = Path(__file__).with_name("work.py")
#: Unfinished jobs at a time, and items of each.
LIVE, ITEMS = 3, (3, 25)
#: Between two polls of all unfinished jobs (seconds).
POLL_S = 0.1
#: For all jobs to end, on a busy machine (seconds).
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Submitted:
    """A job that the server acknowledged; `inputs` by item name."""

    job_id: str
    inputs: dict[str, bytes]


@dataclass(frozen=True)
class Figures:
    """The outcome of a siege: how often the server was stopped or killed, and what it did all the same."""

    times: int
    jobs: int
    items: int
    runs: int  # how often work on an item began
    observations: int  # jobs and items that readers were shown
    violations: tuple[Violation, ...]


class Siege:
    """A server under attack: call `up()`, `begin()`, `kill()`, `up()` …, then `end()` and `close()`."""

    def __init__(self, folder: Path, seed: int, *, data: str = "data", **environ: str) -> None:
        self._chance = random.Random(seed)
        self.witness = Witness()
        self.diary = folder / "diary"
        self.accepted: list[Submitted] = []
        self.keys = 0
        fast = {"workers": "2", "retry_pause_s": "0.05", "heartbeat_s": "1", "max_attempts": "100", **environ}
        self._variables = {f"UNSTUCK_{name.upper()}": text for name, text in fast.items()}
        self._data = folder / data
        self.server = self.serve_with(Server)
        self._is_up = threading.Event()
        self._ending = threading.Event()
        self._submitting_ended = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- the server

    def serve_with(self, program: type[Server], environ: Mapping[str, str] | None = None) -> Server:
        """Use this program for the same folder from the next start on."""
        self.server = program(self._data, "--app", str(APP), environ={**self._variables, **(environ or {})})
        return self.server

    def up(self) -> bool:
        """Start the server, and return False if it was killed before it served."""
        try:
            self.server.start()
        except AssertionError:
            if self.server.process is None or self.server.process.wait(30) != -signal.SIGKILL:
                raise
            self.server.stop()
            return False
        self._is_up.set()
        return True

    def begin(self, users: Callable[[], None] | None = None) -> None:
        """Start the users (by default, submit and cancel at random), a viewer and a poller."""
        activities = (users or self._submit_and_cancel, self._view, self._poll)
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in activities]
        for thread in self._threads:
            thread.start()

    def _run(self, activity: Callable[[], None]) -> None:
        """Run an activity, and report its exception as a violation; in a thread it would only be printed."""
        try:
            activity()
        except Exception:
            self.witness.report(Flaw.ERROR, traceback.format_exc())

    def kill(self) -> None:
        """Kill the server, unless it is dead already."""
        self._is_up.clear()
        self.server.stop(signal.SIGKILL)

    def kill_while_starting(self, after_s: float) -> threading.Thread:
        """Kill the next server `after_s` after its process began, from a thread that then ends."""
        before = self.server.process

        def kill_after() -> None:
            process = eventually(lambda: self.server.process if self.server.process is not before else None)
            time.sleep(after_s)
            process.kill()
            process.wait()

        killing = threading.Thread(target=kill_after, daemon=True)
        killing.start()
        return killing

    def close(self) -> None:
        self._submitting_ended.set()
        self._ending.set()
        self._is_up.set()
        for thread in self._threads:
            thread.join()
        self.server.stop(signal.SIGKILL)

    # -- users

    def _submit_and_cancel(self) -> None:
        """Submit jobs until the end, and sometimes cancel one."""
        while not self._submitting_ended.wait(0.02):
            live = self.live()
            if len(live) < LIVE:
                self.submit()
            elif self._chance.random() < 0.01:
                self.cancel(self._chance.choice(live))

    def live(self) -> list[str]:
        """Return the accepted jobs whose end no reader has seen."""
        return [one.job_id for one in self.accepted if one.job_id not in self.witness.seen.jobs]

    def submit(self, total: int | None = None, seconds: float = 0.05) -> Submitted:
        """Submit a job, again and again until it is accepted, while the server is killed and restarted."""
        self.keys += 1
        total = total or self._chance.randint(*ITEMS)
        names = [f"{self.keys}/{number}" for number in range(total)]
        options = {"diary": str(self.diary), "seconds": seconds}
        headers = {"Idempotency-Key": str(uuid4())}
        inputs = dict.fromkeys(names, b"")
        if self._chance.random() < 0.5:
            inputs = {name: self._chance.randbytes(self._chance.randint(1, 20_000)) for name in names}
        answer = self._retry(lambda: self._post(inputs, options, headers))
        kept = Submitted(answer.json()["id"], inputs)
        self.accepted.append(kept)
        return kept

    def cancel(self, job_id: str) -> None:
        def ask() -> httpx.Response:
            reader = self.witness.reader("a cancelling user")
            answer = httpx.post(f"{self.server.url}/api/jobs/{job_id}/cancel", timeout=30)
            reader.job(answer.raise_for_status().json())
            return answer

        self._retry(ask)

    def _post(self, inputs: dict[str, bytes], options: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        address = f"{self.server.url}/api/jobs"
        if not any(inputs.values()):
            body = {"kind": "note", "items": list(inputs), "options": options}
            return httpx.post(address, json=body, headers=headers, timeout=30)
        files = [("files", (name, content)) for name, content in inputs.items()]
        form = {"kind": "note", "options": json.dumps(options)}
        return httpx.post(address, data=form, files=files, headers=headers, timeout=30)

    def _retry(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Send a request until it is answered."""
        while True:
            self._is_up.wait()
            with contextlib.suppress(httpx.HTTPError):
                answer = ask()
                assert answer.status_code in (200, 202), answer.text
                return answer
            if self._ending.is_set():
                raise SystemExit  # ends this thread
            time.sleep(0.02)

    # -- readers

    def _view(self) -> None:
        while not self._ending.is_set():
            self._is_up.wait()
            reader = self.witness.reader("a viewer")
            name = ""
            with (
                contextlib.suppress(httpx.HTTPError),
                httpx.stream("GET", f"{self.server.url}/api/events/stream", timeout=5) as answer,
            ):
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        data = json.loads(line.removeprefix("data: "))
                        if name == "job":
                            reader.job(data)
                        elif name == "items":
                            reader.items(data["job_id"], data["items"])
                    if self._ending.is_set():
                        return
            self._ending.wait(0.02)

    def _poll(self) -> None:
        client = httpx.Client(timeout=5)
        while not self._ending.wait(POLL_S):
            self._is_up.wait()
            with contextlib.suppress(httpx.HTTPError):
                for job_id in self.live() or [one.job_id for one in self.accepted[-1:]]:
                    self.check(client, job_id)
        client.close()

    def check(self, client: httpx.Client, job_id: str) -> None:
        """Compare a job and its items with what was seen before."""
        reader = self.witness.reader("a poller")
        address = f"{self.server.url}/api/jobs/{job_id}"
        items = client.get(f"{address}/items?limit=1000")
        job = client.get(address)
        for answer in (items, job):
            if answer.status_code != 200:
                text = f"job {job_id} was accepted, but its status is answered with {answer.status_code}"
                self.witness.report(Flaw.LOST, text)
                return
        reader.items(job_id, items.json()["items"])
        reader.job(job.json())

    # -- the end

    def end(self, times: int) -> Figures:
        """Let all jobs end, judge, and return the figures; the server must be up."""
        violations = tuple(self.judge())
        items = sum(len(one.inputs) for one in self.accepted)
        runs = len(self.diary.read_text().splitlines())
        return Figures(times, len(self.accepted), items, runs, self.witness.observations, violations)

    def judge(self) -> list[Violation]:
        """Let all jobs end, compare everything, and return the violations; the server must be up."""
        self._submitting_ended.set()
        for thread in self._threads[:1]:
            thread.join(PATIENCE_S)
        client = httpx.Client(timeout=30)
        end = time.monotonic() + PATIENCE_S
        while (live := self.live()) and time.monotonic() < end:
            for job_id in live:
                self.check(client, job_id)
            time.sleep(POLL_S)
        violations = [Violation(Flaw.STUCK, f"job {job_id} never ended, see {self.server.log}") for job_id in live]
        for one in self.accepted:
            self.check(client, one.job_id)
            violations += self._results(client, one)
        client.close()
        return [*self.witness.violations, *violations, *self._repeated_work(), *self._database_damage()]

    def _results(self, client: httpx.Client, one: Submitted) -> list[Violation]:
        address = f"{self.server.url}/api/jobs/{one.job_id}"
        items = client.get(f"{address}/items?limit=1000").json()["items"]
        job = client.get(address).json()
        violations = []
        states = Counter(item["state"] for item in items)
        counts = {name: job["progress"][name] for name in ("succeeded", "failed", "skipped")}
        if any(states[name] != count for name, count in counts.items()) or len(items) != len(one.inputs):
            violations.append(Violation(Flaw.WRONG_END, f"job {one.job_id} counts {counts}, its items {states}"))
        for item in items:
            if item["state"] == "failed" and item["error"]["code"] != "rehearsed":
                violations.append(Violation(Flaw.WRONG_END, f"item {item['name']} failed: {item['error']}"))
            if item["state"] != "succeeded":
                continue
            kept = client.get(f"{self.server.url}{item['links']['result']}")
            if kept.status_code != 200 or kept.content != expected(item["name"], one.inputs[item["name"]]):
                text = f"the result of {item['name']} is missing or damaged: {kept.status_code}"
                violations.append(Violation(Flaw.LOST, text))
        return violations

    def _repeated_work(self) -> list[Violation]:
        violations = []
        for line in self.diary.read_text().splitlines():
            at, pid, name = line.split(" ", 2)
            if float(at) > self.witness.succeeded_at.get(name, float("inf")):
                text = f"process {pid} began work on {name} again after its success had been seen"
                violations.append(Violation(Flaw.TWICE, text))
        return violations

    def _database_damage(self) -> list[Violation]:
        with contextlib.closing(sqlite3.connect(self.server.data / "unstuck.db")) as database:
            verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
            jobs = database.execute("SELECT count(*) FROM jobs").fetchone()[0]
        violations = [] if verdict == "ok" else [Violation(Flaw.ERROR, f"the database is damaged: {verdict}")]
        if jobs != len(self.accepted):
            text = f"the database has {jobs} jobs, but {len(self.accepted)} were accepted"
            violations.append(Violation(Flaw.LOST, text))
        return violations


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a server."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()[1])
            if parent == pid and b"unstuck.runner.worker" in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
    return sorted(found)
