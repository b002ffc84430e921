"""Test the benchmark itself: it counts correctly, and its short form passes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import goals
from tests.bench.figures import Samples, as_table, markdown
from tests.bench.processes import ROOT, compiled
from tests.bench.run import SCENES
from tests.bench.viewers import Window, last_ms, lateness_ms, percentile
from tests.support.machine import needs

needs_cc = needs("cc", "gcc")


def test_medians_of_samples() -> None:
    samples = Samples()
    for value in (1.0, 9.0, 2.0):
        samples.add("row", a_column=value)
    assert samples.medians() == {"row": {"a column": 2.0}}
    assert markdown(as_table({"a": 1.0, "b": 1234.0})).splitlines()[-1] == "| b | 1,234 |"
    assert percentile(range(1000), 0.99) == 990


def test_lateness_counts_from_the_oldest_change_in_an_event(tmp_path: Path) -> None:
    arrivals = [(0, 3, 10_000_000), (1, 3, 10_000_000), (0, 6, 30_000_000), (1, 4, 31_000_000), (1, 6, 60_000_000)]
    path = tmp_path / "arrivals"
    path.write_bytes(b"".join(struct.pack("=IIq", *one) for one in arrivals))
    changes = [(0, 4, 20_000_000), (0, 5, 25_000_000), (0, 6, 29_000_000)]
    window = Window(0, 50_000_000, 0, 0, 0.0, 0.0)
    assert lateness_ms(path, changes, 1, window) == [10.0, 11.0]
    assert last_ms(path, changes, 1, 2) == [1.0, 31.0]
    with pytest.raises(RuntimeError, match="ended with seq 6, not 7"):
        last_ms(path, [*changes, (0, 7, 70_000_000)], 1, 2)


def test_goals_that_were_not_measured_are_not_judged() -> None:
    row = {"KiB together": 300.0}
    ((goal, reached, most),) = goals.judged({"stalled": {"unstuck": row}}, short=True)
    assert (goal.name[:7], reached, most) == ("stalled", 300.0, 256)
    assert not goals.met(reached, most)
    assert not goals.met(float("nan"), most)


def test_every_measuring_module_is_a_scene() -> None:
    modules = {path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef measure(" in path.read_text()}
    assert modules <= {module for module, _ in SCENES.values()}


@needs_cc
async def test_the_load_client_counts_events_however_they_are_split(tmp_path: Path) -> None:
    """Send chunks, both kinds of line ends, comments and heartbeats, byte by byte."""
    text = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n: hello\n\n\r\n"
        b"1f\r\nid: 7\nevent: job\ndata: {}\n\n\r\n"
        b"40\r\nevent: heartbeat\ndata: {}\n\n\r\n"
        b"40\r\nid: 8\r\nevent: job\r\ndata: {}\r\n\r\n\r\n"
    )
    client_left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(
            ConnectionError
        ):  # the client leaves after the second event, before the last byte
            for byte in text:
                writer.write(bytes([byte]))
                await writer.drain()
            await reader.read()
        writer.close()
        client_left.set()

    record = tmp_path / "arrivals"
    program = await asyncio.to_thread(compiled, "load.c")
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        output = await asyncio.to_thread(_loaded, [str(program), str(port), "1", "2", str(record)])
        await client_left.wait()
    assert '"opened":1' in output
    assert [(stream, seq) for stream, seq, _ in struct.iter_unpack("=IIq", record.read_bytes())] == [
        (0, 7),
        (0, 8),
    ]


def _loaded(command: list[str]) -> str:
    """Run the load client until its input ends, and return its output."""
    return subprocess.run(command, input="/x\n\n", capture_output=True, text=True, check=True, timeout=90).stdout


@needs_cc
@pytest.mark.alone
def test_the_short_form_passes() -> None:
    command = [sys.executable, "-m", "tests.bench.run", "--short", "--only", "fan-out", "--only", "stalled"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert output.returncode == 0, output.stdout + output.stderr
