"""Reads a worker's messages from its pipe, on demand instead of on every wake-up.

Must not know: processes, items.
See also: protocol.py (the messages), process.py (the only caller).

It decides when the pipe is read, how much at once, and when a line is too long. While the runner is busy, short
items may send a hundred ends. Each of them would wake a StreamReader and its task; here they wait in the pipe and
cost one read.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

import msgspec

from unstuck.runner import protocol

#: The pipe's capacity, and the size of a read (bytes). A worker that has filled the pipe waits until it is read.
#: With the usual 64 KiB, results of 20 KB took 0.9 ms each instead of 0.2.
CAPACITY = 1024 * 1024


class PipeReader:
    """The runner's end of a pipe. `write_fd` is the child's: call `close_write_end()` after it was inherited."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()  # inherited only by a child that it is passed to
        os.set_blocking(self._read_fd, False)
        with contextlib.suppress(OSError, AttributeError):  # not on every system, not for every user
            fcntl.fcntl(self._read_fd, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._buffer = memoryview(bytearray(CAPACITY))  # os.read would spend 20 µs on allocating as much
        self._unread = b""

    async def read_messages(self) -> list[protocol.ToRunner]:
        """Return all messages that are there, waiting for the first; none at the end of the pipe.

        Raises msgspec.DecodeError if a line is not a message.
        """
        while data := await self._read():
            lines, end, self._unread = (self._unread + data).rpartition(b"\n")
            if end and (messages := protocol.decode_for_runner(lines)):
                return messages
            if len(self._unread) > protocol.LINE_LIMIT:
                raise msgspec.DecodeError("a line without an end")
        return []

    def close(self) -> None:
        """Close both ends. Further calls do nothing."""
        for descriptor in (self._read_fd, self.write_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._read_fd = self.write_fd = -1

    def close_write_end(self) -> None:
        """Leave the write end to the child alone, so that its death ends the pipe."""
        os.close(self.write_fd)
        self.write_fd = -1

    async def _read(self) -> bytes:
        while True:
            try:
                return bytes(self._buffer[: os.readv(self._read_fd, [self._buffer])])
            except BlockingIOError:
                await self._wait_readable()

    async def _wait_readable(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._read_fd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._read_fd)
