"""Lays siege to one server, and fails if it lost or wedged anything, told an untruth, or kept what it should not.

From a seed, and all at once: users submit jobs, also such that misbehave; the disk is filled; the database is
deleted, replaced, overwritten, moved and made read-only; workers are stopped and killed; results are removed;
clients leave at once, never end, never read, or say nothing. A witness asks all the time whether the server is
ready. judge.py says when that is true.

Lost: a job that was acknowledged (202) is not there at the end, or one of its items succeeded and has another
result, or none, although no attack removed it. Exempt are the jobs that were acknowledged between the last backup
and an attack that overwrote the database, which threw them away.
Wedged: an acknowledged job, or a new one after the siege, has not ended within PATIENCE_S after it.
Left behind: a stream or a watched job in the metrics; or memory beyond GROWTH times, or open files beyond
GROWTH_FILES more than, what the server had after each client had come once.

`scripts/siege` runs it. See also: tests/crash (kills and power cuts), tests/connections (each client alone).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.crash.result import expected
from tests.siege import attacks, clients
from tests.siege.attacks import Stage
from tests.siege.judge import NOTICE_S, RECOVERY_S, Flaw, false_answers, unseen, wrongly_acknowledged
from tests.siege.ledger import Acknowledged, Ledger
from tests.siege.schedule import Attack, draw
from tests.siege.users import Users
from tests.siege.witness import READY, Answer, answers_in
from tests.support.server import Server
from tests.support.tables import RELIABILITY, ROOT, machine, markdown_table, write_block
from tests.support.violation import Violation
from tests.support.waiting import eventually

#: The size of the disk (MiB). A backup is restored beside what it replaces.
DISK_MIB = 384
#: The length of a siege and of its short form (seconds), and of what comes before both.
LENGTH_S, SHORT_S, WARM_UP_S = 600.0, 26.0, 6.0
#: For all jobs to end afterwards (seconds).
PATIENCE_S = 60.0
#: What a server may have grown by: a factor of its memory, and open files.
GROWTH, GROWTH_FILES = 1.5, 8
#: Violations of a kind that are printed.
SHOWN = 10
SETTINGS = {
    "UNSTUCK_APP": "tests.siege.kinds",
    "UNSTUCK_WORKERS": "2",
    "UNSTUCK_WORKER_MEMORY_MIB": "400",
    "UNSTUCK_RETRY_PAUSE_S": "0.1",
    "UNSTUCK_CANCEL_GRACE_S": "0.3",
    "UNSTUCK_LEASE_S": "10",
    "UNSTUCK_HEARTBEAT_S": "2",
    "UNSTUCK_ITEM_LIMIT_S": "30",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
}
HEADER = ("minute", "attacks", "ready asked", "said 503", "untrue", "slowest answer")


@dataclass(frozen=True)
class Outcome:
    """What a siege came to."""

    began: float
    length_s: float
    attacks: tuple[str, ...]
    jobs: int
    refused: int
    thrown_away: int
    answers: tuple[Answer, ...]
    untrue: tuple[Answer, ...]
    growth: str
    violations: tuple[Violation, ...]
    starts: tuple[tuple[float, str], ...]


def play(folder: Path, seed: int, length_s: float, *, short: bool = False) -> Outcome:
    """Lay siege for this long, in an empty folder; return what came of it."""
    with _disk(folder / "disk") as (place, is_small):
        server = Server(place / "data", "--port", str(_free_port()), environ=SETTINGS)
        server.log = folder / "server.log"
        server.start()
        try:
            with _witness(server, folder / "answers"):
                outcome = _played(server, draw(seed, length_s, with_disk=is_small, short=short), seed, length_s)
            return _judged(outcome, tuple(answers_in(folder / "answers")))
        finally:
            server.stop()


@dataclass
class _Played:
    stage: Stage
    began: float
    length_s: float
    starts: list[tuple[float, str]]
    growth: str = ""


def _played(server: Server, tracks: Sequence[Sequence[Attack]], seed: int, length_s: float) -> _Played:
    ledger = Ledger()
    users = Users(server.url, ledger, seed)
    stage = Stage(server, users, ledger)
    users.come()
    over = threading.Event()
    try:
        _warm_up(server.url, seed)
        eventually(lambda: not _watching(server))
        before = _measured(server)
        played = _Played(stage, time.monotonic(), length_s, [])
        threads = [threading.Thread(target=_follow, args=(played, track, over)) for track in tracks]
        for thread in threads:
            thread.start()
        try:
            time.sleep(length_s)
        finally:  # also after Ctrl-C: what was attacked is put back
            over.set()
            for thread in threads:
                thread.join()
        users.leave()
        stage.violations += _wedged(stage)
    finally:
        users.end()
    stage.violations += [*users.violations, *_lost(server, ledger), *_left(server)]
    played.growth = _growth(stage, before, _measured(server))
    return played


def _warm_up(url: str, seed: int) -> None:
    """Let each client come once, so that what a server makes once is there before it is measured."""
    over = threading.Event()
    threads = [
        threading.Thread(target=client, args=(url, random.Random(seed), over))
        for client in clients.CLIENTS.values()
    ]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP_S)
    over.set()
    for thread in threads:
        thread.join()


def _follow(played: _Played, track: Sequence[Attack], over: threading.Event) -> None:
    """Carry out the attacks of one track; what breaks is a violation, since it is not seen in a thread."""
    for attack in track:
        if over.wait(attack.after_s) or time.monotonic() + attack.for_s > played.began + played.length_s:
            return
        played.starts.append((time.monotonic(), attack.name))
        try:
            if attack.name in clients.CLIENTS:
                _send_client(played.stage.server.url, attack, over)
            else:
                attacks.carry_out(played.stage, attack, over.wait)
        except Exception:
            at_s = time.monotonic() - played.began
            text = f"{attack.name}, {at_s:.0f} s after the start: {traceback.format_exc(limit=-3)[:1000]}"
            played.stage.violations.append(Violation(Flaw.ERROR, text))


def _send_client(url: str, attack: Attack, over: threading.Event) -> None:
    left = threading.Event()
    client = threading.Thread(target=clients.CLIENTS[attack.name], args=(url, random.Random(attack.seed), left))
    client.start()
    over.wait(attack.for_s)
    left.set()
    client.join()


# -- afterwards


def _wedged(stage: Stage) -> Iterator[Violation]:
    """Wait for all jobs to end, then for a new one."""
    end = time.monotonic() + PATIENCE_S
    waiting = [one for one in stage.ledger.jobs() if not one.thrown_away]
    with httpx.Client(base_url=stage.server.url, timeout=60) as http:
        while waiting and time.monotonic() < end:
            waiting = [one for one in waiting if _is_unfinished(http, one)]
            time.sleep(0.2)
        for one in waiting:
            answer = http.get(f"/api/jobs/{one.job_id}")
            said = f"{answer.status_code} {answer.text[:500]}"
            yield Violation(Flaw.WEDGED, f"job {one.job_id} does not end: {said}")
    fresh = stage.users.submit(json={"kind": "rehearsal", "total": 3, "options": {"seconds": 0.1}})
    if fresh is None or fresh.status_code != 202:
        yield Violation(Flaw.WEDGED, f"a new job is refused: {fresh and fresh.text}")
        return
    try:
        stage.server.until_done(fresh.json()["id"])
    except AssertionError:
        yield Violation(Flaw.WEDGED, "a new job does not end")


def _is_unfinished(http: httpx.Client, one: Acknowledged) -> bool:
    answer = http.get(f"/api/jobs/{one.job_id}")
    return answer.status_code != 404 and not (answer.status_code == 200 and answer.json()["done"])


def _lost(server: Server, ledger: Ledger) -> Iterator[Violation]:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for one in ledger.jobs():
            if one.thrown_away:
                continue
            answer = http.get(f"/api/jobs/{one.job_id}")
            if answer.status_code != 200:
                yield Violation(Flaw.LOST, f"job {one.job_id} was accepted and is answered {answer.status_code}")
            elif one.inputs:
                yield from _lost_results(http, one)


def _lost_results(http: httpx.Client, one: Acknowledged) -> Iterator[Violation]:
    kept = http.get(f"/api/jobs/{one.job_id}/results")
    if kept.status_code != 200:
        yield Violation(Flaw.LOST, f"the results of job {one.job_id} are answered with {kept.status_code}")
    for item in http.get(f"/api/jobs/{one.job_id}/items").json()["items"]:
        if item["state"] != "succeeded" or one.results_removed:
            continue
        found = http.get(item["links"]["result"])
        if found.status_code != 200 or found.content != expected(item["name"], one.inputs[item["name"]]):
            yield Violation(Flaw.LOST, f"the result of {one.job_id} {item['name']}: {found.status_code}")


def _left(server: Server) -> Iterator[Violation]:
    with contextlib.suppress(AssertionError):  # told below
        eventually(lambda: not _watching(server))
    for name, value in _watching(server).items():
        yield Violation(Flaw.LEFT, f"{name} is {value:g}")


def _watching(server: Server) -> dict[str, float]:
    """Return the metrics of streams and watched jobs that are not 0."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    names = ("unstuck_streams_open", "unstuck_jobs_watched")
    found = {name: float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0]) for name in names}
    return {name: value for name, value in found.items() if value}


def _measured(server: Server) -> tuple[float, int]:
    """Return the server's memory (MiB) and open files."""
    assert server.process is not None
    pid = server.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))


def _growth(stage: Stage, before: tuple[float, int], after: tuple[float, int]) -> str:
    told = f"{before[0]:.0f} → {after[0]:.0f} MiB, {before[1]} → {after[1]} open files"
    if after[0] > before[0] * GROWTH or after[1] > before[1] + GROWTH_FILES:
        stage.violations.append(Violation(Flaw.LEFT, f"the server grew: {told}"))
    return told


def _judged(played: _Played, answers: tuple[Answer, ...]) -> Outcome:
    stage = played.stage
    jobs = stage.ledger.jobs()
    false = false_answers(answers, stage.windows, stage.pauses, stage.kills)
    violations = [
        *stage.violations,
        *(fault for _, fault in false),
        *unseen(answers, stage.windows),
        *wrongly_acknowledged(((one.sent, one.answered) for one in jobs), stage.windows),
    ]
    return Outcome(
        began=played.began,
        length_s=played.length_s,
        attacks=tuple(name for _, name in played.starts),
        jobs=len(jobs),
        refused=stage.ledger.refused,
        thrown_away=sum(one.thrown_away for one in jobs),
        answers=answers,
        untrue=tuple(answer for answer, _ in false),
        growth=played.growth,
        violations=tuple(violations),
        starts=tuple(played.starts),
    )


# -- the place


@contextmanager
def _disk(place: Path) -> Iterator[tuple[Path, bool]]:
    """Mount a small disk where that is allowed; yield the place, and whether it is one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    is_small = os.geteuid() == 0 and shutil.which("mount") is not None
    is_small = is_small and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield place, is_small
    finally:
        if is_small:
            unmount = ["umount", str(place)]
            eventually(lambda: subprocess.run(unmount, capture_output=True, check=False).returncode == 0)


@contextmanager
def _witness(server: Server, answers: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.siege.witness", server.url, str(answers)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# -- the command


def minutes(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield a row for each minute: what was done, and what `ready` said."""
    for number in range(-(-int(outcome.length_s) // 60)):
        start = outcome.began + 60 * number

        def within(at: float, start: float = start) -> bool:
            return start <= at < start + 60

        asked = [one for one in outcome.answers if within(one.sent)]
        ready = [one for one in asked if one.path == READY]
        yield (
            str(number + 1),
            str(sum(within(at) for at, _ in outcome.starts)),
            str(len(ready)),
            str(sum(one.status == 503 for one in ready)),
            str(sum(within(one.sent) for one in outcome.untrue)),
            f"{max((one.answered - one.sent for one in asked), default=0.0):.2f} s",
        )


def sentence(outcome: Outcome) -> str:
    """Return what the siege came to, in figures."""
    kinds = Counter(one.kind for one in outcome.violations)
    ready = [one.status for one in outcome.answers if one.path == READY]
    return (
        f"{outcome.length_s / 60:g} minutes: {len(outcome.attacks)} attacks, {outcome.jobs:,} jobs acknowledged, "
        f"{outcome.thrown_away} of them thrown away with their database, and {outcome.refused:,} refused. "
        f"{kinds[Flaw.LOST]} lost, {kinds[Flaw.WEDGED]} wedged, {kinds[Flaw.ACKNOWLEDGED]} acknowledged without a "
        f"database. `ready` was asked {len(ready):,} times, said 503 {ready.count(503):,} times, and was untrue "
        f"{len(outcome.untrue)} times. {kinds[Flaw.LEFT]} things left behind; {outcome.growth}."
    )


def document(command: str, seed: int, outcome: Outcome) -> str:
    """Return the block for RELIABILITY.md."""
    drawn_from = "" if "--seed" in command else f", seed {seed}"
    return (
        f"`{command}`{drawn_from} ({machine()}). `ready` is true if it is 503, with the reason, from "
        f"{NOTICE_S:g} s after an attack on the database or its disk until that is undone, and 200 from "
        f"{RECOVERY_S:g} s later on; for as long after a worker was killed it may say that none can be started. "
        f"{sentence(outcome)}"
    )


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/siege", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=LENGTH_S / 60, metavar="N", help="how long [default: 10]")
    parser.add_argument("--seed", type=int, metavar="N", help="play this schedule [default: random]")
    parser.add_argument("--short", action="store_true", help="play half a minute, as the tests do")
    parser.add_argument("--write", action="store_true", help="update RELIABILITY.md")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Return 0 if there was no violation, 1 otherwise."""
    options = parse_arguments(argv)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp())
    try:
        outcome = play(folder, seed, SHORT_S if options.short else 60 * options.minutes, short=options.short)
        if outcome.violations:
            kept = Path(tempfile.gettempdir()) / f"siege-{seed}"
            kept.mkdir(exist_ok=True)
            for name in ("server.log", "answers"):
                shutil.copy(folder / name, kept)
            print(f"The server's log and the answers are in {kept}.")
    finally:
        shutil.rmtree(folder)
    print(markdown_table(HEADER, list(minutes(outcome))))
    for name, count in sorted(Counter(outcome.attacks).items()):
        print(f"{count:4} × {name}")
    for kind, count in Counter(one.kind for one in outcome.violations).items():
        print(f"VIOLATION, {count} times: {kind}")
        for violation in [one for one in outcome.violations if one.kind == kind][:SHOWN]:
            print(f"  {violation}")
    print(sentence(outcome))
    if options.write:
        write_block(RELIABILITY, "siege", document(" ".join(["scripts/siege", *argv]), seed, outcome))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
