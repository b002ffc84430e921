"""Worker processes for tests to talk to, and a store with real clocks for runners."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.runner.talk import Start, Talk, load_of
from unstuck.runner import protocol
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start workers on demand; a call returns before its worker has sent anything."""
    started: list[Talk] = []

    async def start(*arguments: str, **environ: str) -> Talk:
        log = tmp_path / f"log{len(started)}"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "unstuck.runner.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                limit=protocol.LINE_LIMIT,
                start_new_session=True,
                cwd=tmp_path,
                env={**os.environ, **environ},
            )
        talk = Talk(process, log, tmp_path / "outputs")
        started.append(talk)
        await talk.send(load_of(arguments))
        return talk

    yield start
    for talk in started:
        talk.hang_up()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(talk.process.pid, signal.SIGKILL)  # and whatever a dead worker left behind
        await talk.process.communicate()  # reads the rest, or the pipe stays open


@pytest.fixture
async def worker(start: Start, tmp_path: Path) -> Talk:
    """A worker that has loaded tests/runner/behaviour.py and sent its hello."""
    talk = await start("--app", str(Path(__file__).with_name("behaviour.py")))
    hello = await talk.receive()
    assert isinstance(hello, protocol.Hello), hello
    return talk


@pytest.fixture
def store(store_in_real_time: SQLiteStore) -> SQLiteStore:
    return store_in_real_time
