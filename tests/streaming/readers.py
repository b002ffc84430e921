"""Viewers of a hub that read their stream to the end and keep the events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Viewer

QUICK = StreamConfig(interval_s=0.0, broadcast_pause_s=0.01)


def events_in(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


class Reader:
    """Reads a viewer's stream to its end in the background and keeps the events."""

    def __init__(self, viewer: Viewer) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended = False
        self._viewer = viewer

    async def run(self) -> None:
        async for data in self._viewer:
            self.events += events_in(data)
        self.ended = True

    def has_seen(self, seq: int) -> bool:
        return any(job["seq"] == seq for job in self.of("job"))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event == name]


async def joined(hub: Hub, job_ids: Sequence[str] | None, **how: Any) -> Viewer:
    """Return a viewer without an owner: the test calls `left`, or leaves it with the hub."""
    return await hub.join(ExitStack(), job_ids, base="", **how)


def left(viewer: Viewer) -> None:
    """Let a viewer leave that was `joined`."""
    viewer.__exit__()


@asynccontextmanager
async def reading(hub: Hub, *job_ids: str, ends: bool = True, all_jobs: bool = False) -> AsyncIterator[Reader]:
    viewer = await joined(hub, None if all_jobs else list(job_ids), ends=ends and not all_jobs)
    reader = Reader(viewer)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left(viewer)
