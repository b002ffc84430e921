"""Uploads of many small files: written in groups while more arrive, all or none, and hashed on request."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unstuck.api.uploads import GROUP_FILES, MOST_FIELDS, Limits, Upload
from unstuck.errors import InvalidRequest, StorageFull, StoreUnavailable, TooLarge, UnstuckError
from unstuck.files.folder import DataFolder

LIMITS = Limits(
    max_files=10_000, max_file_bytes=2**20, max_job_bytes=2**30, max_name_length=100, memory_bytes=2**16
)
HEAD = b'--B\r\nContent-Disposition: form-data; name="files"; filename="%d.txt"\r\n\r\n'


def files(count: int) -> list[bytes]:
    return [HEAD % index + b"%d\r\n" % index * (1 + index % 3) for index in range(count)]


async def pieces(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("digests", [True, False])
async def test_every_file_is_kept_as_it_came(tmp_path: Path, digests: bool) -> None:
    folder = DataFolder(tmp_path).inputs("job")
    upload = Upload(DataFolder(tmp_path), "job", b"B", LIMITS, digests=digests)
    contents = [b"%d" % index * (index % 700) for index in range(GROUP_FILES * 2 + 7)]
    contents[3] = b"x" * 200_000  # large enough to be written piece by piece
    await upload.receive(pieces([*(HEAD % n + one + b"\r\n" for n, one in enumerate(contents)), b"--B--\r\n"]))
    assert [(folder / one.file).read_bytes() for one in upload.files] == contents
    digest = [hashlib.sha256(one).hexdigest() if digests else "" for one in contents]
    assert [one.digest for one in upload.files] == digest


async def test_an_upload_cut_off_during_a_group_write_leaves_nothing(tmp_path: Path) -> None:
    upload = Upload(DataFolder(tmp_path), "job", b"B", LIMITS)
    with pytest.raises(InvalidRequest):
        await upload.receive(pieces(files(GROUP_FILES + 1)))
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a write is still running"
    assert list((tmp_path / "files").iterdir()) == []


async def test_a_background_write_error_is_raised(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path).inputs("job")
    upload = Upload(DataFolder(tmp_path), "job", b"B", LIMITS)

    async def body() -> AsyncIterator[bytes]:
        parts = files(GROUP_FILES * 3)
        yield parts[0]
        folder.rmdir()
        async for part in pieces([*parts[1:], b"--B--\r\n"]):
            yield part

    with pytest.raises(StoreUnavailable, match="No such file"):
        await upload.receive(body())
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "refusal"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, StoreUnavailable),
        (errno.EIO, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
    ],
)
async def test_whatever_is_wrong_with_the_disk_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refusal: type[UnstuckError]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(DataFolder, "begin", fail)
    with pytest.raises(refusal, match="nothing was kept"):
        await Upload(DataFolder(tmp_path), "job", b"B", LIMITS).receive(pieces(files(1)))


async def test_parts_of_one_name_are_counted_too(tmp_path: Path) -> None:
    """400,000 parts of one name were read, at a cost of 4.5 CPU seconds."""
    field = b'--B\r\nContent-Disposition: form-data; name="same"\r\n\r\nx\r\n'
    upload = Upload(DataFolder(tmp_path), "job", b"B", LIMITS)
    with pytest.raises(TooLarge) as refusal:
        await upload.receive(pieces([field] * (MOST_FIELDS + 1) + [b"--B--\r\n"]))
    assert refusal.value.code == "too_many_fields"
    kept = Upload(DataFolder(tmp_path), "other", b"B", LIMITS)
    await kept.receive(pieces([field] * MOST_FIELDS + [b"--B--\r\n"]))
    assert kept.fields == {"same": "x"}
