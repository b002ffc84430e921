"""The streams of one job, of several, of all that live. PROTOCOL.md section 4.

The only file that imports sse-starlette: its import patches uvicorn, and its own pings and shutdown
watcher are switched off, since the hub beats and says farewell. What it does for us is the response
itself: headers, the watch for a client that went, and the limit on each send.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from unstuck import sse
from unstuck.errors import TooLarge
from unstuck.routes import Parts, base_of, job_id_of, parts_of

# Its shutdown flag is one for the whole process and stays set; ours is the hub's, one for each app.
AppStatus.enable_automatic_graceful_drain = False

#: Jobs that one stream may name.
MOST_JOBS = 100
#: How long a client whose stream broke waits before it comes back (milliseconds, a range).
RETRY_MS = (1_000, 3_000)


async def of_one_job(request: Request) -> Response:
    """GET /api/jobs/{id}/events"""
    parts = parts_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    job = (await parts.store.snapshot(job_id)).job  # 404 as an answer, which curl understands
    if job.done and _last_event_id(request) == str(job.seq):
        return Response(status_code=204)  # stops an EventSource for good
    words = (
        f"unstuck: live progress of job {job_id}.\n"
        "Every 'job' event is the whole job; the last one has \"done\":true, then this stream ends."
    )
    return _stream(request, parts, [job_id], words)


async def of_many(request: Request) -> Response:
    """GET /api/events/stream"""
    parts = parts_of(request)
    named = list(dict.fromkeys(job_id_of(text) for text in request.query_params.getlist("job")))
    if len(named) > MOST_JOBS:
        raise TooLarge(
            f"A stream follows {MOST_JOBS} jobs at most; name fewer, or none to follow all.",
            code="too_many_jobs",
        )
    words = f"unstuck: live progress of {len(named) or 'all'} job{'' if len(named) == 1 else 's'}."
    return _stream(request, parts, named or None, words, one=False)


def _stream(
    request: Request, parts: Parts, job_ids: Sequence[str] | None, words: str, *, one: bool = True
) -> Response:
    wants_items = request.query_params.get("items") != "0"
    base = base_of(request)

    async def events() -> AsyncIterator[bytes]:
        yield sse.opening(words, random.randint(*RETRY_MS))  # noqa: S311 – spreads, hides nothing
        async with parts.hub.viewer(job_ids, base=base, wants_items=wants_items, ends=one) as viewer:
            async for pending in viewer:
                yield pending

    return EventSourceResponse(
        events(),
        headers={"Cache-Control": "no-store, no-transform"},
        ping=0,
        send_timeout=parts.settings.send_timeout_s,
    )


def _last_event_id(request: Request) -> str | None:
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id")
