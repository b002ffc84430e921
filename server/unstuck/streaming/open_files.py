"""Raises the limit on open files, and computes how many streams it leaves room for.

Must not know: HTTP, or which streams there are.
See also: hub.py, which refuses streams.

A stream is an open file for its whole life, and a process that may open no more can neither answer a poll nor read
its store. So the limit is raised as far as possible, and streams stop short of it; refused clients poll.
"""

from __future__ import annotations

import resource

#: More than one process needs. The hard limit may be a billion, and some programs loop over all of them.
ENOUGH = 65_536
#: Open files that are never streams: polls, uploads and downloads, workers' pipes, the store.
RESERVE = 256


def raise_limit() -> None:
    """Allow as many open files as the system permits, up to ENOUGH; many systems start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def room_for_streams() -> int:
    """Return how many streams may be open at once: at least a quarter of all open files, however few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if soft == resource.RLIM_INFINITY else soft
    return max(most - RESERVE, most // 4)
