"""What a worker says, as its runner hears it: it lies in the pipe until somebody listens.

Decides when the pipe is looked at: when it is asked for, and not before. A stream reader is woken by each of the
hundred ends that short items have while the runner is busy, and so is whoever sleeps beside it; here they cost
one read. Knows pipe.py's messages; no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

import msgspec

from unstuck.runner import protocol as pipe

#: What the pipe shall hold, and what is read at once (bytes): a worker that has filled it waits until it is
#: listened to. With the usual 64 KiB, results of 20 KB took 0.9 ms each instead of 0.2.
ROOM = 1024 * 1024


class PipeReader:
    """The runner's end of a pipe, whose other end is `mouth`; whoever gave that away closes it here."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()  # neither is inherited, but by whom it is given to
        os.set_blocking(self._read_fd, False)
        with contextlib.suppress(OSError, AttributeError):  # not on every system, not for everybody
            fcntl.fcntl(self._read_fd, fcntl.F_SETPIPE_SZ, ROOM)
        self._buffer = memoryview(bytearray(ROOM))  # os.read would take 20 µs each time to get as much memory
        self._unread = b""

    async def read_messages(self) -> list[pipe.ToRunner]:
        """All that was said, at least one message; none when nothing more will be.
        Raises msgspec.DecodeError where something is no message."""
        while heard := await self._read():
            lines, end, self._unread = (self._unread + heard).rpartition(b"\n")
            if end and (said := pipe.decode_for_runner(lines)):
                return said
            if len(self._unread) > pipe.LINE_LIMIT:
                raise msgspec.DecodeError("a line without an end")
        return []

    def close(self) -> None:
        """Hear nothing more. May be called again."""
        for descriptor in (self._read_fd, self.write_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._read_fd = self.write_fd = -1

    def close_write_end(self) -> None:
        """The worker has it, and is to be the only one."""
        os.close(self.write_fd)
        self.write_fd = -1

    async def _read(self) -> bytes:
        while True:
            try:
                return bytes(self._buffer[: os.readv(self._read_fd, [self._buffer])])
            except BlockingIOError:
                await self._wait_readable()

    async def _wait_readable(self) -> None:
        """Until there is something to read."""
        loop, something = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._read_fd, something.set)
        try:
            await something.wait()
        finally:
            loop.remove_reader(self._read_fd)
