"""Streams a multipart body to a job's inputs as it arrives.

Must not know: jobs, or where inputs are kept; it knows limits and the Files protocol.
See also: submit.py (the caller), files/protocol.py (how inputs are written).

At most `upload_memory_bytes` of a file are in memory; a larger file is written piece by piece. Small files are
written in groups, so that ten thousand of them do not cost ten thousand thread hops. One group is written while
the next is read, so twice as much may be in memory. When `receive` returns, everything is durable; when it raises,
nothing is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import anyio
import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from unstuck.errors import InvalidRequest, TooLarge
from unstuck.files.folder import stored_name
from unstuck.files.protocol import Files, FileWriter
from unstuck.jobs import labels

#: Most form fields beside the files, and most bytes of one (`options` is the largest).
MOST_FIELDS = 32
FIELD_BYTES = 256 * 1024
#: Bytes after the closing boundary that are ignored; a body with more of them is refused.
EPILOGUE_BYTES = 64 * 1024
#: Bytes before the first boundary that are ignored (RFC 2046, 5.1.1); a body with more of them is refused.
PREAMBLE_BYTES = 64 * 1024
#: Most small files that are written together.
GROUP_FILES = 256
#: Bytes of framing (boundary, headers) allowed for each file beside its content.
FRAMING_BYTES = 16 * 1024
#: What browsers and most programs write for the characters that would end a file's name in a form (WHATWG).
FORM_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))
#: What the parser logs of a body is a client's mistake, which the answer names.
_PARSER_LOG = logging.Logger("python_multipart", logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an upload; settings.py explains each of them."""

    max_files: int
    max_file_bytes: int
    max_job_bytes: int
    max_name_length: int
    memory_bytes: int

    @property
    def body_bytes(self) -> int:
        """The most bytes that a body within all other limits can have."""
        return self.max_job_bytes + self.max_files * FRAMING_BYTES + MOST_FIELDS * FIELD_BYTES


@dataclass(frozen=True, slots=True)
class Stored:
    """An input of the job, stored as `file`.

    `name` is its label and `size` its bytes; `digest` is its SHA-256, or empty if no digests are wanted.
    """

    name: str
    file: str
    size: int
    digest: str


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    unnamed: bool = False
    buffer: bytearray = field(default_factory=bytearray)
    size: int = 0
    writer: FileWriter | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a multipart Content-Type. Raises InvalidRequest if there is none."""
    kind, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise InvalidRequest(
            "The Content-Type must be multipart/form-data with a boundary; curl's -F and a browser's FormData "
            "set it automatically.",
            code="invalid_multipart",
        )
    return boundary


class Upload:
    """One submission's body on its way to the job's inputs; `fields` and `files` fill as it arrives.

    With `encoded_names` the sender has percent-encoded the names of its files, so that each arrives as it is.
    """

    def __init__(
        self,
        place: Files,
        job_id: str,
        boundary: bytes,
        limits: Limits,
        *,
        digests: bool = True,
        encoded_names: bool = False,
    ) -> None:
        self.fields: dict[str, str] = {}
        self._field_parts = 0  # counted by part: any number of parts may have one name
        self.files: list[Stored] = []
        self._place = place
        self._job_id = job_id
        self._limits = limits
        self._events: list[tuple[str, bytes]] = []
        self._part = _Part()
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._group: list[tuple[str, bytes]] = []
        self._grouped_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._digests = digests
        self._encoded_names = encoded_names
        self._job_bytes = 0
        self._epilogue = -1
        self._preamble: bytearray | None = bytearray()  # None from the first boundary on
        self._dash_boundary = b"--" + boundary
        self._first_boundary = re.compile(rb"(?:\A|\n)(?=" + re.escape(self._dash_boundary) + rb")")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": lambda: self._events.append(("begin", b"")),
                "on_header_field": lambda data, i, j: self._events.append(("field", data[i:j])),
                "on_header_value": lambda data, i, j: self._events.append(("value", data[i:j])),
                "on_header_end": lambda: self._events.append(("header", b"")),
                "on_headers_finished": lambda: self._events.append(("headers", b"")),
                "on_part_data": lambda data, i, j: self._events.append(("data", data[i:j])),
                "on_part_end": lambda: self._events.append(("part", b"")),
                "on_end": lambda: self._events.append(("end", b"")),
            },
        )
        self._parser.logger = _PARSER_LOG

    async def receive(self, body: AsyncIterator[bytes]) -> None:
        """Receive the whole body.

        Raises InvalidRequest, TooLarge, StorageFull or StoreUnavailable, and then leaves nothing.
        """
        try:
            await self._receive(body)
        except BaseException as error:
            with anyio.CancelScope(shield=True):  # otherwise it could write what is being removed
                if self._part.writer is not None:
                    await self._part.writer.abort()
                await self._let_go()
                await self._place.remove([self._job_id])
            if isinstance(error, FormParserError):
                raise InvalidRequest(
                    f"The multipart body cannot be read: {error}", code="invalid_multipart"
                ) from error
            raise

    async def _receive(self, body: AsyncIterator[bytes]) -> None:
        await self._place.begin(self._job_id)
        async for chunk in body:
            if self._epilogue >= 0:
                self._skip_epilogue(len(chunk))
                continue
            if form := self._after_preamble(chunk):
                self._parser.write(form)
            await self._take_events()
        if self._preamble and not self._dash_boundary.startswith(self._preamble.lstrip(b"\r\n")):
            raise InvalidRequest("The multipart body does not contain its boundary.", code="invalid_multipart")
        if self._epilogue < 0:
            raise InvalidRequest(
                "The upload ended in the middle; nothing was kept. Send it again.", code="upload_cut_off"
            )
        await self._write_group()
        await self._written()
        await self._place.sync_inputs(self._job_id)

    def _after_preamble(self, chunk: bytes) -> bytes:
        """Return what has come from the first boundary on."""
        if self._preamble is None:
            return chunk
        searched = max(len(self._preamble) - len(self._dash_boundary), 0)  # a boundary may come in two pieces
        self._preamble += chunk
        found = self._first_boundary.search(self._preamble, searched)
        if found is not None:
            form, self._preamble = bytes(self._preamble[found.end() :]), None
            return form
        if len(self._preamble) > PREAMBLE_BYTES:
            raise InvalidRequest("The multipart body does not begin with its boundary.", code="invalid_multipart")
        return b""

    async def _take_events(self) -> None:
        events, self._events = self._events, []
        for what, data in events:
            if what == "data":
                await self._data(data)
            elif what == "part":
                await self._part_end()
            elif what == "begin":
                self._part = _Part()
            elif what == "field":
                self._header = (self._header[0] + data, self._header[1])
            elif what == "value":
                self._header = (self._header[0], self._header[1] + data)
            elif what == "header":
                self._part.headers[self._header[0].lower()] = self._header[1]
                self._header = (b"", b"")
            elif what == "headers":
                self._headers_end()
            elif what == "end":
                self._epilogue = 0

    def _headers_end(self) -> None:
        part = self._part
        _, parameters = parse_options_header(part.headers.get(b"content-disposition"))
        if b"name" not in parameters:
            raise InvalidRequest("A part of the multipart body has no name.", code="invalid_multipart")
        part.name = _text(parameters[b"name"])
        if b"filename" not in parameters:
            self._field_parts += 1
            if self._field_parts > MOST_FIELDS:
                raise TooLarge(f"A form may have at most {MOST_FIELDS} fields.", code="too_many_fields")
            return
        if part.name != "files":
            raise InvalidRequest(
                f"Files belong in the field 'files', not in {part.name[:40]!r}.", code="invalid_multipart"
            )
        self._file_begins(self._name_of_file(_text(parameters[b"filename"])))

    def _name_of_file(self, text: str) -> str:
        if self._encoded_names:
            return unquote(text, errors="replace")
        for escape, character in FORM_ESCAPES:
            text = text.replace(escape, character)
        return text

    def _file_begins(self, filename: str) -> None:
        limits = self._limits
        self._part.unnamed = not filename
        if filename:  # otherwise it may be a file input without a file, which is no file
            self._check_count()
        if len(filename) > limits.max_name_length:
            raise TooLarge(
                f"A file's name may have at most {limits.max_name_length:,} characters, not {len(filename):,}.",
                code="name_too_long",
                status=422,
            )
        self._part.filename = labels.label(filename)

    def _check_count(self) -> None:
        if len(self.files) >= self._limits.max_files:
            raise TooLarge(
                f"A job may have at most {self._limits.max_files:,} files; submit several jobs.",
                code="too_many_files",
            )

    async def _data(self, data: bytes) -> None:
        part, limits = self._part, self._limits
        part.size += len(data)
        if part.filename is None:
            if part.size > FIELD_BYTES:
                raise TooLarge(
                    f"The field {part.name[:40]!r} may have at most {FIELD_BYTES:,} bytes.", code="field_too_large"
                )
            part.buffer += data
            return
        if part.unnamed:
            self._check_count()
        self._job_bytes += len(data)
        if part.size > limits.max_file_bytes:
            raise TooLarge(
                f"{part.filename[:80]!r} is too large: a file may have at most {limits.max_file_bytes:,} bytes.",
                code="file_too_large",
            )
        if self._job_bytes > limits.max_job_bytes:
            raise TooLarge(
                f"The files of a job may have at most {limits.max_job_bytes:,} bytes together.",
                code="job_too_large",
            )
        part.buffer += data
        if len(part.buffer) > limits.memory_bytes:
            await self._write_piece(part)

    async def _write_piece(self, part: _Part) -> None:
        if part.writer is None:
            part.writer = await self._place.put_input(self._job_id, self._name(part))
        piece, part.buffer = part.buffer, bytearray()
        if self._digests:
            await anyio.to_thread.run_sync(part.digest.update, piece)
        await part.writer.write(piece)

    async def _part_end(self) -> None:
        part = self._part
        if part.filename is None:
            self.fields[part.name] = part.buffer.decode("utf-8", "replace")
            return
        if part.unnamed and part.size == 0:
            return  # a file input without a file
        name = self._name(part)
        if part.writer is not None:
            await self._write_piece(part)
            await part.writer.close()
            part.writer = None
        else:
            if self._digests:
                part.digest.update(part.buffer)
            self._group.append((name, bytes(part.buffer)))
            self._grouped_bytes += len(part.buffer)
            if self._grouped_bytes > self._limits.memory_bytes or len(self._group) >= GROUP_FILES:
                await self._write_group()
        digest = part.digest.hexdigest() if self._digests else ""
        self.files.append(Stored(part.filename, name, part.size, digest))

    async def _write_group(self) -> None:
        await self._written()
        group, self._group, self._grouped_bytes = self._group, [], 0
        if group:
            self._writing = asyncio.create_task(self._place.put_inputs(self._job_id, group))

    async def _written(self) -> None:
        """Wait until the previous group is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _let_go(self) -> None:
        """Wait until nothing is being written any more, whatever the outcome."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing.exception()

    def _name(self, part: _Part) -> str:
        assert part.filename is not None
        return stored_name(len(self.files), part.filename)

    def _skip_epilogue(self, count: int) -> None:
        self._epilogue += count
        if self._epilogue > EPILOGUE_BYTES:
            raise InvalidRequest("There is data after the end of the form.", code="invalid_multipart")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
