"""Reads a worker's messages from its pipe, on demand instead of on every wake-up.

Must not know: processes, items.
See also: protocol.py (the messages), process.py (the only caller).

It decides when the pipe is read, how much at once, and when a line is too long. While the runner is busy, short
items may send a hundred ends. Each of them would wake a StreamReader and its task; here they wait in the pipe and
cost one read.

User code may find the descriptor and write whatever it likes. That must neither hold the event loop nor grow the
buffer, so a reader that never has to wait yields after each read. Messages before a malformed line count.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

from unstuck.runner import protocol

#: The pipe's capacity, and the size of a read (bytes). A worker that has filled the pipe waits until it is read.
#: With the usual 64 KiB, results of 20 KB took 0.9 ms each instead of 0.2.
CAPACITY = 1024 * 1024


class PipeReader:
    """The runner's end of a pipe. `write_fd` is the child's: call `close_write_end()` after it was inherited."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()  # inherited only by a child that it is passed to
        os.set_blocking(self._read_fd, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
            with contextlib.suppress(OSError):  # not for every user
                fcntl.fcntl(self._read_fd, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._buffer = memoryview(bytearray(CAPACITY))  # os.read would spend 20 µs on allocating as much
        self._unread = b""
        self._malformed: protocol.MalformedMessageError | None = None
        self._waited = True  # the last read had to wait, so other tasks had their turn

    async def read_messages(self) -> list[protocol.ToRunner]:
        """Return all messages that are there, waiting for the first; none at the end of the pipe.

        Raises MalformedMessageError if the next line is not a message; the pipe cannot be read any further then.
        """
        while self._malformed is None and (data := await self._read()):
            lines, end, self._unread = (self._unread + data).rpartition(b"\n")
            if end and (messages := self._decode(lines)):
                return messages
            if len(self._unread) > protocol.LINE_LIMIT:
                self._malformed = protocol.MalformedMessageError("a line without an end")
        if self._malformed is not None:
            raise self._malformed
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

    def _decode(self, lines: bytes) -> list[protocol.ToRunner]:
        """Decode these lines up to the first that is malformed: the items that ended before it have ended."""
        try:
            return protocol.decode_for_runner(lines)
        except protocol.MalformedMessageError:
            messages: list[protocol.ToRunner] = []
            for line in lines.split(b"\n"):
                try:
                    messages += protocol.decode_for_runner(line)
                except protocol.MalformedMessageError as error:
                    self._malformed = error
                    break
            return messages

    async def _read(self) -> bytes:
        if not self._waited:
            await asyncio.sleep(0)
        self._waited = False
        while True:
            try:
                return bytes(self._buffer[: os.readv(self._read_fd, [self._buffer])])
            except BlockingIOError:
                await self._wait_readable()
                self._waited = True

    async def _wait_readable(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._read_fd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._read_fd)
