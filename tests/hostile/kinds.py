"""Kinds that misbehave: `way` says how. Each may cost its own item, and nothing else.

Not in this list, because no process of the same user can be kept from it: killing the server, or erasing its data.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import errno
import gc
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import unstuck

Way = Callable[[unstuck.Report], Any]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    WAYS[function.__name__] = function
    return function


@unstuck.kind("hostile", needs_file=False)
def hostile(file: Path | None, report: unstuck.Report, *, way: str) -> Any:
    return WAYS[way](report)


@unstuck.kind("neighbour", needs_file=False)
def neighbour(file: Path | None, report: unstuck.Report) -> Path:
    """Do what work usually does: report, create a file beside others, return it."""
    report(0.5, message="working")
    result = report.output / "result.txt"
    result.write_text("x" * 1000)
    assert result.stat().st_mode & 0o600 == 0o600
    return result


def pipes() -> Iterator[int]:
    """Yield the descriptors that are pipes: one of them leads to the runner."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:"):
                yield descriptor


def forge(data: bytes) -> None:
    """Write this into the runner's pipe."""
    for descriptor in pipes():
        with contextlib.suppress(OSError):
            os.write(descriptor, data)


def flood(data: bytes) -> None:
    while True:
        forge(data)


def forge_done(**fields: Any) -> None:
    """Forge the end of the current run, whose id is somewhere in memory."""
    for id in {one.id for one in gc.get_objects() if type(one).__name__ == "Run"}:
        forge(json.dumps({"type": "done", "id": id, "state": "succeeded", **fields}).encode() + b"\n")
    time.sleep(0.2)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def nested_json(levels: int) -> bytes:
    start = b'{"type":"done","id":1,"state":"succeeded","result":'
    return start + b'{"a":' * levels + b"1" + b"}" * levels + b"}\n"


# -- results


@way
def returns_text(report: unstuck.Report) -> Any:
    return "text"


@way
def returns_a_number(report: unstuck.Report) -> Any:
    return 5


@way
def returns_an_object(report: unstuck.Report) -> Any:
    return {"it": object()}


@way
def returns_a_surrogate(report: unstuck.Report) -> Any:
    return {"it": "\ud800"}


@way
def returns_a_surrogate_as_key(report: unstuck.Report) -> Any:
    return {"\ud800": 1}


@way
def returns_tuples_as_keys(report: unstuck.Report) -> Any:
    return {(1, 2): 3}


@way
def returns_a_cycle(report: unstuck.Report) -> Any:
    cycle: dict[str, Any] = {}
    cycle["it"] = cycle
    return cycle


@way
def returns_101_levels(report: unstuck.Report) -> Any:
    return nested(101)


@way
def returns_980_levels(report: unstuck.Report) -> Any:
    return nested(980)


@way
def returns_9_990_levels(report: unstuck.Report) -> Any:
    return nested(9_990)


@way
def returns_a_million_lists(report: unstuck.Report) -> Any:
    return {"it": [[]] * 20_000}


@way
def returns_2_mb(report: unstuck.Report) -> Any:
    return {"it": "x" * 2_000_000}


@way
def returns_nan(report: unstuck.Report) -> Any:
    return {"it": float("nan")}


@way
def returns_a_huge_number(report: unstuck.Report) -> Any:
    return {"it": 10**5000}


@way
def returns_nul_and_escapes(report: unstuck.Report) -> Any:
    return {"it": "a\0b\x1b[31m\u2028"}


@way
def returns_a_dict_that_raises(report: unstuck.Report) -> Any:
    class Raising(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("no items")

        __iter__ = __len__ = __getitem__ = keys = items  # type: ignore[assignment]

    return Raising(a=1)


# -- result files and the output folder


@way
def returns_a_file_outside(report: unstuck.Report) -> Any:
    return Path("/etc/passwd")


@way
def returns_a_path_upwards(report: unstuck.Report) -> Any:
    return report.output / ".." / ".." / "in"


@way
def returns_a_folder(report: unstuck.Report) -> Any:
    folder = report.output / "folder"
    folder.mkdir()
    return folder


@way
def returns_a_link(report: unstuck.Report) -> Any:
    link = report.output / "link"
    link.symlink_to("/etc/passwd")
    return link


@way
def returns_a_fifo(report: unstuck.Report) -> Any:
    os.mkfifo(report.output / "fifo")
    return report.output / "fifo"


@way
def returns_a_socket(report: unstuck.Report) -> Any:
    os.chdir(report.output)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    return Path("socket")


@way
def returns_a_missing_file(report: unstuck.Report) -> Any:
    return report.output / "missing"


@way
def returns_a_name_that_is_no_text(report: unstuck.Report) -> Any:
    name = os.fsencode(report.output) + b"/a\xff\n"
    Path(os.fsdecode(name)).write_text("x")
    return Path(os.fsdecode(name))


@way
def returns_a_long_name_with_line_breaks(report: unstuck.Report) -> Any:
    made = report.output / ("<b>\r\n\x1b" + "n" * 200)
    made.write_text("x")
    return made


@way
def returns_a_sparse_terabyte(report: unstuck.Report) -> Any:
    made = report.output / "sparse"
    with made.open("wb") as file:
        file.truncate(2**40)
    return made


@way
def removes_its_output_folder(report: unstuck.Report) -> Any:
    made = report.output / "file"
    made.write_text("x")
    subprocess.run(["rm", "-rf", report.output.parent], check=True)
    return made


@way
def replaces_its_output_folder_by_a_file(report: unstuck.Report) -> Any:
    report.output.rmdir()
    report.output.write_text("in the way")
    return report.output / "file"


@way
def makes_a_thousand_nested_folders(report: unstuck.Report) -> Any:
    os.chdir(report.output)
    for _ in range(1_200):
        os.mkdir("d")
        os.chdir("d")
    raise unstuck.Transient("again, please")


@way
def makes_its_folder_unreadable(report: unstuck.Report) -> Any:
    (report.output / "inner").mkdir(mode=0)
    report.output.chmod(0)
    return {}


# -- exceptions


class Wordless(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")

    __repr__ = __str__


@way
def raises_without_words(report: unstuck.Report) -> Any:
    raise Wordless


@way
def skips_without_words(report: unstuck.Report) -> Any:
    class WordlessSkip(unstuck.Skip):
        __str__ = Wordless.__str__

    raise WordlessSkip("x")


@way
def fails_with_an_object_as_code(report: unstuck.Report) -> Any:
    failure = unstuck.Failed("x", code="fine")
    failure.code = object()  # type: ignore[assignment]
    raise failure


@way
def fails_with_a_code_of_a_megabyte(report: unstuck.Report) -> Any:
    failure = unstuck.Failed("x", code="fine")
    failure.code = "\0x" * 2_000_000
    raise failure


@way
def raises_ten_megabytes(report: unstuck.Report) -> Any:
    raise ValueError("x" * 10_000_000)


@way
def raises_surrogates(report: unstuck.Report) -> Any:
    raise ValueError("\ud800\0\x1b]8;;")


@way
def raises_system_exit(report: unstuck.Report) -> Any:
    raise SystemExit(0)


@way
def raises_keyboard_interrupt(report: unstuck.Report) -> Any:
    raise KeyboardInterrupt


@way
def raises_generator_exit(report: unstuck.Report) -> Any:
    raise GeneratorExit


@way
def raises_a_cancellation(report: unstuck.Report) -> Any:
    raise asyncio.CancelledError


@way
def raises_cancelled_unasked(report: unstuck.Report) -> Any:
    raise unstuck.Cancelled


@way
def raises_a_cycle_of_causes(report: unstuck.Report) -> Any:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


@way
def raises_a_deep_group(report: unstuck.Report) -> Any:
    group: Exception = ValueError("x")
    for _ in range(5_000):
        group = ExceptionGroup("deep", [group])
    raise group


@way
def recurses(report: unstuck.Report) -> Any:
    return recurses(report)


@way
def raises_memory_error(report: unstuck.Report) -> Any:
    raise MemoryError


# -- ends of the process, and signals


@way
def exits_with_0(report: unstuck.Report) -> Any:
    os._exit(0)


@way
def exits_with_a_code_of_the_protocol(report: unstuck.Report) -> Any:
    os._exit(76)


@way
def aborts(report: unstuck.Report) -> Any:
    os.abort()


@way
def crashes(report: unstuck.Report) -> Any:
    ctypes.string_at(0)


@way
def kills_itself(report: unstuck.Report) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


@way
def kills_its_group(report: unstuck.Report) -> Any:
    os.killpg(0, signal.SIGTERM)
    time.sleep(60)


@way
def dies_of_a_real_time_signal(report: unstuck.Report) -> Any:
    os.kill(os.getpid(), signal.SIGRTMIN + 6)
    time.sleep(60)


@way
def stops_itself(report: unstuck.Report) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)


@way
def becomes_another_program(report: unstuck.Report) -> Any:
    os.execv("/bin/sleep", ["sleep", "60"])


@way
def blocks_all_signals(report: unstuck.Report) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    raise ValueError("blocked")


@way
def sets_an_alarm(report: unstuck.Report) -> Any:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    raise ValueError("an alarm is set")


# -- descriptors and pipes


@way
def closes_all_descriptors(report: unstuck.Report) -> Any:
    os.closerange(0, 256)
    return {}


@way
def closes_all_descriptors_and_waits(report: unstuck.Report) -> Any:
    os.closerange(0, 256)
    time.sleep(60)


@way
def points_all_descriptors_elsewhere(report: unstuck.Report) -> Any:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in pipes():
        os.dup2(nowhere, descriptor)
    return {}


@way
def makes_its_pipes_nonblocking(report: unstuck.Report) -> Any:
    for descriptor in pipes():
        os.set_blocking(descriptor, False)
    return {"it": "x" * 60_000}


@way
def opens_descriptors_without_end(report: unstuck.Report) -> Any:
    while True:
        os.dup(0)


@way
def writes_garbage(report: unstuck.Report) -> Any:
    forge(b"\xff\xfe garbage that is no message\n")
    time.sleep(60)


@way
def writes_deep_json(report: unstuck.Report) -> Any:
    forge(nested_json(980) + nested_json(9_990) + nested_json(100_000))
    time.sleep(60)


@way
def writes_a_line_without_end(report: unstuck.Report) -> Any:
    flood(b"\0" * 65_536)


@way
def writes_empty_lines_without_end(report: unstuck.Report) -> Any:
    flood(b"\n" * 65_536)


@way
def writes_messages_without_end(report: unstuck.Report) -> Any:
    flood(b'{"type":"progress","id":9999999}\n' * 1_000)


@way
def forges_a_hello(report: unstuck.Report) -> Any:
    forge(b'{"type":"hello","pid":1,"kinds":[]}\n')
    time.sleep(60)


@way
def forges_ends_of_others(report: unstuck.Report) -> Any:
    forge(b'{"type":"done","id":999999,"state":"succeeded"}\n{"type":"back","id":999999}\n')
    return {}


@way
def forges_a_file_with_nul(report: unstuck.Report) -> Any:
    forge_done(file="a\0b")


@way
def forges_a_file_outside(report: unstuck.Report) -> Any:
    forge_done(file="../../../../../../../../etc/shadow-that-is-missing")


@way
def forges_a_surrogate(report: unstuck.Report) -> Any:
    forge_done(message="\ud800")


@way
def forges_an_endless_code(report: unstuck.Report) -> Any:
    forge_done(state="failed", error={"code": "\0" * 1_000, "message": "x"})


@way
def forges_a_deep_result(report: unstuck.Report) -> Any:
    forge_done(result=nested(500))


# -- threads


@way
def leaves_a_thread_that_raises(report: unstuck.Report) -> Any:
    threading.Thread(target=lambda: 1 / 0).start()
    return {}


@way
def leaves_a_thread_that_reports(report: unstuck.Report) -> Any:
    def keep_reporting() -> None:
        with contextlib.suppress(unstuck.Cancelled):
            while True:
                report(0.5, message="still there")

    threading.Thread(target=keep_reporting).start()
    return {}


@way
def leaves_a_thread_that_waits(report: unstuck.Report) -> Any:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return {}


@way
def starts_threads_without_end(report: unstuck.Report) -> Any:
    while True:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()


@way
def reports_odd_things(report: unstuck.Report) -> Any:
    report(float("inf"), message="\ud800\0" * 10_000)
    report(1e400, -0.0001)
    report(float("nan"), float("nan"))
    report(complex(1, 2), 3)  # type: ignore[arg-type]
    time.sleep(0.3)


@way
def reports_without_end(report: unstuck.Report) -> Any:
    while True:
        report(0.5, message="x" * 10_000)


# -- processes


@way
def leaves_a_process(report: unstuck.Report) -> Any:
    subprocess.Popen(["sleep", "5"], start_new_session=True)  # lets go of the descriptors
    return {}


@way
def leaves_a_fork(report: unstuck.Report) -> Any:
    if os.fork() == 0:
        os.setsid()
        time.sleep(5)
        os._exit(0)
    raise ValueError("a fork holds every descriptor")


@way
def returns_twice(report: unstuck.Report) -> Any:
    if child := os.fork():
        os.waitpid(child, 0)
    return {"pid": child}


@way
def starts_100_processes(report: unstuck.Report) -> Any:
    for _ in range(100):
        subprocess.Popen(["sleep", "3"])
    return {}


# -- memory and time


@way
def takes_all_memory(report: unstuck.Report) -> Any:
    taken = []
    while True:
        taken.append(bytearray(16 * 1024 * 1024))


@way
def sleeps_beyond_its_limit(report: unstuck.Report) -> Any:
    time.sleep(60)


@way
def computes_beyond_its_limit(report: unstuck.Report) -> Any:
    while True:
        pass


@way
def holds_the_interpreter(report: unstuck.Report) -> Any:
    re.match(r"(a+)+$", "a" * 40 + "b")


@way
def ignores_every_stop(report: unstuck.Report) -> Any:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                report(0.5)


# -- what the next item finds


@way
def changes_the_folder_and_removes_it(report: unstuck.Report) -> Any:
    gone = report.output / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    return {}


@way
def sets_an_umask(report: unstuck.Report) -> Any:
    os.umask(0o777)
    return {}


@way
def lowers_the_recursion_limit(report: unstuck.Report) -> Any:
    raise _Lowered


class _Lowered(Exception):
    def __init__(self) -> None:
        sys.setrecursionlimit(60)


@way
def forbids_files(report: unstuck.Report) -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
    raise ValueError("no more files")


@way
def forbids_writing(report: unstuck.Report) -> Any:
    report.output.stat()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    time.sleep(0.02)
    return {}


@way
def replaces_the_streams(report: unstuck.Report) -> Any:
    sys.stdout.close()
    sys.stderr.close()
    sys.stdin.close()
    sys.stdout = sys.stderr = None
    raise ValueError("into the log, nevertheless")


@way
def prints_ten_megabytes(report: unstuck.Report) -> Any:
    for _ in range(100):
        print("\x1b[31m" + "x" * 100_000)


@way
def empties_the_environment(report: unstuck.Report) -> Any:
    os.environ.clear()
    return {}


@way
def traces_and_breaks_every_call(report: unstuck.Report) -> Any:
    def broken(*arguments: object) -> Any:
        raise OSError(errno.EIO, "traced")

    sys.settrace(broken)
    len(builtins.dir())
