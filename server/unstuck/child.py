"""One worker process, seen from the runner: start it, give it items, stop or kill it, say how it died.

The process has a session of its own, so that killing its group takes along whatever user code started, and
so that Ctrl-C in the terminal does not reach it. Knows no store and no job; the messages are pipe.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

import msgspec

from unstuck import pipe
from unstuck.errors import CannotStart
from unstuck.settings import without_secrets

log = logging.getLogger("unstuck.runner")

#: A worker that has not said hello by then never will (seconds). Imports of user code count.
HELLO_S = 60.0
#: What was killed is gone within this time (seconds).
GONE_S = 5.0


class WorkerDiedError(Exception):
    """The process ended without finishing its item; the message says how, for people."""


class Child:
    """A worker that said hello. Made by `Child.start`."""

    def __init__(self, process: asyncio.subprocess.Process, hello: pipe.Hello, memory_mib: int) -> None:
        self.kinds = hello.kinds
        self._process = process
        self._memory_mib = memory_mib
        self._running: int | None = None

    @classmethod
    async def start(cls, app: str, commands: Sequence[str], memory_mib: int) -> Child:
        """Start a process and wait for its hello. CannotStart: it does not come, or the kinds do not load."""
        arguments = ["--memory", str(memory_mib)]
        if app:
            arguments += ["--app", app]
        for command in commands:
            arguments += ["--command", command]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "unstuck.worker",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=pipe.LINE_LIMIT,
            start_new_session=True,
            env=without_secrets(),
        )
        try:
            hello = await asyncio.wait_for(_read(process), HELLO_S)
            if isinstance(hello, pipe.LoadFailed):
                raise CannotStart(hello.message)
            if not isinstance(hello, pipe.Hello):
                raise CannotStart("A worker process ended before it was ready; what it printed says why.")
        except BaseException as error:
            _kill_group(process)
            if isinstance(error, TimeoutError):
                raise CannotStart(f"A worker process was not ready within {HELLO_S:.0f} s.") from None
            raise
        return cls(process, hello, memory_mib)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process has not ended, as far as the loop has heard."""
        return self._process.returncode is None

    async def work(self, run: pipe.Run, progressed: Callable[[pipe.Progress], None]) -> pipe.Done:
        """Have an item worked on; WorkerDiedError if the process did not survive it."""
        assert self._process.stdin is not None
        self._running = run.id
        try:
            self._process.stdin.write(pipe.line(run))
            while True:
                message = await _read(self._process)
                if isinstance(message, pipe.Done) and message.id == run.id:
                    return message
                if isinstance(message, pipe.Progress) and message.id == run.id:
                    progressed(message)
                elif message is None:
                    raise WorkerDiedError(await self._cause())
        finally:
            self._running = None

    def stop(self, run_id: int, grace_s: float) -> None:
        """Ask the item to stop; kill the process if it has not within `grace_s`."""
        if self._running != run_id or self._process.stdin is None:
            return
        self._process.stdin.write(pipe.line(pipe.Stop(id=run_id)))
        asyncio.get_running_loop().call_later(grace_s, self.kill_if_running, run_id)

    def kill_if_running(self, run_id: int) -> None:
        """End the process if it is still at this item."""
        if self._running == run_id:
            self.kill()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        _kill_group(self._process)

    async def end(self) -> None:
        """Kill, and wait until it is gone."""
        self.kill()
        # Not wait(): on Python 3.11 that would last for ever if output is left that nobody reads. And not for
        # ever: what user code forked and hid in another session may hold the pipe open.
        try:
            await asyncio.wait_for(self._process.communicate(), GONE_S)
        except TimeoutError:
            log.error("worker %d is killed, but something that it started still holds its pipe", self.pid)

    async def _cause(self) -> str:
        code = await self._process.wait()
        _kill_group(self._process)  # what it had started
        if code == pipe.WORKER_OUT_OF_MEMORY:
            return (
                f"The worker process ran out of memory; it may use {self._memory_mib} MiB "
                "(setting worker_memory_mib)."
            )
        if code == -signal.SIGKILL:
            return "The worker process was killed, probably because the machine ran out of memory."
        if code < 0:
            return f"The worker process crashed ({signal.Signals(-code).name})."
        return f"The worker process ended in the middle of the work, with exit code {code}."


async def _read(process: asyncio.subprocess.Process) -> pipe.ToRunner | None:
    """The next message, or None when the process is gone or does not keep to the protocol."""
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        return pipe.read_by_runner(line) if line else None
    except (ValueError, msgspec.DecodeError):
        _kill_group(process)
        return None


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
