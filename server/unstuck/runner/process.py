"""One worker process, seen from the runner: its start, its messages, its death and the cause of it.

Decides: what a process may say (hello once, then messages about items), and when it counts as dead.
Must not know: the store, jobs, which item it is at.
Read on: assignment.py (what it has been given), pipe_reader.py (how it is read), worker.py (the process itself).

The process has a session of its own, so that killing its group takes along all that user code started, and so
that Ctrl-C in the terminal does not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import cast

import msgspec

from unstuck.errors import CannotStart
from unstuck.runner import protocol
from unstuck.runner.pipe_reader import PipeReader
from unstuck.settings import without_secrets

log = logging.getLogger("unstuck.runner")

#: A worker that has not said hello by then never will (seconds). Imports of user code count.
HELLO_S = 60.0
#: A killed process is gone within this time (seconds).
GONE_S = 5.0


class WorkerDiedError(Exception):
    """The process ended without finishing its item; the message says how, for people."""


#: What a worker may say after its hello.
Message = protocol.Progress | protocol.Done | protocol.Returned


class WorkerProcess:
    """A worker that said hello. Made by `WorkerProcess.start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: PipeReader, hello: protocol.Hello, memory_mib: int
    ) -> None:
        self.kinds = hello.kinds
        self._process = process
        self._reader = reader
        self._memory_mib = memory_mib

    @classmethod
    async def start(cls, app: str, commands: Sequence[str], memory_mib: int) -> WorkerProcess:
        """Start a process and wait for its hello. Raises CannotStart if none comes or the kinds do not load."""
        arguments = ["--memory", str(memory_mib)]
        if app:
            arguments += ["--app", app]
        for command in commands:
            arguments += ["--command", command]
        reader, process = PipeReader(), None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "unstuck.runner.worker",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=reader.write_fd,
                start_new_session=True,
                env=without_secrets(),
            )
            reader.close_write_end()
            async with asyncio.timeout(HELLO_S):  # Python 3.11's wait_for can lose a cancel
                hello = await _first_message(reader)
            if isinstance(hello, protocol.LoadFailed):
                raise CannotStart(hello.message)
            if not isinstance(hello, protocol.Hello):
                raise CannotStart("A worker process ended before it was ready; what it printed says why.")
        except BaseException as error:
            reader.close()
            if process is not None:
                _kill_group(process)
            if isinstance(error, TimeoutError):
                raise CannotStart(f"A worker process was not ready within {HELLO_S:.0f} s.") from None
            raise
        return cls(process, reader, hello, memory_mib)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs, as far as the loop has heard."""
        return self._process.returncode is None

    def send(self, *messages: protocol.ToWorker) -> None:
        """Write these to the worker; of one that has died, `read_messages` says so."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(protocol.encode(*messages))

    async def read_messages(self) -> list[Message]:
        """The next messages, at least one. Raises WorkerDiedError when it is gone and all is read."""
        messages: list[Message] = []
        with contextlib.suppress(msgspec.DecodeError):  # what does not keep to the protocol is killed
            messages = _about_items(await self._reader.read_messages())
        if not messages:
            self.kill()
            raise WorkerDiedError(await self._cause())
        return messages

    def kill(self) -> None:
        """Kill the process and all that it started."""
        _kill_group(self._process)

    async def terminate(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        self._reader.close()
        # Not for ever: what user code forked into another session may hold the other pipe open.
        try:
            async with asyncio.timeout(GONE_S):
                await self._process.communicate()
        except TimeoutError:
            log.error("worker %d is killed, but something that it started still holds its pipe", self.pid)

    async def _cause(self) -> str:
        code = await self._process.wait()
        _kill_group(self._process)  # and all that it had started
        if code == protocol.WORKER_OUT_OF_MEMORY:
            return (
                f"The worker process ran out of memory; it may use {self._memory_mib} MiB "
                "(setting worker_memory_mib)."
            )
        if code == -signal.SIGKILL:
            return "The worker process was killed, probably because the machine ran out of memory."
        if code < 0:
            return f"The worker process crashed ({signal.Signals(-code).name})."
        return f"The worker process ended in the middle of the work, with exit code {code}."


def _about_items(messages: list[protocol.ToRunner]) -> list[Message]:
    for message in messages:
        if not isinstance(message, Message):
            raise msgspec.DecodeError("a worker says hello once")
    return cast(list[Message], messages)


async def _first_message(reader: PipeReader) -> protocol.ToRunner | None:
    """The first message; None if the process is gone or does not keep to the protocol."""
    try:
        return next(iter(await reader.read_messages()), None)
    except msgspec.DecodeError:
        return None


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
