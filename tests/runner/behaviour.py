"""User code that behaves well or badly: the first word of an item's name says what `behave` does."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import unstuck

print("printed while the module was loaded")


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@dataclass
class Record:
    mean: float


async def _later() -> int:
    return 5


class Wordless(Exception):
    def __str__(self) -> str:
        raise SystemExit


def report_until_stopped(report: unstuck.Report) -> None:
    report(None, message="running")
    while True:
        report(0.5)
        time.sleep(0.001)


def wait_for_stop(report: unstuck.Report) -> None:
    report(None, message="running")
    while not report.cancelled:
        time.sleep(0.001)


FILE: Path | None = None  # of the item that runs


@unstuck.kind("behave", needs_file=False)
def behave(file: Path | None, report: unstuck.Report, *, number: int = 1) -> Any:
    global FILE
    FILE = file
    word, _, rest = report.name.partition(" ")
    return globals()[f"do_{word}"](report, rest, number)


@unstuck.kind("needs-file")
def needs_file(file: Path, report: unstuck.Report) -> dict[str, Any]:
    return {"name": file.name, "attempt": report.attempt, "label": report.name}


# -- ways to end


def do_return(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    return {"number": number}


def do_none(report: unstuck.Report, rest: str, number: int) -> None: ...


def do_file(report: unstuck.Report, rest: str, number: int) -> Path:
    made = report.output / rest
    made.write_text("made")
    return made


def do_path(report: unstuck.Report, rest: str, number: int) -> Path:
    """Return a path without making it; OUT stands for the output folder."""
    (report.output / "folder").mkdir()
    (report.output / "folder" / "inner").write_text("x")
    (report.output / "link").symlink_to("/etc/passwd")
    os.mkfifo(report.output / "pipe")
    return Path(rest.replace("OUT", str(report.output)))


def do_relative(report: unstuck.Report, rest: str, number: int) -> Path:
    os.chdir(report.output)
    Path("here.txt").write_text("x")
    return Path("here.txt")


def do_listed(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    return {"left": sorted(entry.name for entry in report.output.iterdir()), "mode": report.output.stat().st_mode}


def do_litter(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    (report.output / "folder").mkdir()
    (report.output / "folder" / "inner").write_text("x")
    (report.output / "file").write_text("x")
    (report.output / "outside").symlink_to(report.output.parent)
    return {}


def do_large(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    report.output.stat()  # creates the folder
    return {"text": "x" * number}


def do_odd(report: unstuck.Report, rest: str, number: int) -> Any:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    return {
        "integer": 5,
        "zero": 0,
        "text": "text",
        "nothing": "",
        "list": [1],
        "tree": [{"a": [True, None, 1.5]}],
        "false": False,
        "date": {"day": date(2024, 2, 29)},
        "set": {7},
        "record": Record(1.5),
        "large": 2**70,
        "object": {"it": object()},
        "surrogate": {"it": "\ud800"},
        "keys": {(1, 2): 3},
        "loop": loop,
        "nan": {"it": float("nan")},
        "infinite": {"means": [1.0, {"top": -math.inf}]},
        "nan record": [Record(float("nan"))],
        "nan alone": float("nan"),
        "null": {"it": None, "them": [None]},
        "coroutine": _later(),
        "generator": (number for number in range(3)),
    }[rest]


def do_path_text(report: unstuck.Report, rest: str, number: int) -> None:
    end, way = [*rest.split(), ""][:2]
    assert FILE is not None
    path = {"absolute": FILE.absolute(), "real": FILE.resolve(), "part": FILE.name}.get(way, FILE)
    if end == "report":
        report(0.5, message=f"reading {path}")
        time.sleep(0.3)
    elif end == "output":
        (report.output / "missing.txt").read_text()
    elif way == "open" and end == "raise":
        FILE.rename(FILE.with_suffix(".moved"))
        try:
            FILE.read_text()
        finally:
            FILE.with_suffix(".moved").rename(FILE)
    else:
        raise {"raise": ValueError, "fail": unstuck.Failed, "skip": unstuck.Skip}[end](f"cannot read '{path}'")


class Handler(logging.Handler):
    """Keeps what it receives, as Sentry's does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0]:
            place = [getattr(record, name) for name in ("job", "item", "attempt")]
            self.seen.append([record.name, record.levelname, record.exc_info[0].__name__, *place])


HANDLER = Handler()


def do_log(report: unstuck.Report, rest: str, number: int) -> list[Any]:
    log = logging.getLogger("my.work")
    if HANDLER not in logging.getLogger().handlers:
        logging.getLogger().addHandler(HANDLER)
        log.info("first")
        log.debug("not shown")
    return HANDLER.seen


def do_break_logging(report: unstuck.Report, rest: str, number: int) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise SystemExit("no lines")

    logging.getLogger("unstuck.kind").addFilter(refuse)


def do_nest(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    """Return a result with this many levels."""
    value: dict[str, Any] = {}
    for _ in range(number - 1):
        value = {"a": value}
    return value


def do_wordless(report: unstuck.Report, rest: str, number: int) -> None:
    raise Wordless


def do_wordless_skip(report: unstuck.Report, rest: str, number: int) -> None:
    raise type("WordlessSkip", (unstuck.Skip,), {"__str__": Wordless.__str__})("x")


def do_odd_code(report: unstuck.Report, rest: str, number: int) -> None:
    failure = unstuck.Failed("x", code="fine")
    failure.code = object()  # type: ignore[assignment]
    raise failure


def do_skip(report: unstuck.Report, rest: str, number: int) -> None:
    raise unstuck.Skip(rest)


def do_failed(report: unstuck.Report, rest: str, number: int) -> None:
    raise unstuck.Failed(rest, code="my_code")


def do_transient(report: unstuck.Report, rest: str, number: int) -> None:
    raise unstuck.Transient(rest)


def do_code(report: unstuck.Report, rest: str, number: int) -> None:
    raise unstuck.Failed("x", code="My code")


def do_raise(report: unstuck.Report, rest: str, number: int) -> None:
    kinds: dict[str, BaseException] = {
        "value": ValueError("the words"),
        "long": ValueError("x" * 1_000_000),
        "bytes": ValueError("a\0b\ud800c\nd"),
        "unreadable": Unreadable(),
        "empty": KeyError(),
        "base": BaseException("deep"),
        "interrupt": KeyboardInterrupt(),
        "exit": SystemExit(0),
        "cancelled": unstuck.Cancelled(),
        "asyncio": asyncio.CancelledError(),
        "group": ExceptionGroup("several", [ValueError("a"), ValueError("b")]),
    }
    raise kinds[rest]


def do_recurse(report: unstuck.Report, rest: str, number: int) -> None:
    do_recurse(report, rest, number)


# -- ways to die


def do_exit(report: unstuck.Report, rest: str, number: int) -> None:
    os._exit(7)


def do_segfault(report: unstuck.Report, rest: str, number: int) -> None:
    ctypes.string_at(0)


def do_eat(report: unstuck.Report, rest: str, number: int) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(16 * 1024 * 1024))


def do_close_descriptors(report: unstuck.Report, rest: str, number: int) -> None:
    os.closerange(3, 64)


# -- ways to disturb


def do_take_descriptors(report: unstuck.Report, rest: str, number: int) -> None:
    while True:
        os.dup(0)


def do_take_threads(report: unstuck.Report, rest: str, number: int) -> None:
    for _ in range(50):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    raise ValueError("many threads")


def do_set_everything(report: unstuck.Report, rest: str, number: int) -> None:
    os.umask(0o777)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sys.setrecursionlimit(5_000)
    signal.setitimer(signal.ITIMER_REAL, 1000.0)
    raise ValueError("everything is set")


def do_settings(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    mask = os.umask(0)
    return {"umask": mask, "alarm": signal.getitimer(signal.ITIMER_REAL)[0], "recursion": sys.getrecursionlimit()}


def do_print(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    print('{"type":"done","id":1,"state":"succeeded"}')
    print("no line end, ünïcödé, \ud800", end="")
    sys.stdout.buffer.write(b"\xff\xfe raw\n")
    sys.stdout.flush()
    os.write(1, b"to descriptor 1\n")
    print("to the first stdout", file=sys.__stdout__)
    subprocess.run(["echo", "from a child"], check=True)
    return {"stdin": sys.stdin.read(), "descriptor": os.read(0, 10).decode()}


def do_close_streams(report: unstuck.Report, rest: str, number: int) -> None:
    sys.stdout.close()
    sys.stderr.close()
    sys.stdin.close()
    raise ValueError("into the log, nevertheless")


def do_chdir(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    before = os.getcwd()
    os.chdir("/")
    return {"before": before}


def do_report(report: unstuck.Report, rest: str, number: int) -> None:
    report(0.25, message="a\0b\ud800" + "x" * 1_000_000)
    while not report.cancelled:
        time.sleep(0.001)


def do_passing(report: unstuck.Report, rest: str, number: int) -> None:
    """Return long before the report could have been passed on."""
    report(0.5, message="passing")


def do_burst(report: unstuck.Report, rest: str, number: int) -> None:
    """Report many times at once, then fall silent; the newest report must arrive during the silence."""
    for done in range(number):
        report(done, number, f"step {done}")
    wait_for_stop(report)


def do_flood(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    start = time.monotonic()
    for _ in range(number):
        report(0.5, message=rest)
    return {"seconds": time.monotonic() - start}


def do_thread(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    """Leave a thread behind that keeps reporting and does not end by itself."""

    def keep_reporting() -> None:
        try:
            report_until_stopped(report)
        finally:
            Path(rest).write_text("stopped")

    threading.Thread(target=keep_reporting).start()
    return {}


def do_fork(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    """Fork a child that outlives the item and holds every descriptor that it inherited."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    child.start()
    return {"pid": child.pid}


def do_stray_fork(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    """Return in two processes, only one of which may answer."""
    child = os.fork()
    if child == 0:
        return {"who": "child"}
    os.waitpid(child, 0)
    return {"who": "parent"}


def do_pool(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"sum": pool.apply(sum, ([1, 2],))}


def do_grandchild(report: unstuck.Report, rest: str, number: int) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    report(None, message=str(child.pid))
    child.wait()


# -- ways to stop, or not


def do_stop(report: unstuck.Report, rest: str, number: int) -> None:
    report_until_stopped(report)


def do_clean_up(report: unstuck.Report, rest: str, number: int) -> None:
    try:
        report_until_stopped(report)
    finally:
        Path(rest).write_text("cleaned up")


def do_look(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    wait_for_stop(report)
    return {"done": "anyway"}


def do_swallow(report: unstuck.Report, rest: str, number: int) -> None:
    try:
        report_until_stopped(report)
    except BaseException:
        raise ValueError("in the middle") from None


def do_skip_when_stopped(report: unstuck.Report, rest: str, number: int) -> None:
    wait_for_stop(report)
    raise unstuck.Skip("enough")


def do_burn(report: unstuck.Report, rest: str, number: int) -> None:
    """Run pure Python without a pause, during which the listening thread must still get its turn."""
    report(None, message="running")
    count = 0
    while True:
        count += 1
        if not count % 1000:
            report(0.5)


def do_asyncio(report: unstuck.Report, rest: str, number: int) -> dict[str, Any]:
    async def work() -> str:
        await asyncio.sleep(0)
        return "ran"

    return {"asyncio": asyncio.run(work())}
