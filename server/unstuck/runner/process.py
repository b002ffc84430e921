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
from collections.abc import Sequence

import msgspec

from unstuck.errors import CannotStart
from unstuck.runner import protocol as pipe
from unstuck.runner.pipe_reader import PipeReader
from unstuck.settings import without_secrets

log = logging.getLogger("unstuck.runner")

#: A worker that has not said hello by then never will (seconds). Imports of user code count.
HELLO_S = 60.0
#: What was killed is gone within this time (seconds).
GONE_S = 5.0


class WorkerDiedError(Exception):
    """The process ended without finishing its item; the message says how, for people."""


#: Of what a worker that said hello may say.
Message = pipe.Progress | pipe.Done | pipe.Returned


class WorkerProcess:
    """A worker that said hello. Made by `Child.start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, voice: PipeReader, hello: pipe.Hello, memory_mib: int
    ) -> None:
        self.kinds = hello.kinds
        self._process = process
        self._reader = voice
        self._memory_mib = memory_mib
        self._runs: dict[int, None] = {}  # what it has not answered, in the order in which it works on it

    @classmethod
    async def start(cls, app: str, commands: Sequence[str], memory_mib: int) -> WorkerProcess:
        """Start a process and wait for its hello. CannotStart: it does not come, or the kinds do not load."""
        arguments = ["--memory", str(memory_mib)]
        if app:
            arguments += ["--app", app]
        for command in commands:
            arguments += ["--command", command]
        voice, process = PipeReader(), None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "unstuck.runner.worker",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=voice.write_fd,
                start_new_session=True,
                env=without_secrets(),
            )
            voice.close_write_end()
            hello = await asyncio.wait_for(_first_message(voice), HELLO_S)
            if isinstance(hello, pipe.LoadFailed):
                raise CannotStart(hello.message)
            if not isinstance(hello, pipe.Hello):
                raise CannotStart("A worker process ended before it was ready; what it printed says why.")
        except BaseException as error:
            voice.close()
            if process is not None:
                _kill_group(process)
            if isinstance(error, TimeoutError):
                raise CannotStart(f"A worker process was not ready within {HELLO_S:.0f} s.") from None
            raise
        return cls(process, voice, hello, memory_mib)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process has not ended, as far as the loop has heard."""
        return self._process.returncode is None

    def send_runs(self, runs: Sequence[pipe.Run]) -> None:
        """Have these worked on, one after the other, after what it was given before."""
        assert self._process.stdin is not None
        self._runs.update(dict.fromkeys(run.id for run in runs))
        self._process.stdin.write(pipe.encode(*runs))

    async def read_messages(self) -> list[Message]:
        """What it says next, at least one message; WorkerDiedError when it is gone and all is said."""
        try:
            said = self._expected(await self._reader.read_messages())
        except msgspec.DecodeError:
            said = []
        if not said:
            self.kill()
            self._runs.clear()
            raise WorkerDiedError(await self._cause())
        return said

    def _expected(self, messages: list[pipe.ToRunner]) -> list[Message]:
        said: list[Message] = []
        for message in messages:
            if not isinstance(message, Message):
                raise msgspec.DecodeError("a worker says hello once")
            if not isinstance(message, pipe.Progress):
                self._runs.pop(message.id, None)
            said.append(message)
        return said

    def recall(self, run_id: int) -> None:
        """Ask for this item back, if it has not begun."""
        if run_id in self._runs and self._process.stdin is not None:
            self._process.stdin.write(pipe.encode(pipe.Recall(id=run_id)))

    def stop(self, run_id: int, grace_s: float) -> None:
        """Ask for the item back, or to stop; kill the process if it has not stopped within `grace_s`."""
        if run_id not in self._runs or self._process.stdin is None:
            return
        self._process.stdin.write(pipe.encode(pipe.Recall(id=run_id), pipe.Stop(id=run_id)))
        asyncio.get_running_loop().call_later(grace_s, self.kill_if_running, run_id)

    def kill_if_running(self, run_id: int) -> None:
        """End the process if it is still at this item."""
        if next(iter(self._runs), None) == run_id:
            self.kill()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        _kill_group(self._process)

    async def terminate(self) -> None:
        """Kill, and wait until it is gone."""
        self.kill()
        self._reader.close()
        # Not for ever: what user code forked and hid in another session may hold the other pipe open.
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


async def _first_message(voice: PipeReader) -> pipe.ToRunner | None:
    """The first message, or None when the process is gone or does not keep to the protocol."""
    try:
        return next(iter(await voice.read_messages()), None)
    except msgspec.DecodeError:
        return None


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
