"""Remembers what viewers and pollers of a server that keeps dying were shown, and notices whatever is taken back.

A reader starts with everything that any reader had seen when it sent its request: what it is then shown must be at
least as new. Two responses in flight at the same time may overtake each other and are not compared, except that an
end is an end: no reader may ever be shown another. It must not know how the server dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.support.violation import Violation

#: The fields that make up the end of an item.
END = ("state", "result", "error", "attempt", "finished_at", "seq")
ITEM_FINAL = {"succeeded", "failed", "skipped", "cancelled"}

Key = tuple[str, int]


class Flaw(StrEnum):
    """A kind of violation: a column of the table."""

    LOST = "lost"  # something acknowledged, such as a job, a cancel or a result, is gone
    TWICE = "done twice"  # work on an item began again after its success was seen
    BACKWARDS = "went backwards"
    WRONG_END = "wrong end"  # an end changed, or is not the one that the work leads to
    STUCK = "stuck"  # a job never ended
    ERROR = "errors"  # a damaged database, or an exception in the suite itself


@dataclass
class Memory:
    """What was seen: the highest `seq` of each job, cancelled jobs, and the ends of jobs and items."""

    seqs: dict[str, int] = field(default_factory=dict)
    cancels: set[str] = field(default_factory=set)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[Key, dict[str, Any]] = field(default_factory=dict)


class Witness:
    """What all readers together have seen, and the violations that they noticed."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.seen = Memory()
        self.succeeded_at: dict[str, float] = {}  # by item name: when its success was first seen (monotonic)
        self.observations = 0
        self.lock = threading.RLock()

    def reader(self, name: str) -> Reader:
        """Return a reader for a request that is about to be sent."""
        with self.lock:
            return Reader(self, name)

    def report(self, kind: Flaw, text: str) -> None:
        """Record a violation."""
        with self.lock:
            self.violations.append(Violation(kind, text))


class Reader:
    """The reader of one response, created when the request is sent."""

    def __init__(self, witness: Witness, name: str) -> None:
        self._witness = witness
        self._name = name
        seen = witness.seen
        self._floor = Memory(dict(seen.seqs), set(seen.cancels), dict(seen.jobs), dict(seen.items))

    def job(self, job: dict[str, Any]) -> None:
        """Compare a job with what was seen before, and remember it."""
        with self._witness.lock:
            self._job(job)

    def items(self, job_id: str, items: Sequence[dict[str, Any]]) -> None:
        """Compare items of a job with what was seen before, and remember them."""
        with self._witness.lock:
            for item in items:
                self._item(job_id, item)

    def _job(self, job: dict[str, Any]) -> None:
        seen, floor, job_id = self._witness.seen, self._floor, job["id"]
        self._witness.observations += 1
        if job["seq"] < floor.seqs.get(job_id, 0):
            self._report(Flaw.BACKWARDS, f"job {job_id} has seq {job['seq']} after {floor.seqs[job_id]}")
        if job_id in floor.jobs and not job["done"]:
            self._report(Flaw.BACKWARDS, f"job {job_id} was done and is {job['state']} again")
        if job_id in floor.cancels and not job["cancel_requested"]:
            self._report(Flaw.LOST, f"the cancel of job {job_id} is forgotten")
        floor.seqs[job_id] = max(job["seq"], floor.seqs.get(job_id, 0))
        seen.seqs[job_id] = max(job["seq"], seen.seqs.get(job_id, 0))
        if job["cancel_requested"]:
            seen.cancels.add(job_id)
            floor.cancels.add(job_id)
        if job["done"]:
            shown = {name: value for name, value in job.items() if name != "server_time"}
            first = seen.jobs.setdefault(job_id, shown)
            floor.jobs[job_id] = first
            if first != shown:
                self._report(Flaw.WRONG_END, f"job {job_id} ended as {shown}, but had ended as {first}")

    def _item(self, job_id: str, item: dict[str, Any]) -> None:
        seen, floor, key = self._witness.seen, self._floor, (job_id, item["index"])
        self._witness.observations += 1
        if item["state"] not in ITEM_FINAL:
            if key in floor.items:
                was = floor.items[key]["state"]
                self._report(Flaw.BACKWARDS, f"item {key} was {was} and is {item['state']} again")
            return
        if item["state"] == "succeeded":
            self._witness.succeeded_at.setdefault(item["name"], time.monotonic())
        end = {name: item[name] for name in END}
        first = seen.items.setdefault(key, end)
        floor.items[key] = first
        if first != end:
            self._report(Flaw.WRONG_END, f"item {key} ended as {end}, but had ended as {first}")

    def _report(self, kind: Flaw, text: str) -> None:
        self._witness.report(kind, f"{self._name}: {text}")
