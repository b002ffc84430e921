"""Runs the code of kinds on one item after another, in a child process of the runner.

Must not know: the server, jobs, leases.
See also: protocol.py (the messages), process.py (the runner's side), kinds/report.py (user code's side),
kind_result.py and item_error.py (how an item ends).

    python -m unstuck.runner.worker        what to load is the first message

It keeps user code away from the protocol, and turns its end, whatever that is, into one `done`. User code runs in
the main thread, where signals and most libraries expect it. One thread reads messages, so that a stop takes effect
while the code works; another forwards the reports that were held back. The process has its own session. When the
runner is gone it kills its process group, so that nothing started here continues unattended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec

from unstuck.files.erase import empty
from unstuck.kinds import (
    Cancelled,
    Failed,
    Kind,
    LoadError,
    Report,
    Skip,
    Transient,
    check_options,
    load,
)
from unstuck.kinds.report import REPORT_INTERVAL
from unstuck.runner import protocol, worker_log
from unstuck.runner.item_error import error_of, for_people, is_unexpected, text_of
from unstuck.runner.kind_result import done_of
from unstuck.runner.process_state import ProcessState
from unstuck.runner.worker_log import log_exception, log_failure

#: A report this early in an item waits, up to REPORT_INTERVAL: usually the item ends first (seconds).
SHORT_S = 0.01
#: Size of a read: the usual capacity of a pipe (bytes).
READ_BYTES = 65_536


def main() -> NoReturn:
    channel = Channel()
    _or_end(lambda: _serve(channel))


def _serve(channel: Channel) -> None:
    received = channel.received()
    messages = next(received, None)
    if messages is None:
        return  # the runner is gone
    wanted, *early = messages
    if not isinstance(wanted, protocol.Load):
        raise protocol.MalformedMessageError("the first message must say what to load")
    _set_up(wanted.memory_mib)
    try:
        kinds = load(wanted.app, wanted.commands)
        channel.send(_hello(kinds))
    except LoadError as error:
        if error.__cause__:
            log_exception("Kinds could not be loaded", error.__cause__, app=wanted.app)
        channel.send(protocol.LoadFailed(message=protocol.fit_text(str(error), protocol.ERROR_LIMIT)))
        os._exit(protocol.WORKER_LOAD_FAILED)  # not sys.exit(), which waits for threads of the user's module
    Worker(channel, itertools.chain([early], received), kinds).work()


def _hello(kinds: dict[str, Kind]) -> protocol.Hello:
    hello = protocol.Hello(pid=os.getpid(), kinds=tuple(kind.info for kind in kinds.values()))
    if len(protocol.encode(hello)) > protocol.LINE_LIMIT:
        raise LoadError(f"the descriptions of the kinds exceed {protocol.LINE_LIMIT} bytes: shorten them")
    return hello


class Channel:
    """Both directions of the protocol, on descriptors that user code does not use.

    Creating one empties descriptor 0 and points 1 at the log: a print() in user code cannot corrupt the protocol.
    """

    def __init__(self) -> None:
        _close_copies()
        self._in, self._out = os.dup(0), os.dup(1)  # not inheritable: commands do not get them
        self._sending = threading.Lock()
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        os.dup2(2, 1)
        # A process forked by user code would keep them open, and the runner would not see this one end.
        os.register_at_fork(after_in_child=self._close)

    def received(self) -> Iterator[list[protocol.ToWorker]]:
        """Yield the runner's messages as they come, until the runner is gone."""
        unread = b""
        while data := os.read(self._in, READ_BYTES):
            # If the last line has no end, the runner died while writing it.
            lines, end, unread = (unread + data).rpartition(b"\n")
            if end:
                yield protocol.decode_for_worker(lines)

    def send(self, message: protocol.ToRunner) -> None:
        try:
            with self._sending:
                rest = protocol.encode(message)
                while rest:
                    rest = rest[os.write(self._out, rest) :]
        except BrokenPipeError:
            _end()

    def _close(self) -> None:
        os.close(self._in)
        os.close(self._out)
        self._in = self._out = -1


def _close_copies() -> None:
    """Close further copies of the pipes, which uvloop leaves behind and which other programs would inherit."""
    pipes = [os.fstat(descriptor) for descriptor in (0, 1)]
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
            if int(name) > 2 and any(os.path.samestat(os.fstat(int(name)), pipe) for pipe in pipes):
                os.close(int(name))


class Worker:
    """Works on runs in the order in which they arrive."""

    def __init__(
        self, channel: Channel, received: Iterator[list[protocol.ToWorker]], kinds: dict[str, Kind]
    ) -> None:
        self._channel, self._received, self._kinds = channel, received, kinds
        self._order: queue.SimpleQueue[int] = queue.SimpleQueue()
        #: The thread that removes a run from here owns it: one works on it, the other returns it.
        self._waiting: dict[int, tuple[protocol.Run, Report]] = {}
        self._reports: dict[int, Report] = {}  # of the runs that are not done, so that they can be stopped
        self._busy = threading.Event()
        self._current: Report | None = None

    def work(self) -> NoReturn:
        for loop in (self._listen, self._forward):
            threading.Thread(target=_or_end, args=(loop,), name=f"unstuck {loop.__name__}", daemon=True).start()
        state = ProcessState()
        while True:
            if self._order.empty():  # not after each item: an Event costs 2 µs to set and clear
                self._busy.clear()
            waiting = self._waiting.pop(self._order.get(), None)
            if waiting is None:
                continue
            run, report = waiting
            self._current = report
            if not self._busy.is_set():
                self._busy.set()
            report.hush(SHORT_S)
            began = time.monotonic()
            done = attempt(self._kinds, run, report)
            report.close()
            del self._reports[run.id]
            quick = done.state == "succeeded" and time.monotonic() - began < SHORT_S
            unchanged = state.restore_usual() if quick else state.restore()
            # Sent at once, not together with the next ones: those may kill this process.
            self._send_done(done if unchanged else _last(done))
            if not unchanged:
                os._exit(0)

    def _send_done(self, done: protocol.Done) -> None:
        try:
            self._channel.send(done)
        except (TypeError, ValueError, RecursionError) as error:  # of the encoder: nothing was sent
            self._channel.send(_failed(done.id, "bad_result", f"the item's end cannot be sent: {text_of(error)}"))

    def _listen(self) -> None:
        for messages in self._received:
            for message in messages:
                self._handle(message)

    def _handle(self, message: protocol.ToWorker) -> None:
        if isinstance(message, protocol.Run):
            send = partial(self._send_progress, message)
            report = Report(message.name, message.output, message.attempt, send, prepare=_prepare)
            self._reports[message.id] = report
            self._waiting[message.id] = (message, report)
            self._order.put(message.id)
        elif isinstance(message, protocol.Recall):
            if self._waiting.pop(message.id, None):
                del self._reports[message.id]
                self._channel.send(protocol.Returned(id=message.id))
        elif isinstance(message, protocol.Stop):
            if running := self._reports.get(message.id):
                running.cancel()
        else:
            raise protocol.MalformedMessageError("a worker loads once")

    def _forward(self) -> None:
        while self._busy.wait():
            time.sleep(REPORT_INTERVAL)
            if self._current:
                self._current.pass_on()

    def _send_progress(self, run: protocol.Run, fraction: float | None, message: str | None) -> None:
        text = None if message is None else for_people(message, run, protocol.MESSAGE_LIMIT)
        self._channel.send(protocol.Progress(id=run.id, fraction=fraction, message=text))


def attempt(kinds: dict[str, Kind], run: protocol.Run, report: Report) -> protocol.Done:
    """Run the kind's code on one item, and return its outcome however it ends. Raises only MemoryError."""
    try:
        return _attempt(kinds, run, report)
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 (an exception of the kind's own may break while it is described)
        log_exception("Item failed with an exception that cannot be described", error, kind=run.kind)
        return _failed(run.id, "exception", "what the code raised cannot be described; the log has more")


def _attempt(kinds: dict[str, Kind], run: protocol.Run, report: Report) -> protocol.Done:
    kind = kinds.get(run.kind)
    try:
        if report.cancelled:
            raise Cancelled
        kind = _fit(kind, run)
        options = check_options(kind.info, run.options)
        returned = kind.work(Path(run.input) if run.input is not None else None, report, **options)
        return done_of(run.id, returned, report)
    except MemoryError:
        raise
    except Skip as reason:
        message = for_people(str(reason), run, protocol.MESSAGE_LIMIT)
        return protocol.Done(id=run.id, state="skipped", message=message)
    except BaseException as error:  # noqa: BLE001 (sys.exit() in user code must not end the worker)
        if report.cancelled:
            if not isinstance(error, Cancelled):
                log_failure(run, error)
            return protocol.Done(id=run.id, state="cancelled")
        if is_unexpected(error):
            log_failure(run, error)
        return protocol.Done(id=run.id, state="failed", error=error_of(run, kind, error))


def _failed(run_id: int, code: str, text: str) -> protocol.Done:
    message = protocol.fit_text(text, protocol.MESSAGE_LIMIT)
    return protocol.Done(id=run_id, state="failed", error=protocol.ItemError(code=code, message=message))


def _last(done: protocol.Done) -> protocol.Done:
    """Mark the last end. A failure gets another attempt, since an earlier item may have changed the process."""
    error = done.error and msgspec.structs.replace(done.error, transient=True)
    return msgspec.structs.replace(done, error=error, last=True)


def _fit(kind: Kind | None, run: protocol.Run) -> Kind:
    if kind is None:
        raise Failed(f"this worker has no kind {run.kind!r}: was it removed?", code="unknown_kind")
    if run.input is None and kind.info.needs_file:
        raise Failed(f"{run.kind} works on files, and this item has none", code="file_missing")
    return kind


def _prepare(output: Path) -> None:
    """Create the folder for results, or remove what an earlier attempt left in it."""
    try:
        try:
            output.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:  # the first of the job that writes a file
            for folder in (*reversed(output.parents[:3]), output):
                folder.mkdir(mode=0o700, exist_ok=True)
        empty(output)
    except OSError as error:
        raise Transient(f"the folder for results cannot be used: {error}", code="output_unusable") from error


def _set_up(memory_mib: int) -> None:
    """Set the limits, signals and streams that user code starts with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the server, which ends its workers
    # A crash in C code leaves its traceback in the log, even while code has pointed descriptor 2 elsewhere.
    faulthandler.enable(os.dup(2))
    worker_log.set_up()
    # A line reaches the log as soon as it is printed, whatever its characters, even if the process is killed next.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    _limit(resource.RLIMIT_CORE, 0)
    if memory_mib > 0:
        # DATA counts memory that is written to. AS also counts reserved and mapped addresses, of which libraries
        # with threads take gigabytes without using them.
        _limit(getattr(resource, "RLIMIT_DATA", resource.RLIMIT_AS), memory_mib * 1024 * 1024)


def _limit(what: int, amount: int) -> None:
    """Set a limit, where the system has it; macOS refuses those of memory."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (amount, amount))


def _or_end(loop: Callable[[], object]) -> NoReturn:
    """Run a loop that the worker cannot do without, and exit when it ends."""
    try:
        loop()
    except MemoryError:
        # Do nothing that needs memory; the exit code is the answer.
        os._exit(protocol.WORKER_OUT_OF_MEMORY)
    except protocol.MalformedMessageError as error:
        log_exception("Line from the runner is not a message", error)
        os._exit(protocol.WORKER_MISUNDERSTOOD)
    except BaseException as error:  # noqa: BLE001 (it is logged, and the process ends)
        log_exception("Worker failed outside of user code", error)
        os._exit(protocol.WORKER_BROKE)  # the runner then kills everything that user code started
    _end()


def _end() -> NoReturn:
    """Exit now, and kill everything that user code started in this process group."""
    if os.getpgrp() == os.getpid():  # else it was started by hand, and the group is a shell's
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
