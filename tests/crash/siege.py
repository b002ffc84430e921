"""A server that is killed again and again while people submit, watch, ask and cancel.

`Siege` starts and kills it, has people keep it busy, lets a viewer and a poller look at it all the time, and says
at the end what was lost, done twice or undone. People are patient: who gets no answer asks again, under the same
key.
Must not know: when it is killed (kills.py, points.py).
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
from tests.crash.witness import Witness
from tests.support.server import Server
from tests.support.waiting import eventually

APP = Path(__file__).with_name("work.py")
#: Jobs under way at a time, and items of each.
LIVE, ITEMS = 3, (3, 25)
#: Between two looks of the poller (seconds).
LOOK_S = 0.1
#: For the very end, on a machine that does other things too (seconds).
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Submitted:
    """A job that was acknowledged; `inputs` by the item's name."""

    job_id: str
    inputs: dict[str, bytes]


class Siege:
    """`up()`, `open()`, `kill()`, `up()` … `judge()`, `close()`."""

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
        self._here = threading.Event()
        self._ending = threading.Event()
        self._resting = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- the server

    def serve_with(self, program: type[Server], environ: Mapping[str, str] | None = None) -> Server:
        """Another program for the same folder, from the next start on."""
        self.server = program(self._data, "--app", str(APP), environ={**self._variables, **(environ or {})})
        return self.server

    def up(self) -> bool:
        """Start it; false where it was killed before it served."""
        try:
            self.server.start()
        except AssertionError:
            if self.server.process is None or self.server.process.wait(30) != -signal.SIGKILL:
                raise
            self.server.stop()
            return False
        self._here.set()
        return True

    def open(self, people: Callable[[], None] | None = None) -> None:
        """Let people come: who submits (and whatever else `people` do), who watches, who asks."""
        duties = (people or self._people, self._view, self._poll)
        self._threads = [threading.Thread(target=self._do, args=(one,), daemon=True) for one in duties]
        for thread in self._threads:
            thread.start()

    def _do(self, duty: Callable[[], None]) -> None:
        """A duty that breaks off is a finding: an exception in a thread would only be printed."""
        try:
            duty()
        except Exception:
            self.witness.wrong(traceback.format_exc())

    def kill(self) -> None:
        """It may have died before."""
        self._here.clear()
        self.server.stop(signal.SIGKILL)

    def killed_while_it_starts(self, after_s: float) -> threading.Thread:
        """From another thread, which ends with it, kill what is started next, so long after its process began."""
        before = self.server.process

        def strike() -> None:
            process = eventually(lambda: self.server.process if self.server.process is not before else None)
            time.sleep(after_s)
            process.kill()
            process.wait()

        striking = threading.Thread(target=strike, daemon=True)
        striking.start()
        return striking

    def close(self) -> None:
        self._resting.set()
        self._ending.set()
        self._here.set()
        for thread in self._threads:
            thread.join()
        self.server.stop(signal.SIGKILL)

    # -- people

    def _people(self) -> None:
        """Keep it busy, and sometimes change one's mind."""
        while not self._resting.wait(0.02):
            live = self.live()
            if len(live) < LIVE:
                self.submit()
            elif self._chance.random() < 0.01:
                self.cancel(self._chance.choice(live))

    def live(self) -> list[str]:
        """Accepted jobs that nobody has seen the end of."""
        return [one.job_id for one in self.accepted if one.job_id not in self.witness.seen.jobs]

    def submit(self, total: int | None = None, seconds: float = 0.05) -> Submitted:
        """A job, asked for until it is accepted, through any number of crashes that somebody else mends."""
        self.keys += 1
        total = total or self._chance.randint(*ITEMS)
        names = [f"{self.keys}/{number}" for number in range(total)]
        options = {"diary": str(self.diary), "seconds": seconds}
        headers = {"Idempotency-Key": str(uuid4())}
        inputs = dict.fromkeys(names, b"")
        if self._chance.random() < 0.5:
            inputs = {name: self._chance.randbytes(self._chance.randint(1, 20_000)) for name in names}
        answer = self._insist(lambda: self._post(inputs, options, headers))
        kept = Submitted(answer.json()["id"], inputs)
        self.accepted.append(kept)
        return kept

    def cancel(self, job_id: str) -> None:
        def ask() -> httpx.Response:
            reader = self.witness.reader("who cancels")
            answer = httpx.post(f"{self.server.url}/api/jobs/{job_id}/cancel", timeout=30)
            reader.job(answer.raise_for_status().json())
            return answer

        self._insist(ask)

    def _post(self, inputs: dict[str, bytes], options: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        address = f"{self.server.url}/api/jobs"
        if not any(inputs.values()):
            body = {"kind": "note", "items": list(inputs), "options": options}
            return httpx.post(address, json=body, headers=headers, timeout=30)
        files = [("files", (name, content)) for name, content in inputs.items()]
        form = {"kind": "note", "options": json.dumps(options)}
        return httpx.post(address, data=form, files=files, headers=headers, timeout=30)

    def _insist(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer; where it is lost, that to the same again."""
        while True:
            self._here.wait()
            with contextlib.suppress(httpx.HTTPError):
                answer = ask()
                assert answer.status_code in (200, 202), answer.text
                return answer
            if self._ending.is_set():
                raise SystemExit  # of this thread
            time.sleep(0.02)

    # -- those who look

    def _view(self) -> None:
        while not self._ending.is_set():
            self._here.wait()
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
        while not self._ending.wait(LOOK_S):
            self._here.wait()
            with contextlib.suppress(httpx.HTTPError):
                for job_id in self.live() or [one.job_id for one in self.accepted[-1:]]:
                    self.look(client, job_id)
        client.close()

    def look(self, client: httpx.Client, job_id: str) -> None:
        reader = self.witness.reader("who asks")
        address = f"{self.server.url}/api/jobs/{job_id}"
        items = client.get(f"{address}/items?limit=1000")
        job = client.get(address)
        for answer in (items, job):
            if answer.status_code != 200:
                self.witness.wrong(f"job {job_id} was accepted, and is answered with {answer.status_code}")
                return
        reader.items(job_id, items.json()["items"])
        reader.job(job.json())

    # -- the end

    def judge(self) -> list[str]:
        """Let all jobs end, look at everything, and say what is wrong. The server must be up."""
        self._resting.set()
        for thread in self._threads[:1]:
            thread.join(PATIENCE_S)
        client = httpx.Client(timeout=30)
        end = time.monotonic() + PATIENCE_S
        while (live := self.live()) and time.monotonic() < end:
            for job_id in live:
                self.look(client, job_id)
            time.sleep(LOOK_S)
        wrongs = [f"job {job_id} never ended, see {self.server.log}" for job_id in live]
        for one in self.accepted:
            self.look(client, one.job_id)
            wrongs += self._results(client, one)
        client.close()
        return [*self.witness.wrongs, *wrongs, *self._done_again(), *self._sound()]

    def _results(self, client: httpx.Client, one: Submitted) -> list[str]:
        address = f"{self.server.url}/api/jobs/{one.job_id}"
        items = client.get(f"{address}/items?limit=1000").json()["items"]
        job = client.get(address).json()
        wrongs = []
        states = Counter(item["state"] for item in items)
        counts = {name: job["progress"][name] for name in ("succeeded", "failed", "skipped")}
        if any(states[name] != count for name, count in counts.items()) or len(items) != len(one.inputs):
            wrongs.append(f"job {one.job_id} says {counts}, its items {states}")
        for item in items:
            if item["state"] == "failed" and item["error"]["code"] != "rehearsed":
                wrongs.append(f"item {item['name']} failed: {item['error']}")
            if item["state"] != "succeeded":
                continue
            kept = client.get(f"{self.server.url}{item['links']['result']}")
            if kept.status_code != 200 or kept.content != expected(item["name"], one.inputs[item["name"]]):
                wrongs.append(f"the result of {item['name']} is lost or torn: {kept.status_code}")
        return wrongs

    def _done_again(self) -> list[str]:
        wrongs = []
        for line in self.diary.read_text().splitlines():
            at, pid, name = line.split(" ", 2)
            if float(at) > self.witness.succeeded_at.get(name, float("inf")):
                wrongs.append(f"{name} was begun again by {pid} after its success had been seen")
        return wrongs

    def _sound(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.server.data / "unstuck.db")) as database:
            verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
            jobs = database.execute("SELECT count(*) FROM jobs").fetchone()[0]
        wrongs = [] if verdict == "ok" else [f"the database is damaged: {verdict}"]
        if jobs != len(self.accepted):
            wrongs.append(f"{jobs} jobs are kept, {len(self.accepted)} were accepted")
        return wrongs

    def runs(self) -> int:
        """How often work on an item was begun."""
        return len(self.diary.read_text().splitlines())


def workers_of(pid: int) -> list[int]:
    """The worker processes of a server."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()[1])
            if parent == pid and b"unstuck.runner.worker" in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
    return sorted(found)
