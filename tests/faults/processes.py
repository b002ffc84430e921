"""Find the processes of a browser, and stop and resume them, as when a laptop sleeps or a page hangs.

Linux only: it reads /proc. It must not know what runs in them, except that a page can be made to use the CPU.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

#: How many ticks of CPU time (10 ms) one process must be ahead of all others; a busy machine gives few at a time.
CLEAR_LEAD = 30
TRIES = 40


def family(root: int) -> list[int]:
    """Return this process and all its descendants, parents first."""
    parents = {pid: int(stat[1]) for pid, stat in _stats()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def renderers(root: int) -> list[int]:
    """Return the processes of this browser that show pages."""
    return [pid for pid in family(root) if b"--type=renderer" in _command(pid)]


async def renderer_of(root: int, work: Callable[[], Awaitable[object]]) -> int:
    """Return the process that uses the CPU while a page does `work`, repeated until the answer is unambiguous."""
    before = {pid: _cpu(pid) for pid in renderers(root)}
    for _ in range(TRIES):
        await work()
        *_, second, first = [(0, 0), *sorted((_cpu(pid) - was, pid) for pid, was in before.items())]
        if first[0] - second[0] >= CLEAR_LEAD:
            return first[1]
    raise AssertionError(f"none of the processes {before} stood out while the page was busy")


def stop(pids: Iterable[int]) -> None:
    _signal(pids, signal.SIGSTOP)


def resume(pids: Iterable[int]) -> None:
    _signal(pids, signal.SIGCONT)


def kill(pids: Iterable[int]) -> None:
    """Kill these, including stopped ones, which would never notice that the others are gone."""
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
    """Return the fields of /proc/PID/stat after the name (state, parent …), or an empty list if it has ended."""
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
