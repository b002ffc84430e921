"""What viewers and pollers of a server that keeps dying saw, and whether any of it was ever taken back.

A reader knows what everybody had seen when it asked; what it is then shown must be that or newer. Two answers
that were on their way at the same time may overtake each other, and are not compared, except that an end is an
end: nobody may be shown another. Must not know: how the server dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Of an item, what its end consists of.
END = ("state", "result", "error", "attempt", "finished_at", "seq")
ITEM_FINAL = {"succeeded", "failed", "skipped", "cancelled"}

Key = tuple[str, int]


@dataclass
class Memory:
    """What was seen: the highest seq of a job, jobs that were to be cancelled, ends of jobs and of items."""

    seqs: dict[str, int] = field(default_factory=dict)
    cancels: set[str] = field(default_factory=set)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[Key, dict[str, Any]] = field(default_factory=dict)


class Witness:
    """Shared by all readers; `wrongs` are sentences."""

    def __init__(self) -> None:
        self.wrongs: list[str] = []
        self.seen = Memory()
        self.succeeded_at: dict[str, float] = {}  # by the item's name, when somebody first saw it (monotonic)
        self.sights = 0
        self.lock = threading.RLock()

    def reader(self, who: str) -> Reader:
        with self.lock:
            return Reader(self, who)

    def wrong(self, sentence: str) -> None:
        with self.lock:
            self.wrongs.append(sentence)


class Reader:
    """One connection, from the moment at which it was asked for."""

    def __init__(self, witness: Witness, who: str) -> None:
        self._witness = witness
        self._who = who
        seen = witness.seen
        self._floor = Memory(dict(seen.seqs), set(seen.cancels), dict(seen.jobs), dict(seen.items))

    def job(self, job: dict[str, Any]) -> None:
        with self._witness.lock:
            self._job(job)

    def items(self, job_id: str, items: Sequence[dict[str, Any]]) -> None:
        with self._witness.lock:
            for item in items:
                self._item(job_id, item)

    def _job(self, job: dict[str, Any]) -> None:
        seen, floor, job_id = self._witness.seen, self._floor, job["id"]
        self._witness.sights += 1
        if job["seq"] < floor.seqs.get(job_id, 0):
            self._wrong(f"job {job_id} has seq {job['seq']} after {floor.seqs[job_id]}")
        if job_id in floor.jobs and not job["done"]:
            self._wrong(f"job {job_id} was done and is {job['state']} again")
        if job_id in floor.cancels and not job["cancel_requested"]:
            self._wrong(f"job {job_id} was to be cancelled, and that is forgotten")
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
                self._wrong(f"job {job_id} ended as {shown}, but had ended as {first}")

    def _item(self, job_id: str, item: dict[str, Any]) -> None:
        seen, floor, key = self._witness.seen, self._floor, (job_id, item["index"])
        self._witness.sights += 1
        if item["state"] not in ITEM_FINAL:
            if key in floor.items:
                self._wrong(f"item {key} was {floor.items[key]['state']} and is {item['state']} again")
            return
        if item["state"] == "succeeded":
            self._witness.succeeded_at.setdefault(item["name"], time.monotonic())
        end = {name: item[name] for name in END}
        first = seen.items.setdefault(key, end)
        floor.items[key] = first
        if first != end:
            self._wrong(f"item {key} ended as {end}, but had ended as {first}")

    def _wrong(self, sentence: str) -> None:
        self._witness.wrong(f"{self._who}: {sentence}")
