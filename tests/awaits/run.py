"""Breaks every await of the loops once, one at a time, in a running server with jobs, viewers and webhooks.

While one await raises an error that the code never expects, the server must finish its jobs and those that follow,
deliver their webhooks, keep its heartbeats, give back every lease, count no stream in the end, show the error in
its log or in an answer, become ready again, and stop.
"""

from __future__ import annotations

from tests.awaits.rewrite import InjectedError, fault, install

install()

import argparse  # noqa: E402
import asyncio  # noqa: E402
import logging  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from contextlib import suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import httpx  # noqa: E402

from tests.support.running import Running, serving  # noqa: E402
from tests.support.tables import RELIABILITY, write_block  # noqa: E402
from tests.support.waiting import soon  # noqa: E402
from tests.webhooks.receiver import Receiver  # noqa: E402
from unstuck.store.sqlite import SQLiteStore  # noqa: E402

#: A server that has not recovered by then counts as wedged (seconds).
WEDGED_S = 90.0
KINDS = Path(__file__).parents[1] / "hostile" / "kinds.py"


@dataclass(frozen=True)
class Result:
    """What became of the server when this await broke; `why` is None if nothing else suffered."""

    point: str
    reached: bool
    why: str | None


class Witness(logging.Handler):
    """Notes whether the log shows the injected error."""

    def __init__(self) -> None:
        super().__init__()
        self.saw = False

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and not self.saw:
            self.saw = isinstance(error, InjectedError) or "InjectedError" in repr(error)
            error = error.__cause__ or error.__context__
        self.saw = self.saw or "InjectedError" in record.getMessage()


async def play(point: str) -> Result:
    """Break one await, and return what became of the server."""
    witness, receiver = Witness(), Receiver()
    stopping: list[str] = []
    logging.getLogger().addHandler(witness)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with asyncio.timeout(WEDGED_S):
                why = await scene(point, Path(folder), receiver, witness, stopping)
    except TimeoutError:
        why = "wedged"
    except ExceptionGroup as group:
        # The server ended with the error, as a server that fails while it stops should; all steps were taken.
        _, other = group.split(InjectedError)
        why = None if stopping and other is None else repr(group)
    except Exception as error:
        why = repr(error)
    finally:
        fault.armed = None
        logging.getLogger().removeHandler(witness)
        receiver.close()
    return Result(point, fault.hit, why)


async def scene(point: str, folder: Path, receiver: Receiver, witness: Witness, stopping: list[str]) -> str | None:
    failed_answers = 0

    async def note(answer: httpx.Response) -> None:
        nonlocal failed_answers
        failed_answers += answer.status_code == 500

    # A webhook whose delivery broke is delivered again after 20 s, and goes with its job if that expires before.
    retention_s = 60.0 if point.startswith("webhooks.") else 2.0
    async with serving(folder, receiver, app=str(KINDS), retention_s=retention_s, keep_inputs=0) as server:
        services = server.app.state.services
        server.http.event_hooks["response"].append(note)
        await soon(lambda: is_ready(server))
        fault.arm(point)
        viewers = [asyncio.create_task(watch(server)) for _ in range(2)]
        async with asyncio.TaskGroup() as clients:
            clients.create_task(server.complete_a_job())
            clients.create_task(complete(server, "neighbour", "completed"))
            clients.create_task(complete(server, "hostile", "failed", options={"way": "kills_itself"}))
            clients.create_task(cancel(server))
            clients.create_task(lose_contact(services.store))
        if not fault.hit:
            await server.receive_heartbeats(4)  # retention and heartbeats have their turn
        await server.complete_a_job()
        await complete(server, "neighbour", "completed")
        await server.receive_heartbeats(2)
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)
        await soon(lambda: services.hub.streams == 0)
        await soon(lambda: nothing_runs(server))
        await soon(lambda: is_ready(server))
        stopping.append(point)
    if fault.hit and not witness.saw and not failed_answers:
        return "no log line or answer shows the error"
    return None


async def is_ready(server: Running) -> bool:
    return (await server.http.get("/api/health/ready")).status_code == 200


async def nothing_runs(server: Running) -> bool:
    answer = await server.http.get("/api/jobs?state=running&state=queued")
    return answer.status_code == 200 and not answer.json()["jobs"]


async def watch(server: Running) -> None:
    """Follow all jobs, as a client that connects again."""
    while True:
        with suppress(httpx.HTTPError, AssertionError):
            await server.receive_heartbeats(100)
        await asyncio.sleep(0.05)


async def submit(server: Running, kind: str, **fields: object) -> str:
    order = {"kind": kind, "total": 1, "max_attempts": 3, **fields}
    while (answer := await server.http.post("/api/jobs", json=order)).status_code != 202:
        assert answer.status_code >= 500, answer.text
        await asyncio.sleep(0.05)
    return str(answer.json()["id"])


async def complete(server: Running, kind: str, state: str, **fields: object) -> None:
    job_id = await submit(server, kind, **fields)
    while True:
        answer = await server.http.get(f"/api/jobs/{job_id}")
        if answer.status_code == 404:
            return  # it ended, and expired
        if answer.status_code == 200 and answer.json()["done"]:
            assert answer.json()["state"] == state, answer.json()
            return
        await asyncio.sleep(0.02)


async def cancel(server: Running) -> None:
    job_id = await submit(server, "hostile", options={"way": "sleeps_beyond_its_limit"})
    while (await server.http.post(f"/api/jobs/{job_id}/cancel")).status_code >= 500:
        await asyncio.sleep(0.05)
    while (answer := await server.http.get(f"/api/jobs/{job_id}")).status_code != 404:
        if answer.status_code == 200 and answer.json()["done"]:
            return
        await asyncio.sleep(0.02)


async def lose_contact(store: SQLiteStore) -> None:
    """Notify the listeners as a store does that does not know what was missed."""
    for _ in range(5):
        await asyncio.sleep(0.1)
        for listener in store._listeners:
            listener(None)


def sentence(results: Sequence[Result]) -> str:
    reached = [result for result in results if result.reached]
    return f"{sum(result.why is None for result in reached)} of {len(reached)} broken awaits cost nothing else"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/awaits", description=__doc__)
    parser.add_argument("points", nargs="*", metavar="POINT", help="awaits to break, as `runner.prefetch.run 1`")
    parser.add_argument("--sample", type=int, metavar="N", help="break N awaits, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="update RELIABILITY.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    logging.disable(logging.NOTSET)
    points = options.points or list(fault.points)
    if options.sample is not None:
        points = random.Random(options.seed).sample(points, options.sample)
    results = []
    for point in points:
        result = asyncio.run(play(point))
        results.append(result)
        print("ok   " if result.why is None else "WRONG", point, "" if result.reached else "(not reached)", end="")
        print("" if result.why is None else f": {result.why}", flush=True)
    print(f"{sentence(results)}; {sum(not result.reached for result in results)} were not reached.")
    if options.write:
        write_block(RELIABILITY, "awaits", f"{sentence(results)}.")
    return 0 if all(result.why is None for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
