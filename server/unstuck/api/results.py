"""Serves the results of a job: one result file, or all results as a ZIP that is made on the fly.

Must not know: how results are made.
See also: files/protocol.py (where result files are), PROTOCOL.md section 3.

The ZIP holds the result files and `results.json`, with one object for each item. It is never complete in memory or
on disk; each piece is made when the one before it was sent. By then the answer has begun, so a result file that
cannot be read is left out, and the ZIP says so: in `results.json`, and in `missing.txt`. For the same reason the
length is told only of a ZIP that is small enough to be made before it is sent.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from unstuck.api.context import NO_STORE, Services, job_id_of, services_of, whole
from unstuck.api.file_response import RangedFile
from unstuck.api.zip_stream import Names, ZipStream
from unstuck.errors import InvalidRequest, JobNotDone, JobNotFound, NotFound
from unstuck.files.local import size_and_checksum
from unstuck.files.protocol import ResultReader
from unstuck.jobs import labels
from unstuck.jobs.job import Item
from unstuck.jobs.snapshot import public_item

#: Bytes of a result file, and items of the store, that are read at a time.
PIECE_BYTES = 256 * 1024
PAGE_ITEMS = 500
#: Bytes of a ZIP that are made before the first one is sent.
AHEAD_BYTES = 4 * 1024 * 1024
#: Bytes of `results.json` that are held in memory; the rest is in a temporary file until it is sent.
LIST_BYTES = 1024 * 1024


async def item_result(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/items/{index}/result."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    text = request.path_params["index"]
    index = whole(text)
    if index is None:
        raise InvalidRequest(f"An item's index must be a whole number, not {text[:40]!r}.")
    item = await services.store.item(job_id, index)
    if item is None:
        raise NotFound(f"Job {job_id} has no item {index}.")
    if item.result_file is None:
        raise NotFound(f"Item {index} of job {job_id} is {item.state} and has no result file.")
    key = job_id, item.index, item.lease, item.result_file
    place = await services.files.locate_result(*key)
    if isinstance(place, str):
        return RedirectResponse(place, 302, headers=NO_STORE)
    headers = {**NO_STORE, "Content-Disposition": labels.content_disposition(item.result_file)}
    media_type = "application/octet-stream"  # a browser saves it, and never shows it in our origin
    if place is not None:
        return RangedFile(place, media_type=media_type, headers=headers)
    return StreamingResponse(
        _pieces(await services.files.open_result(*key)), media_type=media_type, headers=headers
    )


async def job_results(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/results."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    job = (await services.store.snapshot(job_id)).job
    if not job.done:
        raise JobNotDone(job_id)
    disposition = labels.content_disposition(f"{labels.harmless(job.kind)}-{job_id[:8]}.zip")
    headers = {**NO_STORE, "Content-Disposition": disposition}
    pieces = _zip(services, job_id, job.finished_at or 0.0)
    begun, whole = await _make_ahead(pieces)
    if whole:
        return Response(begun, media_type="application/zip", headers=headers)
    if request.method == "HEAD":  # nothing of the rest is made
        await pieces.aclose()
    return StreamingResponse(_continue(begun, pieces), media_type="application/zip", headers=headers)


async def _make_ahead(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Return what begins the ZIP, and whether that is all of it."""
    begun = bytearray()
    async for piece in pieces:
        begun += piece
        if len(begun) > AHEAD_BYTES:
            return bytes(begun), False
    return bytes(begun), True


async def _continue(begun: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in pieces:
        yield piece


async def _zip(services: Services, job_id: str, finished_at: float) -> AsyncGenerator[bytes, None]:
    archive = ZipStream()
    names = Names("results.json", "missing.txt")
    files: dict[int, str] = {}  # by the item's index: the name of its file here
    missing: dict[int, str] = {}  # by the item's index: why its file is not here
    removed: list[str] = []
    async for item in _items(services, job_id, removed):
        if item.result_file is None:
            continue
        try:
            source = await services.files.open_result(job_id, item.index, item.lease, item.result_file)
        except NotFound:
            missing[item.index] = "it is no longer there"
            continue
        except OSError as error:
            missing[item.index] = f"it cannot be read ({error.strerror})"
            continue
        files[item.index] = names.unique(labels.unpackable(item.result_file))
        try:
            yield archive.begin(files[item.index], item.finished_at or finished_at, source.known)
            try:
                while piece := await source.read(PIECE_BYTES):
                    yield archive.pack(piece)
            except OSError as error:
                if source.known is not None:
                    raise  # its size was told, and it was readable a moment ago: cut the download off
                missing[item.index] = f"its end cannot be read ({error.strerror})"
        finally:
            await source.close()
        yield archive.finish()
    with tempfile.SpooledTemporaryFile(LIST_BYTES) as listed:
        before = b"[\n"
        async for item in _items(services, job_id, removed):
            listed.write(before + _result_entry(item, job_id, files.get(item.index), missing.get(item.index)))
            before = b",\n"
        listed.write(b"[]\n" if before == b"[\n" else b"\n]\n")
        listed.seek(0)
        yield archive.begin("results.json", finished_at, size_and_checksum(listed))
        while piece := listed.read(PIECE_BYTES):
            yield archive.pack(piece)
        yield archive.finish()
    if missing or removed:
        lines = [*removed[:1], *(f"item {index}: {reason}" for index, reason in missing.items())]
        note = "These results are not here, or not whole:\n\n" + "".join(f"{line}\n" for line in lines)
        yield archive.begin("missing.txt", finished_at, (len(note.encode()), zlib.crc32(note.encode())))
        yield archive.pack(note.encode())
    yield archive.end()


async def _pieces(source: ResultReader) -> AsyncIterator[bytes]:
    try:
        while piece := await source.read(PIECE_BYTES):
            yield piece
    finally:
        await source.close()


def _result_entry(item: Item, job_id: str, file: str | None, missing: str | None) -> bytes:
    """Return an item as JSON with the name of its file in the ZIP, or why it is not there or not whole."""
    shown = msgspec.structs.replace(public_item(item, job_id, ""), links=msgspec.UNSET)
    more = {name: value for name, value in (("file", file), ("missing", missing)) if value is not None}
    return msgspec.json.encode({**msgspec.to_builtins(shown), **more} if more else shown)


async def _items(services: Services, job_id: str, removed: list[str]) -> AsyncIterator[Item]:
    """Yield the job's items; if the job is removed meanwhile, end early and put a sentence into `removed`."""
    after = -1
    try:
        while page := await services.store.items(job_id, after_index=after, limit=PAGE_ITEMS):
            for item in page:
                yield item
            after = page[-1].index
    except JobNotFound:
        removed.append(f"The job was removed while this was being sent, from item {after + 1} on.")
