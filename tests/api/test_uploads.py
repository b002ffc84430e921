"""Uploads of many small files: written in groups while more arrive, all or none, and hashed on request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unstuck.api.uploads import GROUP_FILES, MOST_FIELDS, Limits, Upload
from unstuck.errors import InvalidRequest, StorageFull, StoreUnavailable, TooLarge, UnstuckError
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles

JOB_ID, OTHER_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", "2c5f39cb-3ab2-5e4c-b4a6-fa20c6b8744c"
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
    folder = DataFolder(tmp_path).inputs(JOB_ID)
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS, digests=digests)
    contents = [b"%d" % index * (index % 700) for index in range(GROUP_FILES * 2 + 7)]
    contents[3] = b"x" * 200_000  # large enough to be written piece by piece
    await upload.receive(pieces([*(HEAD % n + one + b"\r\n" for n, one in enumerate(contents)), b"--B--\r\n"]))
    assert [(folder / one.file).read_bytes() for one in upload.files] == contents
    digest = [hashlib.sha256(one).hexdigest() if digests else "" for one in contents]
    assert [one.digest for one in upload.files] == digest


async def test_an_upload_cut_off_during_a_group_write_leaves_nothing(tmp_path: Path) -> None:
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS)
    with pytest.raises(InvalidRequest):
        await upload.receive(pieces(files(GROUP_FILES + 1)))
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a write is still running"
    assert list((tmp_path / "files").iterdir()) == []


async def test_a_background_write_error_is_raised(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path).inputs(JOB_ID)
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS)

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
        await Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS).receive(pieces(files(1)))


async def test_parts_of_one_name_are_counted_too(tmp_path: Path) -> None:
    """400,000 parts of one name were read, at a cost of 4.5 CPU seconds."""
    field = b'--B\r\nContent-Disposition: form-data; name="same"\r\n\r\nx\r\n'
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS)
    with pytest.raises(TooLarge) as refusal:
        await upload.receive(pieces([field] * (MOST_FIELDS + 1) + [b"--B--\r\n"]))
    assert refusal.value.code == "too_many_fields"
    kept = Upload(LocalFiles(DataFolder(tmp_path)), OTHER_ID, b"B", LIMITS)
    await kept.receive(pieces([field] * MOST_FIELDS + [b"--B--\r\n"]))
    assert kept.fields == {"same": "x"}


@pytest.mark.parametrize(
    ("sent", "encoded", "name"),
    [
        ("a%22b%0D%0A.csv", False, 'a"b\r\n.csv'),  # as browsers, curl, requests and httpx write it
        ("100%25 %2f %0a.csv", False, "100%25 %2f %0a.csv"),  # and nothing else is an escape
        ("a%22b%0D%0A%5C.csv", True, 'a"b\r\n\\.csv'),
        ("a%2522b %C3%A4 ä.csv", True, "a%22b ä ä.csv"),  # a name that has %22
        ("%FF%.csv", True, "\ufffd%.csv"),
    ],
)
async def test_names_with_quotes_and_line_breaks_arrive(
    tmp_path: Path, sent: str, encoded: bool, name: str
) -> None:
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS, encoded_names=encoded)
    head = f'--B\r\nContent-Disposition: form-data; name="files"; filename="{sent}"\r\n\r\n'
    await upload.receive(pieces([head.encode(), b"x\r\n--B--\r\n"]))
    assert [one.name for one in upload.files] == [name]


async def test_a_file_input_without_a_file_is_no_file(tmp_path: Path) -> None:
    """A form without JavaScript sends an empty part for it, and "unnamed" with 0 bytes succeeded."""
    head = b'--B\r\nContent-Disposition: form-data; name="files"; filename=""\r\n'
    empty = head + b"Content-Type: application/octet-stream\r\n\r\n\r\n"
    limits = dataclasses.replace(LIMITS, max_files=2)
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", limits)
    await upload.receive(pieces([empty, *files(1), empty, head + b"\r\nkept\r\n", empty, b"--B--\r\n"]))
    assert [(one.name, one.size) for one in upload.files] == [("0.txt", 1), ("unnamed", 4)]
    more = Upload(LocalFiles(DataFolder(tmp_path)), OTHER_ID, b"B", limits)
    with pytest.raises(TooLarge):
        await more.receive(pieces([*files(2), head + b"\r\none more\r\n", b"--B--\r\n"]))


ONE = HEAD % 1 + b"content\r\n--B--\r\n"


@pytest.mark.parametrize(
    "preamble",
    [b"", b"\r\n", b"This is a form.\r\n", b"--BU\r\n", b"x --B\r\n\r\n", b"a\n" * 2_000, b"--\n-\r\n"],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_lines_before_the_form_are_ignored(tmp_path: Path, preamble: bytes, size: int) -> None:
    boundary = b"B" if preamble != b"--BU\r\n" else b"BUT"
    body = preamble + ONE.replace(b"--B", b"--" + boundary)
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, boundary, LIMITS)
    await upload.receive(pieces([body[at : at + size] for at in range(0, len(body), size)]))
    assert [(one.name, one.size) for one in upload.files] == [("1.txt", len(b"content"))]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"x\r\n" * 40_000 + ONE, "invalid_multipart"), (b"no form at all", "invalid_multipart"),
        (b"--", "upload_cut_off"), (b"\r\n--", "upload_cut_off"), (b"", "upload_cut_off"),
        (b"preamble\r\n" + ONE[:-9], "upload_cut_off"),
    ],
)  # fmt: skip
async def test_a_form_that_never_begins(tmp_path: Path, body: bytes, code: str) -> None:
    upload = Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS)
    with pytest.raises(InvalidRequest) as refusal:
        await upload.receive(pieces([body[at : at + 1_000] for at in range(0, len(body), 1_000)]))
    assert refusal.value.code == code
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.parametrize("body", [b"--Bx", b"--B\r\nno header\r\n\r\n", ONE + b"more", b"--B\r\n: \r\n"])
async def test_a_clients_mistake_is_no_line_of_the_log(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.suppress(InvalidRequest):
        await Upload(LocalFiles(DataFolder(tmp_path)), JOB_ID, b"B", LIMITS).receive(pieces([body]))
    assert caplog.records == []
