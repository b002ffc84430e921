"""Keeps the files of jobs in the data folder: a rename, a hard link or a sync for each step, and no copy.

Must not know: SQL, HTTP, or what a job is.
See also: protocol.py (what each call promises), folder.py (where files are), ownership.py (whose they are).

Everything that blocks runs in a thread. Small inputs are written in groups, so that ten thousand of them do not
cost ten thousand thread hops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import uuid
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio.to_thread

from unstuck.errors import CannotStart, InputsGone
from unstuck.files import ownership
from unstuck.files.folder import DataFolder
from unstuck.files.links import link_inputs
from unstuck.files.marks import sync
from unstuck.files.protocol import LeaseKey
from unstuck.store.protocol import FinishedJobs

#: Of a group of small inputs this many are open at once: all are written, then all are synced. Half of them find
#: that an earlier sync has taken them along, and a server may be allowed only 1,024 open files.
SYNC_FILES = 64
#: The most threads that sync result files.
MOST_SYNCING = 8
#: A larger result file is not read for its checksum before it is sent: nothing would be sent for too long.
CHECKSUM_BYTES = 1024 * 1024 * 1024
#: Bytes that are read at a time for a checksum.
PIECE_BYTES = 256 * 1024

T = TypeVar("T")


class LocalFiles:
    """The files of one data folder, whose lock is held. Implements Files."""

    def __init__(self, folder: DataFolder, syncing: int = 1) -> None:
        self.folder = folder
        self.paths = folder.paths
        self._most_syncing = min(max(syncing, 1), MOST_SYNCING)
        self._syncing: ThreadPoolExecutor | None = None

    async def open(self, store: FinishedJobs) -> None:
        self._syncing = _start_threads(self._most_syncing)
        await ownership.claim(self.folder, store)

    async def close(self) -> None:
        if self._syncing is not None:
            self._syncing.shutdown(wait=False)

    # -- inputs

    async def begin(self, job_id: str) -> None:
        await self._write(self.folder.begin, job_id)

    async def put_inputs(self, job_id: str, group: Sequence[tuple[str, bytes]]) -> None:
        await self._write(_write_files, self.folder.inputs(job_id), group)

    async def put_input(self, job_id: str, file: str) -> LocalInput:
        path = self.folder.input(job_id, file)
        return LocalInput(self, await self._write(lambda: path.open("xb", buffering=0)))

    async def share_inputs(self, old: str, new: str, pairs: Sequence[tuple[str, str]]) -> None:
        try:
            await anyio.to_thread.run_sync(link_inputs, self.folder, old, new, pairs)
        except FileNotFoundError as error:
            if self.folder.mark.exists():
                raise InputsGone(old) from error
            raise self.folder.write_refusal(error) from error
        except OSError as error:
            raise self.folder.write_refusal(error) from error

    async def sync_inputs(self, job_id: str) -> None:
        # The names of the files, of their folder and of the job's folder must reach the disk too.
        await self._write(sync, self.folder.inputs(job_id), self.folder.job(job_id), self.folder.files)

    async def keep(self, job_id: str) -> None:
        await anyio.to_thread.run_sync(self.folder.keep, job_id)

    async def _write(self, call: Callable[..., T], *args: object) -> T:
        try:
            return await anyio.to_thread.run_sync(call, *args)
        except OSError as error:
            raise self.folder.write_refusal(error) from error

    # -- results, and inputs for work elsewhere

    async def locate_input(self, job_id: str, file: str) -> Path | None:
        path = self.folder.input(job_id, file)
        return path if await anyio.to_thread.run_sync(path.is_file) else None

    async def put_result(self, job_id: str, index: int, lease: int, file: str) -> LocalOutput:
        coming = self.folder.output(job_id, index, lease) / f".{uuid.uuid4().hex}"
        return LocalOutput(self, (job_id, index, lease), file, coming, await self._write(_begin_result, coming))

    async def locate_result(self, job_id: str, index: int, lease: int, file: str) -> Path:
        return self.folder.result(job_id, index, lease, file)

    async def open_result(self, job_id: str, index: int, lease: int, file: str) -> LocalResult:
        path = self.folder.result(job_id, index, lease, file)
        return await anyio.to_thread.run_sync(_open, path)

    # -- work

    async def adopt(self, job_id: str, index: int, lease: int, file: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._syncing, self.folder.make_durable, job_id, index, lease, file)

    async def remove_outputs(self, keys: Sequence[LeaseKey]) -> list[Exception | None]:
        return await asyncio.to_thread(self._remove_outputs, keys)

    def _remove_outputs(self, keys: Sequence[LeaseKey]) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        for key in keys:
            try:
                self.folder.remove_output(*key)
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error)
        return outcomes

    # -- removing

    async def remove(self, job_ids: Sequence[str]) -> list[str]:
        return await anyio.to_thread.run_sync(self.folder.remove_all, job_ids)

    async def has_inputs(self, job_id: str) -> bool:
        return await anyio.to_thread.run_sync(self.folder.inputs(job_id).is_dir)

    async def remove_inputs(self, job_id: str, files: Sequence[str]) -> None:
        await anyio.to_thread.run_sync(self.folder.remove_inputs, job_id, files)

    async def job_ids(self) -> list[str]:
        return await anyio.to_thread.run_sync(self.folder.job_folders)

    async def remove_left_over(self, store: FinishedJobs, silent_since: float) -> int:
        return await ownership.remove_left_over(self.folder, store, silent_since)


class LocalInput:
    """A large input that is written piece by piece. Implements FileWriter."""

    def __init__(self, files: LocalFiles, disk: BinaryIO) -> None:
        self._files, self._disk = files, disk

    async def write(self, piece: bytes | bytearray) -> None:
        await self._files._write(_write, self._disk, piece)

    async def close(self) -> None:
        await self._files._write(_sync_and_close, self._disk)

    async def abort(self) -> None:
        self._disk.close()


class LocalOutput:
    """A result file from elsewhere. Implements FileWriter.

    It comes under a name of its own: the same file may come twice, and the first may be the result already.
    """

    def __init__(self, files: LocalFiles, key: LeaseKey, file: str, coming: Path, disk: BinaryIO) -> None:
        self._files, self._key, self._file = files, key, file
        self._coming, self._disk = coming, disk

    async def write(self, piece: bytes | bytearray) -> None:
        await self._files._write(_write, self._disk, piece)

    async def close(self) -> None:
        self._disk.close()
        await self._files._write(os.replace, self._coming, self._coming.with_name(self._file))
        await self._files._write(self._files.folder.make_durable, *self._key, self._file)

    async def abort(self) -> None:
        self._disk.close()
        self._coming.unlink(missing_ok=True)


class LocalResult:
    """A result file that is read in pieces. Implements ResultReader."""

    def __init__(self, source: BinaryIO, known: tuple[int, int] | None) -> None:
        self._source, self.known = source, known

    async def read(self, most: int) -> bytes:
        return await anyio.to_thread.run_sync(self._source.read, most)

    async def close(self) -> None:
        self._source.close()


def size_and_checksum(source: BinaryIO | tempfile.SpooledTemporaryFile[bytes]) -> tuple[int, int]:
    """Read a whole file, return to its start, and return its size and CRC-32."""
    size = checksum = 0
    while piece := source.read(PIECE_BYTES):
        size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    source.seek(0)
    return size, checksum


def _open(path: Path) -> LocalResult:
    source = path.open("rb")
    try:
        large = os.fstat(source.fileno()).st_size > CHECKSUM_BYTES
        return LocalResult(source, None if large else size_and_checksum(source))
    except BaseException:
        source.close()
        raise


def _begin_result(coming: Path) -> BinaryIO:
    coming.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return coming.open("wb", buffering=0)


def _write(disk: BinaryIO, piece: bytes | bytearray) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[disk.write(rest) :]


def _sync_and_close(disk: BinaryIO) -> None:
    with disk:
        os.fsync(disk.fileno())


def _write_files(folder: Path, group: Sequence[tuple[str, bytes]]) -> None:
    for first in range(0, len(group), SYNC_FILES):
        with contextlib.ExitStack() as files:
            together = []
            for name, content in group[first : first + SYNC_FILES]:
                disk = files.enter_context((folder / name).open("xb", buffering=0))
                _write(disk, content)
                together.append(disk)
            for disk in together:
                os.fsync(disk.fileno())


def _start_threads(count: int) -> ThreadPoolExecutor:
    """Return a pool whose threads run already: later the system may refuse to start one."""
    pool = ThreadPoolExecutor(count, "unstuck sync")
    started = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(started.wait)
        started.wait()
    except RuntimeError as error:
        started.abort()
        pool.shutdown(wait=False)
        raise CannotStart(f"No thread can be started ({error}). Raise the limit on processes.") from error
    return pool
