"""Raises the limit on open files, and says how many streams it leaves room for.

Each open stream is an open file for its whole life, and a process without a free one can neither answer a poll nor
read its store. So the limit is raised as far as it goes, and streams stop short of it; refused clients poll.
Must not know: HTTP, or which streams there are. Read on in hub.py, which refuses.
"""

from __future__ import annotations

import resource

#: More than one process needs; the limit itself may be a billion, which old programs count through.
ENOUGH = 65_536
#: Open files that are never a stream: polls, uploads and results under way, workers' pipes, the store.
RESERVE = 256


def raise_limit() -> None:
    """Allow as many open files as the system permits, up to ENOUGH. Many systems start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def room_for_streams() -> int:
    """The number of streams that may be open at once: at least a quarter of all open files, however few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if soft == resource.RLIM_INFINITY else soft
    return max(most - RESERVE, most // 4)
