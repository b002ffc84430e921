"""Raises the limit on open files, and computes how many streams it leaves room for.

Must not know: HTTP, or which streams there are.
See also: hub.py, which refuses streams.

A stream is an open file for its whole life, and a process that may open no more can neither answer a poll nor read
its store. So the limit is raised as far as possible, and streams stop short of it; refused clients poll.
"""

from __future__ import annotations

import contextlib
import resource

#: More than one process needs. The hard limit may be a billion, and some programs loop over all of them.
ENOUGH = 65_536
#: What macOS permits at least, where the hard limit says "any number" and is not meant.
OPEN_MAX = 10_240
#: Open files that are neither streams nor uploads: polls, downloads, workers' pipes, the store.
RESERVE = 128
#: ... of which this many are no connections.
FILES = 64
#: Open files of a body that arrives: its connection, and perhaps the file that it is written to.
FILES_OF_BODY = 2


def raise_limit() -> None:
    """Allow as many open files as the system permits, up to ENOUGH; many systems start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (ENOUGH, OPEN_MAX):
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft == resource.RLIM_INFINITY or soft >= most:
            return
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


def room_for_streams(bodies: int) -> int:
    """Return how many streams may be open beside `bodies`: at least a quarter of all open files, however few."""
    most = _most()
    return max(most - RESERVE - FILES_OF_BODY * bodies, most // 4)


def room_for_connections() -> int:
    """Return how many connections may be open at once, streams included."""
    most = _most()
    return max(most - FILES, most // 2)


def room_for_bodies(wanted: int) -> int:
    """Return how many bodies may arrive at once: the wanted number, but at most an eighth of all open files."""
    return min(wanted, max(_most() // FILES_OF_BODY // 8, 1))


def _most() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
