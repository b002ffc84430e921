"""Serves the errors of all failed items of a job as one CSV file (RFC 4180), which is made on the fly.

Must not know: why an item failed.
See also: jobs.py (pages of items, as JSON), PROTOCOL.md section 3.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from unstuck.api.context import NO_STORE, job_id_of, services_of
from unstuck.errors import JobNotFound
from unstuck.jobs import labels
from unstuck.jobs.job import Item, ItemState
from unstuck.jobs.snapshot import rfc3339
from unstuck.store.protocol import Store

#: Items that are read at a time.
PAGE_ITEMS = 500
COLUMNS = ("index", "name", "code", "message", "attempt", "worker", "finished_at")
#: Spreadsheets take a cell that begins with one of these for a formula, which may send other cells away.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


async def job_errors(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/errors."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    job = (await services.store.snapshot(job_id)).job
    disposition = labels.content_disposition(f"{labels.harmless(job.kind)}-{job_id[:8]}-errors.csv")
    return StreamingResponse(
        () if request.method == "HEAD" else _lines(services.store, job_id),
        media_type="text/csv",
        headers={**NO_STORE, "Content-Disposition": disposition},
    )


async def _lines(store: Store, job_id: str) -> AsyncIterator[str]:
    yield _encode([COLUMNS])
    after = -1
    try:
        while page := await store.items(job_id, states=[ItemState.FAILED], after_index=after, limit=PAGE_ITEMS):
            yield _encode([_row(item) for item in page])
            after = page[-1].index
    except JobNotFound:
        # The answer has begun: only its end can still say that it is not whole.
        note = f"The job was removed while this was being sent, from item {after + 1} on."
        yield _encode([("", "", "job_not_found", note, "", "", "")])


def _row(item: Item) -> Sequence[str]:
    code, message = (item.error.code, item.error.message) if item.error else ("failed", item.message)
    texts = (item.name, code, message or "", str(item.attempt), item.worker or "", rfc3339(item.finished_at) or "")
    return [str(item.index), *(_text(one) for one in texts)]


def _text(text: str) -> str:
    """Return the text as spreadsheets show it: with an apostrophe in front if it looks like a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _encode(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
