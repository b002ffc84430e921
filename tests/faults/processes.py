"""The processes that a browser consists of: which there are, which of them shows a page, and how they are stopped
where they stand and let go on, as when a laptop sleeps or a page hangs. Linux: it reads /proc.

Must not know: what runs in them, but that a page can be made to work hard.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

#: Ticks of processor time (10 ms) more than any other; a busy machine gives little at a time.
CLEAR_LEAD = 30
TRIES = 40


def family(root: int) -> list[int]:
    """This process and all that come from it, parents first."""
    parents = {pid: int(stat[1]) for pid, stat in _stats()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def renderers(root: int) -> list[int]:
    """Those that show pages."""
    return [pid for pid in family(root) if b"--type=renderer" in _command(pid)]


async def renderer_of(root: int, work: Callable[[], Awaitable[object]]) -> int:
    """The one that works while the page is made to do this, again and again until no other can be meant."""
    before = {pid: _cpu(pid) for pid in renderers(root)}
    for _ in range(TRIES):
        await work()
        *_, second, first = [(0, 0), *sorted((_cpu(pid) - was, pid) for pid, was in before.items())]
        if first[0] - second[0] >= CLEAR_LEAD:
            return first[1]
    raise AssertionError(f"no process of {before} stood out when the page was made to work")


def stop(pids: Iterable[int]) -> None:
    _signal(pids, signal.SIGSTOP)


def go_on(pids: Iterable[int]) -> None:
    _signal(pids, signal.SIGCONT)


def kill(pids: Iterable[int]) -> None:
    """Also those that are stopped, which would never notice that the others are gone."""
    _signal(pids, signal.SIGKILL)


async def until_stopped(pids: Iterable[int]) -> None:
    async with asyncio.timeout(10):
        while any(stat[0] not in "TZ" for pid in pids if (stat := _stat(pid))):
            await asyncio.sleep(0.01)


def _signal(pids: Iterable[int], sig: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)


def _stats() -> list[tuple[int, list[str]]]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [(pid, stat) for pid in pids if (stat := _stat(pid))]


def _stat(pid: int) -> list[str]:
    """State, parent …: what follows the name, which may hold anything; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
