"""Starts, reads and kills one worker process, and decides when it counts as dead and why.

Must not know: the store, jobs, or which item the process is working on.
See also: assignment.py (the items it was given), pipe_reader.py (how it is read), worker.py (the process itself).

A process says hello once, then sends messages about items; anything else violates the protocol. It has its own
session, so that killing its group also kills everything that user code started, and Ctrl-C in the terminal does
not reach it.
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

from unstuck.errors import CannotStart
from unstuck.runner import protocol
from unstuck.runner.pipe_reader import PipeReader
from unstuck.settings import without_secrets

log = logging.getLogger("unstuck.runner")

#: Time for a worker to say hello, imports of user code included (seconds).
HELLO_S = 60.0
#: Time for a killed process to disappear (seconds).
GONE_S = 5.0
#: Time for a process that has closed its pipe to exit by itself (seconds).
EXIT_S = 1.0


class WorkerDiedError(Exception):
    """The process ended without finishing its item; the message says how, for people."""


#: The messages that a worker may send after its hello.
Message = protocol.Progress | protocol.Done | protocol.Returned


class WorkerProcess:
    """A worker process that has said hello. Made by `WorkerProcess.start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: PipeReader, hello: protocol.Hello, memory_mib: int
    ) -> None:
        self.kinds = hello.kinds
        self._process = process
        self._reader = reader
        self._memory_mib = memory_mib
        self._killed_because: str | None = None

    @classmethod
    async def start(cls, app: str, commands: Sequence[str], memory_mib: int) -> WorkerProcess:
        """Start a process and wait for its hello. Raises CannotStart if none comes or the kinds do not load."""
        load = protocol.Load(app=app, commands=tuple(commands), memory_mib=memory_mib)
        reader, process = PipeReader(), None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "unstuck.runner.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=reader.write_fd,
                start_new_session=True,
                env=without_secrets(),
            )
            reader.close_write_end()
            assert process.stdin is not None
            process.stdin.write(protocol.encode(load))
            async with asyncio.timeout(HELLO_S):  # Python 3.11's wait_for can lose a cancellation
                hello = await _first_message(reader)
            if isinstance(hello, protocol.LoadFailed):
                raise CannotStart(hello.message)
            if not isinstance(hello, protocol.Hello):
                raise CannotStart("A worker process ended before it was ready; its output says why.")
        except BaseException as error:
            reader.close()
            if process is not None:
                _kill_group(process)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GONE_S):
                        await process.communicate()  # else the loop may close before the process is reaped
            if isinstance(error, TimeoutError):
                raise CannotStart(f"A worker process was not ready within {HELLO_S:.0f} s.") from None
            raise
        return cls(process, reader, hello, memory_mib)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether the process still runs, as far as the event loop knows."""
        return self._process.returncode is None

    def send(self, *messages: protocol.ToWorker) -> None:
        """Send these to the worker. If it has died, the next `read_messages` raises."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(protocol.encode(*messages))

    async def read_messages(self) -> list[Message]:
        """Return the next messages, at least one. Raises WorkerDiedError once it is gone and all are read."""
        try:
            messages = _about_items(await self._reader.read_messages())
        except protocol.MalformedMessageError as error:
            self.kill(f"what it sent is not a message ({_shortened(error)})")
            messages = []
        if not messages:
            raise WorkerDiedError(await self._cause())
        return messages

    def kill(self, why: str) -> None:
        """Kill the process and everything that it started. `why` is for people: "…, because `why`"."""
        if self.alive and self._killed_because is None:
            self._killed_because = why
        _kill_group(self._process)

    async def terminate(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.kill("it is no longer needed")
        self._reader.close()
        # Not forever: a process that user code started in another session may hold the other pipe open.
        try:
            async with asyncio.timeout(GONE_S):
                await self._process.communicate()
        except TimeoutError:
            log.error(
                "Worker killed, but a process that it started keeps its pipe open; kill that too: worker=%d",
                self.pid,
            )

    async def _cause(self) -> str:
        try:
            async with asyncio.timeout(EXIT_S):
                await self._process.wait()
        except TimeoutError:
            self.kill("it closed its pipe but did not exit")
        code = await self._process.wait()
        _kill_group(self._process)  # with everything that it started
        if code == protocol.WORKER_OUT_OF_MEMORY:
            return (
                f"The worker process ran out of memory; it may use {self._memory_mib} MiB "
                "(setting worker_memory_mib)."
            )
        if code == protocol.WORKER_BROKE:
            return "The worker process failed outside of the kind's code; the log says why."
        if code == -signal.SIGKILL and self._killed_because is not None:
            return f"The server killed the worker process, because {self._killed_because}."
        if code == -signal.SIGKILL:
            return "The worker process was killed from outside, probably because the machine ran out of memory."
        if code < 0:
            return f"The worker process crashed ({_signal_name(-code)})."
        return f"The worker process ended in the middle of the work, with exit code {code}."


def _about_items(messages: list[protocol.ToRunner]) -> list[Message]:
    for message in messages:
        if not isinstance(message, Message):
            raise protocol.MalformedMessageError("a worker says hello once")
    return cast(list[Message], messages)


async def _first_message(reader: PipeReader) -> protocol.ToRunner | None:
    """Return the first message, or None if the process is gone or violates the protocol."""
    try:
        return next(iter(await reader.read_messages()), None)
    except protocol.MalformedMessageError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _shortened(error: Exception) -> str:
    return protocol.fit_text(str(error), protocol.MESSAGE_LIMIT // 2)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
