"""Puts back what an item's code changed in its worker process, or says that this is impossible.

Must not know: items, messages.
See also: worker.py (the only caller).

The items of a worker share its process. What one leaves behind (a umask, a limit, an alarm, another root, files,
threads) must not fail the next one. What cannot be put back costs the process, which the runner replaces. Patches
of Python itself, such as a replaced built-in function, are beyond this.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading

#: The limits that code may have lowered to protect itself, and that would fail other code.
LIMITS = tuple(
    getattr(resource, name)
    for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_DATA", "RLIMIT_AS", "RLIMIT_CPU")
    if hasattr(resource, name)
)

#: Threads that items may leave behind together. Each takes memory; a library's pool has fewer.
MOST_THREADS = 32


class ProcessState:
    """The state of this process when the object was made."""

    def __init__(self) -> None:
        self._home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._recursion = sys.getrecursionlimit()
        self._signals = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._limits = {limit: resource.getrlimit(limit) for limit in LIMITS}
        self._identity = _identity()

    def restore_usual(self) -> bool:
        """Restore what code often changes, in 2 µs, and return whether that was possible."""
        try:
            os.fchdir(self._home)
            os.umask(self._mask)
            if sys.getrecursionlimit() != self._recursion:
                sys.setrecursionlimit(self._recursion)
        except OSError:  # the descriptor was closed
            return False
        return True

    def restore(self) -> bool:
        """Restore everything, in 20 µs, and return whether that was possible."""
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._signals)
            for limit, amount in self._limits.items():
                if resource.getrlimit(limit) != amount:
                    resource.setrlimit(limit, amount)
            return self.restore_usual() and _identity() == self._identity and self._has_room()
        except (OSError, ValueError):  # a hard limit was lowered
            return False

    def _has_room(self) -> bool:
        """Return whether few threads are left, and most descriptors are free. Raises OSError if none is."""
        lowest_free = os.dup(self._home)
        os.close(lowest_free)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2
        return lowest_free < most and threading.active_count() <= MOST_THREADS


def _identity() -> tuple[int, ...]:
    root = os.stat("/")
    return root.st_dev, root.st_ino, os.getuid(), os.geteuid()
