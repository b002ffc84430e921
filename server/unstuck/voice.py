"""What a worker says, as its runner hears it: it lies in the pipe until somebody listens.

Decides when the pipe is looked at: when it is asked for, and not before. A stream reader is woken by each of the
hundred ends that short items have while the runner is busy, and so is whoever sleeps beside it; here they cost
one read. Knows pipe.py's messages; no process.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from unstuck import pipe


class Voice:
    """The runner's end of a pipe, whose other end is `mouth`; whoever gave that away closes it here."""

    def __init__(self) -> None:
        self._pipe, self.mouth = os.pipe()  # neither is inherited, but by whom it is given to
        os.set_blocking(self._pipe, False)
        self._unread = b""

    async def hear(self) -> list[pipe.ToRunner]:
        """All that was said, at least one message; none when nothing more will be.
        Raises msgspec.DecodeError where something is no message."""
        while heard := await self._read():
            lines, end, self._unread = (self._unread + heard).rpartition(b"\n")
            if end and (said := pipe.read_by_runner(lines)):
                return said
            if len(self._unread) > pipe.LINE_LIMIT:
                raise msgspec.DecodeError("a line without an end")
        return []

    def close(self) -> None:
        """Hear nothing more. May be called again."""
        for descriptor in (self._pipe, self.mouth):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipe = self.mouth = -1

    def close_mouth(self) -> None:
        """The worker has it, and is to be the only one."""
        os.close(self.mouth)
        self.mouth = -1

    async def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._pipe, pipe.READ)
            except BlockingIOError:
                await self._something()

    async def _something(self) -> None:
        """Until there is something to read."""
        loop, something = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pipe, something.set)
        try:
            await something.wait()
        finally:
            loop.remove_reader(self._pipe)
