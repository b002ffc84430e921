"""Serves the timeline of a job.

See also: jobs/timeline.py (its entries), PROTOCOL.md section 3.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from unstuck import wire
from unstuck.api.context import int_param, job_id_of, json_response, services_of
from unstuck.jobs.snapshot import rfc3339
from unstuck.jobs.timeline import Entry

#: Entries in one answer: by default, and at most. A store keeps hardly more for a job.
SHOWN, MOST = 200, 2_000


async def job_timeline(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/timeline."""
    job_id = job_id_of(request.path_params["job_id"])
    limit = int_param(request, "limit", SHOWN, least=1, most=MOST)
    found = await services_of(request).store.timeline(job_id, limit + 1)
    entries = [public_entry(entry) for entry in found[-limit:]]
    return json_response(wire.Timeline(entries=entries, more=len(found) > limit))


def public_entry(entry: Entry) -> wire.Entry:
    """Return the entry as it is sent."""
    return wire.Entry(
        at=rfc3339(entry.at),
        what=entry.what,
        text=entry.text,
        item=None if entry.index is None else wire.EntryItem(index=entry.index, name=entry.name),
        attempt=entry.attempt,
        worker=entry.worker,
    )
