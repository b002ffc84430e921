"""A real worker process, and messages to and from it over its pipes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE_S
from unstuck.runner import protocol


class Talk:
    """A worker process as a runner uses it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, outputs: Path) -> None:
        self.process = process
        self.outputs = outputs
        self._log = log
        self.reports: list[protocol.Progress] = []

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "backslashreplace")

    def output(self, run_id: int) -> Path:
        return self.outputs / str(run_id)

    async def send(self, *messages: protocol.ToWorker) -> None:
        await self.write(protocol.encode(*messages))

    async def write(self, lines: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(lines)
        await self.process.stdin.drain()

    async def run(self, name: str, kind: str = "behave", id: int = 1, **fields: Any) -> None:
        await self.send(protocol.Run(id=id, kind=kind, name=name, output=str(self.output(id)), **fields))

    async def receive(self) -> protocol.ToRunner | None:
        """Return the next message, or None at the end of the stream."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        return protocol.decode_for_runner(line)[0] if line else None

    async def done(self, id: int = 1) -> protocol.Done:
        """Wait for the end of this run and return it; keep the progress before it in `reports`."""
        while True:
            message = await self.receive()
            assert isinstance(message, (protocol.Progress, protocol.Done)), message
            assert message.id == id
            if isinstance(message, protocol.Done):
                return message
            self.reports.append(message)

    async def outcome(self, name: str, kind: str = "behave", **fields: Any) -> protocol.Done:
        await self.run(name, kind, **fields)
        return await self.done(fields.get("id", 1))

    async def progress(self) -> protocol.Progress:
        message = await self.receive()
        assert isinstance(message, protocol.Progress), message
        return message

    async def lives(self) -> None:
        """Check that the worker completes one more run."""
        done = await self.outcome("return", id=99)
        assert done.state == "succeeded", done

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


def load_of(arguments: Sequence[str]) -> protocol.Load:
    """Return the message that loads what these say: `--app APP`, `--command NAME=LINE` …, `--memory MIB`."""
    options = list(zip(arguments[::2], arguments[1::2], strict=True))
    return protocol.Load(
        app=dict(options).get("--app", ""),
        commands=tuple(line for option, line in options if option == "--command"),
        memory_mib=int(dict(options).get("--memory", 0)),
    )


Start = Callable[..., Awaitable[Talk]]
