"""The Files protocol: where the inputs and results of jobs are kept, whatever keeps them.

A job's files are its inputs, by the name that its item has (`file`), and the results of each lease. Only the
result of the lease that the store knows is ever served, so a lost lease may leave what it likes under its number.
Must not know: the store's rows, HTTP, or worker processes.
See also: local.py (keeps them in a folder). The runner uses WorkFiles, and all others Files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from unstuck.store.protocol import FinishedJobs

#: A lease: the job, the item's index, and the number of the lease.
LeaseKey = tuple[str, int, int]


class FileWriter(Protocol):
    """A file on its way."""

    async def write(self, piece: bytes | bytearray) -> None:
        """Append a piece."""

    async def close(self) -> None:
        """Put the file where it belongs, and return once it is durable."""

    async def abort(self) -> None:
        """Keep nothing of it, except that an input goes with the files of its job."""


class ResultReader(Protocol):
    """A result file that is being read; `known` is its size and CRC-32, None if they would take too long."""

    @property
    def known(self) -> tuple[int, int] | None: ...

    async def read(self, most: int) -> bytes:
        """Return up to `most` bytes, and none at the end. Raise OSError."""

    async def close(self) -> None: ...


class WorkFiles(Protocol):
    """The part that a runner uses: files as paths on this machine, where the code of kinds finds them."""

    def paths(self, job_id: str, file: str | None, index: int, lease: int) -> tuple[str | None, str]:
        """Return the paths of an item's input, and of the folder for its output."""

    async def adopt(self, job_id: str, index: int, lease: int, file: str) -> None:
        """Make a result file durable: call this before the result is reported. Raise OSError, ValueError."""

    async def remove_outputs(self, keys: Sequence[LeaseKey]) -> list[Exception | None]:
        """Remove what the work under these leases wrote, if anything; return how each removal failed."""


class Files(WorkFiles, Protocol):
    """The whole of it. Writing raises StorageFull or StoreUnavailable; then nothing counts as written."""

    async def open(self, store: FinishedJobs) -> None:
        """Take the files over for the database of this store. Raise CannotStart."""

    async def close(self) -> None:
        """Let go of what `open` has taken."""

    # -- inputs: begin, put, sync, and then keep or remove

    async def begin(self, job_id: str) -> None:
        """Prepare for the inputs of a job that is not stored yet. It is left over after a day of silence."""

    async def put_inputs(self, job_id: str, group: Sequence[tuple[str, bytes]]) -> None:
        """Write small inputs (name, content) together, durably."""

    async def put_input(self, job_id: str, file: str) -> FileWriter:
        """Begin a large input."""

    async def share_inputs(self, old: str, new: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Give inputs of job `old` to job `new`; each pair holds the old name and the new one.

        Removing either job leaves the other whole. Raise InputsGone.
        """

    async def sync_inputs(self, job_id: str) -> None:
        """Return once the inputs of a job are durable under their names."""

    async def keep(self, job_id: str) -> None:
        """Note that the job is stored, so that its files stay until it is removed. Call this before the answer."""

    # -- results, and inputs for work elsewhere

    async def locate_input(self, job_id: str, file: str) -> Path | str | None:
        """Return the path of an input, or a URL that serves it for a while; None if it is not there."""

    async def put_result(self, job_id: str, index: int, lease: int, file: str) -> FileWriter:
        """Begin a result file; the same one may come twice. Until it is closed, an earlier one stays."""

    async def locate_result(self, job_id: str, index: int, lease: int, file: str) -> Path | str | None:
        """Return the path of a result file, or a URL that serves it for a while; None: only `open_result` does.

        Raise NotFound.
        """

    async def open_result(self, job_id: str, index: int, lease: int, file: str) -> ResultReader:
        """Open a result file. Raise NotFound, OSError."""

    # -- removing

    async def remove(self, job_ids: Sequence[str]) -> list[str]:
        """Remove all files of these jobs, and return the jobs of which nothing is left. What fails is logged."""

    async def has_inputs(self, job_id: str) -> bool:
        """Return whether the job has inputs."""

    async def remove_inputs(self, job_id: str, files: Sequence[str]) -> None:
        """Remove these inputs; those that are gone do not matter. Raise OSError."""

    async def job_ids(self) -> list[str]:
        """Return the ids of the jobs that have files."""

    async def remove_left_over(self, store: FinishedJobs, silent_since: float) -> int:
        """Remove uploads that belong to no job and were silent since (epoch seconds); return how many."""
