"""Encodes a submission: as JSON, or with files as multipart/form-data of exactly the size told beforehand.

A file is read when it is sent, and again if the submission is sent again. A file that has no size, such as a pipe,
is copied to a temporary file first. It must not know a server or HTTP beyond the body of this one request.
See also: client.py, which sends it; api/uploads.py, which reads it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote
from uuid import uuid4

from unstuck.errors import FileMissing, FileUnusable, InvalidOptions

#: What an application may pass as a file.
File = str | os.PathLike[str] | tuple[str, bytes]
#: Bytes that are read and sent at a time.
PIECE_BYTES = 256 * 1024
#: A file of /sys claims up to this many bytes, in no blocks, and has fewer.
SYSFS_BYTES = 64 * 1024
#: What the name of a file in a form does not keep, unless it is percent-encoded.
NOT_KEPT = re.compile(r'["\\\x00-\x1f\x7f]|%(?:22|0D|0A)')
SURROGATES = re.compile("[\ud800-\udfff]")
#: Files that are descriptors of this process; opening the path fails for a socket.
DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/(\d+))|/proc/self/fd/(\d+)")


def json_body(value: object) -> bytes:
    """Encode as JSON; what is not text in a name, such as a byte that is not UTF-8, becomes U+FFFD.

    Raises InvalidOptions for a value that JSON does not have.
    """
    try:
        return _text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOptions(
            f"A name or option cannot be sent ({error}). Give text, numbers, true, false or null."
        ) from None


def _text(text: str) -> bytes:
    """Encode as UTF-8, with U+FFFD for what is not text: lone surrogates, as bytes of a file name are read."""
    return SURROGATES.sub("\ufffd", text).encode()


@dataclass
class Upload:
    """A file to send: `size` bytes from the start of a path, or of what is in memory or a temporary file."""

    name: str
    size: int
    path: Path | None = None
    content: BinaryIO | None = None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        if self.content is not None:
            self.content.seek(0)
            yield self.content
            return
        assert self.path is not None
        with unusable(self.path), self.path.open("rb", buffering=0) as file:
            yield file

    def pieces(self) -> Iterator[bytes]:
        """Yield exactly `size` bytes, however the file has grown; FileUnusable if it has shrunk."""
        left = self.size
        with self.opened() as file:
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                if not piece:
                    raise FileUnusable(
                        str(self.path),
                        f"became shorter while it was sent: {self.size - left:,} of {self.size:,} bytes are left. "
                        "Nothing was submitted; try again when it no longer changes.",
                    )
                left -= len(piece)
                yield piece

    def close(self) -> None:
        if self.content is not None:
            self.content.close()


def uploads(files: Iterable[File | Upload]) -> list[Upload]:
    """Return the files, ready to be sent; close each one afterwards.

    It may block for as long as a pipe is written to. Raises FileUnusable, FileMissing among them.
    """
    ready: list[Upload] = []
    try:
        for file in files:
            ready.append(_upload(file))
    except BaseException:
        for upload in ready:
            upload.close()
        raise
    return ready


def _upload(file: File | Upload) -> Upload:
    if isinstance(file, Upload):
        return file
    if isinstance(file, tuple):
        name, data = file
        return Upload(name, len(data), content=BytesIO(data))
    path = Path(file)
    with unusable(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FileUnusable(str(path), "is a folder; name the files in it.")
        tells_size = status.st_size and (status.st_blocks or status.st_size > SYSFS_BYTES)
        if stat.S_ISREG(status.st_mode) and tells_size:
            path.open("rb").close()  # else it is found out in the middle of the upload
            return Upload(path.name, status.st_size, path)
        return _copied(path, status)


def _copied(path: Path, status: os.stat_result) -> Upload:
    """Copy a file that does not tell its size: a pipe, a terminal, or one of /proc."""
    with _open_without_size(path, status) as source:
        first = source.read(PIECE_BYTES)
        now = os.fstat(source.fileno())
        if stat.S_ISREG(now.st_mode) and now.st_size > status.st_size:  # it was empty, and has just begun to grow
            return Upload(path.name, now.st_size, path)
        copy = tempfile.TemporaryFile()  # noqa: SIM115 – closed by its Upload
        try:
            copy.write(first)
            if first:
                shutil.copyfileobj(source, copy, PIECE_BYTES)
            copy.flush()
            return Upload(path.name, copy.tell(), content=copy)
        except BaseException as error:
            copy.close()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FileUnusable(
                    str(path), f"does not tell its size, and {tempfile.gettempdir()} has no room for a copy of it."
                ) from error
            raise


def _open_without_size(path: Path, status: os.stat_result) -> BinaryIO:
    if stat.S_ISSOCK(status.st_mode):
        found = DESCRIPTOR.fullmatch(str(path))
        if found is None:
            raise FileUnusable(str(path), "is a socket; name a file.")
        return os.fdopen(os.dup(int(found[1] or found[2] or 0)), "rb")
    device = stat.S_ISCHR(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull))
    if not stat.S_ISBLK(status.st_mode):
        source = path.open("rb")
        if not device or source.isatty():
            return source
        source.close()
    raise FileUnusable(str(path), "is a device, which may have no end; name a file.")


@contextmanager
def unusable(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into FileUnusable."""
    try:
        yield
    except FileUnusable:
        raise
    except FileNotFoundError as error:
        raise FileMissing(str(path), "does not exist, or no longer.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileUnusable(str(path), f"cannot be read: {reason}.") from error


class Form:
    """The body of a submission with files, to be sent as often as needed."""

    def __init__(self, fields: Mapping[str, Any], files: Iterable[Upload]) -> None:
        self._boundary = uuid4().hex
        files = list(files)
        encoded = any(NOT_KEPT.search(one.name) for one in files)
        self._names = {"X-Unstuck-Names": "percent-encoded"} if encoded else {}
        self._fields = b"".join(
            self._head(f'name="{name}"'.encode()) + _field(value) + b"\r\n" for name, value in fields.items()
        )
        self._files = [(self._head(_parameters(one.name, encoded=encoded), is_file=True), one) for one in files]
        self._end = f"--{self._boundary}--\r\n".encode()
        self._began: float | None = None
        self._latest = 0.0
        self.file_bytes = sum(one.size for _, one in self._files)

    @property
    def content(self) -> Form:
        """The body itself, to be iterated over."""
        return self

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body."""
        size = len(self._fields) + sum(len(head) + one.size + 2 for head, one in self._files) + len(self._end)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(size),
            **self._names,
        }

    @property
    def sending_s(self) -> float:
        """How long the latest attempt has been sending the body (seconds)."""
        return 0.0 if self._began is None else self._latest - self._began

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._began = self._latest = time.monotonic()
        pieces = self._pieces()
        while chunk := await asyncio.to_thread(_next_chunk, pieces):
            yield chunk
            self._latest = time.monotonic()

    def _pieces(self) -> Iterator[bytes]:
        yield self._fields
        for head, upload in self._files:
            yield head
            yield from upload.pieces()
            yield b"\r\n"
        yield self._end

    def _head(self, parameters: bytes, *, is_file: bool = False) -> bytes:
        kind = b"Content-Type: application/octet-stream\r\n" if is_file else b""
        head = b"--%s\r\nContent-Disposition: form-data; %s\r\n%s\r\n"
        return head % (self._boundary.encode(), parameters, kind)


def _parameters(filename: str, *, encoded: bool) -> bytes:
    name = _text(filename or "unnamed")
    return b'name="files"; filename="%s"' % (quote(name, safe="").encode() if encoded else name)


def _field(value: object) -> bytes:
    return _text(value) if isinstance(value, str) else json_body(value)


def _next_chunk(pieces: Iterator[bytes]) -> bytes:
    """Return the next pieces together, or nothing after the last: many small files need few hops to a thread."""
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        if len(chunk) >= PIECE_BYTES:
            break
    return bytes(chunk)
