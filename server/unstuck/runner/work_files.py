"""The files that a runner works with, as far as it uses them.

It must not know where they are: in the data folder, or on their way to another machine.
See also: files/folder.py and scratch.py, which are such files.
"""

from __future__ import annotations

from typing import Protocol


class WorkFiles(Protocol):
    """Inputs and outputs of items, by job, index and lease."""

    def paths(self, job_id: str, file: str | None, index: int, lease: int) -> tuple[str | None, str]:
        """Return the path of an item's input, and of the folder for its output."""

    def make_durable(self, job_id: str, index: int, lease: int, file: str) -> None:
        """Keep a result file for good. Blocks; raises OSError."""

    def remove_output(self, job_id: str, index: int, lease: int) -> None:
        """Remove what was written under this lease. Raises OSError."""
