"""Attacks on a server's disk, database, results and workers: contexts, which undo at their end what they did.

All but one are undone under the running server. A database that was overwritten cannot be: the server is stopped,
the backup of just before is restored, and what was acknowledged after that backup is thrown away with the file.
Must not know: what the server does about it. See also: schedule.py (when), clients.py, judge.py.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.siege import workers_of
from tests.siege.judge import Flaw, Kill, Pause, Window
from tests.siege.ledger import Ledger
from tests.siege.schedule import FULL_DISK, MOUNTED_OVER, Attack
from tests.siege.users import Users
from tests.support.server import Server
from tests.support.violation import Violation
from tests.support.waiting import eventually

DATABASE, LOG, INDEX = "unstuck.db", "unstuck.db-wal", "unstuck.db-shm"
#: What fills the log of the database, so that a full disk is noticed: names of items of external work.
NAMES = [f"{number} {'x' * 900}" for number in range(500)]


@dataclass
class Stage:
    """What is attacked, and what was done to it."""

    server: Server
    users: Users
    ledger: Ledger
    windows: list[Window] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    #: Held while the server is restarted. A start whose worker is killed fails, as it should.
    starting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data(self) -> Path:
        return self.server.data

    @property
    def beside(self) -> Path:
        """A folder on the same disk, which is not the server's."""
        beside = self.data.with_name("beside")
        beside.mkdir(exist_ok=True)
        return beside


Harm = Callable[[Stage, random.Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class StoreAttack:
    """An attack that makes the server unready, and what `ready` must then say."""

    harm: Harm
    reason: str
    #: How long it may go unnoticed by a commit (seconds); None if commits may still succeed.
    refuses_after_s: float | None = 0.0


@contextmanager
def full(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Fill the disk and keep it full; begins when the server refuses work for lack of room."""
    filler, over = stage.beside / "filler", threading.Event()
    filling = threading.Thread(target=_fill_until, args=(filler, over))
    filling.start()
    try:
        eventually(lambda: _refuses(stage))
        yield
    finally:
        over.set()
        filling.join()
        filler.unlink()


def _fill_until(filler: Path, over: threading.Event) -> None:
    with filler.open("ab", buffering=0) as file:
        while not over.is_set():
            for size in (2**20, 4096, 1):
                with contextlib.suppress(OSError):
                    while not over.is_set():
                        file.write(bytes(size))
            over.wait(0.02)


def _refuses(stage: Stage) -> bool:
    answer = stage.users.submit(json={"kind": "elsewhere", "external": True, "items": NAMES})
    return answer is not None and answer.status_code == 503


@contextmanager
def mounted_over(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Mount another file system over the data folder."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(stage.data)], check=True)
    try:
        yield
    finally:  # something may just be looking there
        unmount = ["umount", str(stage.data)]
        eventually(lambda: subprocess.run(unmount, capture_output=True, check=False).returncode == 0)


@contextmanager
def deleted(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Delete the database, and put the same files back."""
    with contextlib.ExitStack() as stack:
        for name in (DATABASE, LOG, INDEX):
            stack.enter_context(_put_back(stage, name))
        for name in (DATABASE, LOG, INDEX):
            (stage.data / name).unlink()
        yield


@contextmanager
def log_deleted(stage: Stage, chance: random.Random) -> Iterator[None]:
    with _put_back(stage, LOG):
        (stage.data / LOG).unlink()
        yield


@contextmanager
def replaced(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Put a copy in the database's place."""
    copy = stage.beside / "copy"
    shutil.copy(stage.data / DATABASE, copy)
    with _put_back(stage, DATABASE):
        copy.replace(stage.data / DATABASE)
        yield


@contextmanager
def _put_back(stage: Stage, name: str) -> Iterator[None]:
    """Keep a second name of a file, and give the file its first name back afterwards."""
    aside = stage.beside / name
    os.link(stage.data / name, aside)
    try:
        yield
    finally:
        aside.replace(stage.data / name)
        aside.unlink(missing_ok=True)  # `replace` does nothing if both names are still the same file


@contextmanager
def read_only(stage: Stage, chance: random.Random) -> Iterator[None]:
    (stage.data / DATABASE).chmod(0o444)
    try:
        yield
    finally:
        (stage.data / DATABASE).chmod(0o600)


@contextmanager
def moved(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.data.rename(stage.beside / "moved")
    try:
        yield
    finally:
        if stage.data.exists():  # something made it anew
            shutil.rmtree(stage.data)
        (stage.beside / "moved").rename(stage.data)


@contextmanager
def overwritten(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Overwrite the database after a backup; restore that in the end, with the server stopped."""
    backup, since = stage.beside / "backup", time.monotonic()
    _command(stage, "backup", str(backup))
    path = stage.data / DATABASE
    with path.open("r+b") as file:
        if chance.random() < 0.5:
            file.truncate(0)
        else:
            file.seek(100)
            file.write(chance.randbytes(path.stat().st_size - 100))
    stage.ledger.throw_away(since, time.monotonic())
    try:
        yield
    finally:
        began = time.monotonic()
        with stage.starting:
            if (code := stage.server.stop()) != 0:
                stage.violations.append(Violation(Flaw.ERROR, f"the stopped server's exit code was {code}"))
            _command(stage, "restore", str(backup))
            for place in (stage.data, stage.data / "files"):
                for aside in place.glob("before-restore-*"):
                    shutil.rmtree(aside)
            shutil.rmtree(backup)
            stage.server.start()
        stage.users.report_again()
        stage.pauses.append(Pause(began, time.monotonic()))


def _command(stage: Stage, *arguments: str) -> None:
    command = [sys.executable, "-m", "unstuck", *arguments, "--data", str(stage.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def worker_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.kills.append(Kill(time.monotonic()))
    _signal(stage, chance, signal.SIGKILL)
    yield


@contextmanager
def worker_stopped(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Stop a worker, and let it go on."""
    pid = _signal(stage, chance, signal.SIGSTOP)
    try:
        yield
    finally:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _signal(stage: Stage, chance: random.Random, number: int) -> int | None:
    with stage.starting:
        process = stage.server.process
        workers = workers_of(process.pid) if process is not None else []
        if not workers:
            return None
        pid = chance.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pid


@contextmanager
def results_removed(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Remove the results of a few jobs."""
    jobs = [one for one in stage.ledger.jobs() if one.inputs and not one.results_removed]
    for one in chance.sample(jobs, min(3, len(jobs))):
        one.results_removed = True
        for path in (stage.data / "files" / one.job_id / "out").glob("*/result.bin"):
            path.unlink(missing_ok=True)
    yield


STORE: dict[str, StoreAttack] = {
    FULL_DISK: StoreAttack(full, "full", None),
    MOUNTED_OVER: StoreAttack(mounted_over, "moved|replaced"),
    "database deleted": StoreAttack(deleted, "deleted or moved"),
    "database replaced": StoreAttack(replaced, "replaced by another file"),
    "database overwritten": StoreAttack(overwritten, "overwritten"),
    # Who may write is compared every second only: what a commit writes meanwhile is kept.
    "database read-only": StoreAttack(read_only, "read-only", 2.0),
    "log deleted": StoreAttack(log_deleted, "wal was deleted or moved"),
    "folder moved": StoreAttack(moved, "deleted or moved"),
}
WORK: dict[str, Harm] = {
    "worker killed": worker_killed,
    "worker stopped": worker_stopped,
    "results removed": results_removed,
}


def carry_out(stage: Stage, attack: Attack, wait: Callable[[float], object]) -> None:
    """Do it, wait for its time, and undo it; note when it was on."""
    chance = random.Random(attack.seed)
    if attack.name in WORK:
        with WORK[attack.name](stage, chance):
            wait(attack.for_s)
        return
    kind, before = STORE[attack.name], time.monotonic()
    with kind.harm(stage, chance):
        began = time.monotonic()
        wait(attack.for_s)
        ended = time.monotonic()
    window = Window(attack.name, before, began, ended, time.monotonic(), kind.reason, kind.refuses_after_s)
    stage.windows.append(window)
