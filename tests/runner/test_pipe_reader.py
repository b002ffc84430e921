"""What the runner reads from a pipe into which user code may write as well."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from unstuck.runner import protocol
from unstuck.runner.pipe_reader import PipeReader


@pytest.fixture
def reader() -> Iterator[PipeReader]:
    reader = PipeReader()
    yield reader
    reader.close()


def deep(levels: int) -> bytes:
    start = b'{"type":"done","id":1,"state":"succeeded","result":'
    return start + b'{"a":' * levels + b"1" + b"}" * levels + b"}\n"


@pytest.mark.parametrize("line", [deep(5_000), deep(100_000), b"\xff\n", b'{"type":"dance"}\n', b"0\n"])
async def test_messages_before_a_malformed_line_count(reader: PipeReader, line: bytes) -> None:
    """Several short items may have ended in one read; the line after them costs the next item only."""
    ends = [protocol.Done(id=id, state="succeeded") for id in (1, 2)]
    os.write(reader.write_fd, protocol.encode(*ends) + line + protocol.encode(protocol.Returned(id=3)))
    assert await reader.read_messages() == ends
    for _ in range(2):
        with pytest.raises(protocol.MalformedMessageError):
            await reader.read_messages()


@pytest.mark.parametrize("line", [b"\n", b'{"type":"progress","id":9}\n'])
async def test_a_writer_without_end_does_not_hold_the_event_loop(reader: PipeReader, line: bytes) -> None:
    ending = threading.Event()

    def flood() -> None:
        while not ending.is_set():
            os.write(reader.write_fd, line * 2_000)

    async def read() -> None:
        while True:
            await reader.read_messages()

    thread = threading.Thread(target=flood)
    thread.start()
    reading = asyncio.create_task(read())
    for _ in range(20):
        await asyncio.sleep(0)
    ending.set()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    reading.cancel()
    await asyncio.wait([reading])


async def test_a_line_without_an_end_is_malformed(reader: PipeReader) -> None:
    writing = threading.Thread(target=os.write, args=(reader.write_fd, b"\0" * (protocol.LINE_LIMIT + 1)))
    writing.start()
    with pytest.raises(protocol.MalformedMessageError, match="without an end"):
        await reader.read_messages()
    writing.join()
