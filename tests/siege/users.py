"""Users of a server under siege: they submit jobs all the time, and report external work until it ends.

A request that is refused, or not answered, is not repeated: the next one follows. Any answer is a violation but an
acknowledgement, and a refusal that says why.
Must not know: what is done to the server. See also: ledger.py, kinds.py.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.hostile.table import END_OF
from tests.siege.judge import Flaw
from tests.siege.ledger import Acknowledged, Ledger
from tests.support.violation import Violation

#: Users that submit at the same time, and their pauses (seconds).
SUBMITTING, PAUSE_S = 2, (0.4, 1.2)
#: Refusals that say why: the database, the disk, the queue, the uploads.
REFUSALS = {429, 503, 507}
#: Hostile kinds that would only fill the log of the siege.
LEFT_OUT = {"prints_ten_megabytes"}
HOSTILE = sorted(set(END_OF) - LEFT_OUT)
#: For an item of a hostile kind (seconds); several of them never end by themselves.
LIMIT_S = 1.0


class Users:
    """Threads that use the server at `url` until `leave()`."""

    def __init__(self, url: str, ledger: Ledger, seed: int) -> None:
        self.violations: list[Violation] = []
        self._url = url
        self._ledger = ledger
        self._leaving = threading.Event()
        self._ended = threading.Event()
        self._external: list[str] = []
        self._all_external: list[str] = []
        self._threads = [
            threading.Thread(target=self._submit_always, args=(random.Random(f"{seed} user {number}"),))
            for number in range(SUBMITTING)
        ]
        self._reporter = threading.Thread(target=self._report_always)

    def come(self) -> None:
        for thread in (*self._threads, self._reporter):
            thread.start()

    def leave(self) -> None:
        """Submit nothing more; external work is reported until `end()`."""
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        self.leave()
        self._ended.set()
        self._reporter.join()

    def submit(self, **request: Any) -> httpx.Response | None:
        """Send a submission and note what became of it; return the answer, if there was one."""
        inputs: dict[str, bytes] = request.pop("inputs", {})
        sent = time.monotonic()
        try:
            answer = httpx.post(f"{self._url}/api/jobs", timeout=60, **request)
        except httpx.HTTPError:
            self._ledger.refuse()
            return None
        if answer.status_code == 202:
            job = answer.json()
            self._ledger.acknowledge(Acknowledged(job["id"], sent, time.monotonic(), inputs))
            if job["external"]:
                self._external.append(job["id"])
                self._all_external.append(job["id"])
        elif answer.status_code in REFUSALS:
            self._ledger.refuse()
        else:
            text = f"a submission was answered with {answer.status_code}: {answer.text[:300]}"
            self.violations.append(Violation(Flaw.ERROR, text))
        return answer

    def _submit_always(self, chance: random.Random) -> None:
        number = 0
        while not self._leaving.wait(chance.uniform(*PAUSE_S)):
            number += 1
            chance.choices(_REQUESTS, _SHARES)[0](self, chance, number)

    def _keep(self, chance: random.Random, number: int) -> None:
        inputs = {
            f"{number}/{one}": chance.randbytes(chance.randint(1, 20_000)) for one in range(chance.randint(1, 4))
        }
        self.submit(data={"kind": "keep"}, files=_parts(inputs), inputs=inputs)

    def _checksum(self, chance: random.Random, number: int) -> None:
        self.submit(data={"kind": "checksum"}, files=_parts({"a": chance.randbytes(1000), "b": b"b"}))

    def _rehearse(self, chance: random.Random, number: int) -> None:
        options = {"seconds": chance.uniform(0, 0.2), "failures": 0.2}
        self.submit(json={"kind": "rehearsal", "total": chance.randint(1, 5), "options": options})

    def _misbehave(self, chance: random.Random, number: int) -> None:
        options = {"way": chance.choice(HOSTILE)}
        limits = {"item_limit_seconds": LIMIT_S, "max_attempts": 2}
        self.submit(json={"kind": "hostile", "total": 1, "options": options, **limits})

    def _work_elsewhere(self, chance: random.Random, number: int) -> None:
        self.submit(json={"kind": "elsewhere", "external": True, "total": 3})

    # -- external work

    def report_again(self) -> None:
        """Report all external work again, since a database that was set back has forgotten reports."""
        self._external = list(self._all_external)

    def _report_always(self) -> None:
        while not self._ended.wait(0.2):
            for job_id in list(self._external):
                if self._report(job_id) and job_id in self._external:
                    self._external.remove(job_id)

    def _report(self, job_id: str) -> bool:
        """Report another third, or the end; return whether no further report is due."""
        address = f"{self._url}/api/jobs/{job_id}"
        try:
            now = httpx.get(address, timeout=60)
            if now.status_code == 404:
                return True  # whether it may be gone is judged at the end
            if now.status_code != 200:
                return False
            progress = now.json()["progress"]
            done = progress["processed"] + max(progress["total"] // 3, 1)
            report = {"state": "completed"} if done >= progress["total"] else {"processed": done}
            answer = httpx.post(f"{address}/progress", json=report, timeout=60)
        except (httpx.HTTPError, json.JSONDecodeError):
            return False
        return answer.status_code in (404, 409) or (answer.status_code == 200 and answer.json()["done"])


def _parts(inputs: dict[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for name, content in inputs.items()]


_Request = Callable[[Users, random.Random, int], None]
_CHANCES: dict[_Request, int] = {
    Users._keep: 40, Users._checksum: 15, Users._rehearse: 10, Users._misbehave: 25, Users._work_elsewhere: 10,
}  # fmt: skip
_REQUESTS, _SHARES = list(_CHANCES), list(_CHANCES.values())
