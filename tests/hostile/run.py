"""Plays hostile kinds one after another on one server with one worker, each followed by a neighbour's job.

A kind has cost its own item only if that item ended as it should, and the neighbour's job then completed at its
first attempt. At the end the server must be healthy, none of its loops may have been restarted, and every job can
be removed with its files.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.hostile.table import END_OF, FORGED, LATE, End
from tests.support.server import Server
from tests.support.tables import RELIABILITY, markdown_table, replace_block
from unstuck.files.erase import erase

HEADER = ("kind", "its item", "error", "neighbour", "seconds")
#: The limit on the item of a kind that never ends (seconds).
LIMIT_S = 1.0
#: A job that takes longer than this is stuck (seconds).
STUCK_S = 20.0
SETTINGS = {
    "UNSTUCK_APP": str(Path(__file__).with_name("kinds.py")),
    "UNSTUCK_WORKERS": "1",
    "UNSTUCK_WORKER_MEMORY_MIB": "400",
    "UNSTUCK_RETRY_PAUSE_S": "0.05",
    "UNSTUCK_CANCEL_GRACE_S": "0.3",
}


@dataclass(frozen=True)
class Row:
    """What became of a hostile item, and of its neighbour."""

    way: str
    end: End
    neighbour: str
    seconds: float

    @property
    def alone(self) -> bool:
        """Return whether it cost its own item only."""
        wanted = END_OF[self.way]
        return self.neighbour == "completed" and (self.end == wanted or wanted == (self.end[0], FORGED))


def play(server: Server, way: str) -> Row:
    """Run the hostile kind, and a neighbour behind it."""
    began = time.monotonic()
    with httpx.Client(base_url=server.url, timeout=STUCK_S) as http:
        attempts = 2 if END_OF[way] == ("failed", "transient") else 1
        limit_s = LIMIT_S if END_OF[way] == LATE else STUCK_S
        hostile = submitted(
            http, "hostile", options={"way": way}, max_attempts=attempts, item_limit_seconds=limit_s
        )
        neighbour = submitted(http, "neighbour", max_attempts=1)
        ended = until_done(http, hostile)
        beside = until_done(http, neighbour)
        item: dict[str, Any] = item_of(http, hostile) if ended["done"] else {"state": "stuck", "error": None}
        code: str | None = (item["error"] or {"code": None})["code"]
        if beside["state"] == "completed":
            link = item_of(http, neighbour).get("links", {}).get("result")
            if link is None or len(http.get(link).content) != 1000:
                beside["state"] = "wrong"
    return Row(way, (item["state"], code), beside["state"], time.monotonic() - began)


def submitted(http: httpx.Client, kind: str, **fields: Any) -> str:
    answer = http.post("/api/jobs", json={"kind": kind, "total": 1, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until_done(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """Return the job at its end, or as it is after STUCK_S."""
    end = time.monotonic() + STUCK_S
    while not (job := dict(http.get(f"/api/jobs/{job_id}").json()))["done"] and time.monotonic() < end:
        time.sleep(0.01)
    return job


def item_of(http: httpx.Client, job_id: str) -> dict[str, Any]:
    return dict(http.get(f"/api/jobs/{job_id}/items").json()["items"][0])


def troubles(server: Server) -> list[str]:
    """Return what is wrong with the server afterwards."""
    found: list[str] = []
    with httpx.Client(base_url=server.url, timeout=STUCK_S) as http:
        end = time.monotonic() + STUCK_S
        while (ready := http.get("/api/health/ready")).status_code != 200 and time.monotonic() < end:
            time.sleep(0.1)
        found += ready.json()["troubles"]
        metrics = http.get("/metrics").text
        found += [
            line
            for line in metrics.splitlines()
            if line.startswith("unstuck_loop_restarts_total") and not line.endswith(" 0")
        ]
        while jobs := http.get("/api/jobs?limit=200").json()["jobs"]:
            for job in jobs:
                if not job["done"]:
                    found.append(f"job {job['id']} is {job['state']}")
                    http.post(f"/api/jobs/{job['id']}/fail", json={"why": "stuck"})
                elif (answer := http.delete(f"/api/jobs/{job['id']}")).status_code != 204:
                    return [*found, f"job {job['id']} cannot be removed: {answer.status_code} {answer.text}"]
    found += [f"left behind: {path}" for path in (server.data / "files").iterdir()]
    return found


def play_all(ways: Sequence[str], data: Path) -> tuple[list[Row], list[str]]:
    server = Server(data, environ=SETTINGS).start()
    try:
        return [play(server, way) for way in ways], troubles(server)
    finally:
        server.stop()


def sentence(rows: Sequence[Row]) -> str:
    return f"{sum(row.alone for row in rows)} of {len(rows)} cost their own item only"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/hostile", description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="KIND", help="kinds to play; without any, all")
    parser.add_argument("--seed", type=int, help="play them in a random order")
    parser.add_argument("--write", action="store_true", help="update RELIABILITY.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    ways = options.ways or list(END_OF)
    if options.seed is not None:
        random.Random(options.seed).shuffle(ways)
    folder = tempfile.mkdtemp()
    try:
        rows, found = play_all(ways, Path(folder) / "data")
    finally:
        erase(folder)
    print(markdown_table(HEADER, [cells(row) for row in rows]))
    for row in rows:
        if not row.alone:
            print(f"WRONG: {row.way} should end as {END_OF[row.way]}")
    print(*found, sep="\n")
    print(f"{sentence(rows)} (Python {platform.python_version()}, {platform.system()}).")
    if options.write:
        RELIABILITY.write_text(replace_block(RELIABILITY.read_text(), "hostile", sentence(rows) + "."))
    return 0 if all(row.alone for row in rows) and not found else 1


def cells(row: Row) -> tuple[str, ...]:
    return row.way.replace("_", " "), row.end[0], (row.end[1] or "")[:40], row.neighbour, f"{row.seconds:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
