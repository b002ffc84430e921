"""Serves the results of a job: one result file, or all results as a ZIP that is made on the fly.

Must not know: how results are made.
See also: files/folder.py (where result files are), PROTOCOL.md section 3.

The ZIP holds the result files and `results.json`, with one object for each item. It is never complete in memory or
on disk; each piece is made when the one before it was sent. By then the answer has begun, so a result file that
cannot be read is left out, and the ZIP says so: in `results.json`, and in `missing.txt`.
"""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from unstuck.api.context import NO_STORE, Services, job_id_of, services_of, whole
from unstuck.api.file_response import RangedFile
from unstuck.errors import InvalidRequest, JobNotDone, JobNotFound, NotFound
from unstuck.jobs import labels
from unstuck.jobs.job import Item
from unstuck.jobs.snapshot import public_item

#: Bytes of a result file, and items of the store, that are read at a time.
PIECE_BYTES = 256 * 1024
PAGE_ITEMS = 500


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
    path = services.folder.result(job_id, item.index, item.lease, item.result_file)
    disposition = labels.content_disposition(item.result_file)
    return RangedFile(
        path,
        media_type="application/octet-stream",  # a browser saves it, and never shows it in our origin
        headers={**NO_STORE, "Content-Disposition": disposition},
    )


async def job_results(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/results."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    job = (await services.store.snapshot(job_id)).job
    if not job.done:
        raise JobNotDone(job_id)
    disposition = labels.content_disposition(f"{labels.harmless(job.kind)}-{job_id[:8]}.zip")
    return StreamingResponse(
        _zip(services, job_id),
        media_type="application/zip",
        headers={**NO_STORE, "Content-Disposition": disposition},
    )


class _Pieces:
    """A file that zipfile writes to, and that is emptied to be sent."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


async def _zip(services: Services, job_id: str) -> AsyncIterator[bytes]:
    pieces = _Pieces()
    missing: dict[int, str] = {}  # by the item's index: why its file is not here, or not whole
    removed: list[str] = []
    # Stored, not deflated: images and archives do not shrink, and the download starts at once.
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        async for item in _items(services, job_id, removed):
            if item.result_file is None:
                continue
            try:
                path = services.folder.result(job_id, item.index, item.lease, item.result_file)
                source = await anyio.to_thread.run_sync(path.open, "rb")
            except (NotFound, OSError):
                missing[item.index] = "it is no longer there"
                continue
            entry_name = f"{item.index + 1:05d}-{labels.harmless(item.result_file)}"
            with source, archive.open(entry_name, "w", force_zip64=True) as entry:
                try:
                    while piece := await anyio.to_thread.run_sync(source.read, PIECE_BYTES):
                        entry.write(piece)
                        yield pieces.take()
                except OSError as error:
                    missing[item.index] = f"its end cannot be read ({error.strerror})"
        with archive.open("results.json", "w", force_zip64=True) as entry:
            before = b"[\n"
            async for item in _items(services, job_id, removed):
                entry.write(before + _result_entry(item, job_id, missing.get(item.index)))
                before = b",\n"
                yield pieces.take()
            entry.write(b"[]\n" if before == b"[\n" else b"\n]\n")
        if missing or removed:
            with archive.open("missing.txt", "w", force_zip64=True) as entry:
                entry.write(b"These results are not here, or not whole:\n\n")
                for line in (*removed[:1], *(f"item {index}: {reason}" for index, reason in missing.items())):
                    entry.write(f"{line}\n".encode())
                    yield pieces.take()
    yield pieces.take()


def _result_entry(item: Item, job_id: str, missing: str | None) -> bytes:
    """Return an item as JSON; `missing` says why its result file is not in the ZIP, or not whole, if so."""
    shown = msgspec.structs.replace(public_item(item, job_id, ""), links=msgspec.UNSET)
    if missing is None:
        return msgspec.json.encode(shown)
    return msgspec.json.encode({**msgspec.to_builtins(shown), "missing": missing})


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
