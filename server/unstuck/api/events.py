"""The streams of one job, of several, of all that live. PROTOCOL.md section 4.

Where our own server serves, outlet.py sends; mounted in a host app, with middleware that we do not know,
sse-starlette does. This is the only file that imports it: its import patches uvicorn, and its own pings and
shutdown watcher are switched off, since the hub beats and says farewell.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api.context import Services, base_of, job_id_of, services_of
from unstuck.errors import JobNotFound, TooLarge
from unstuck.streaming import sse
from unstuck.streaming.direct import CONNECTION_KEY, HEADERS, DirectResponse
from unstuck.streaming.viewer import Viewer

# Its shutdown flag is one for the whole process and stays set; ours is the hub's, one for each app.
AppStatus.enable_automatic_graceful_drain = False

#: Jobs that one stream may name.
MOST_JOBS = 100
#: How long a client whose stream broke waits before it comes back (milliseconds, a range).
RETRY_MS = (1_000, 3_000)
#: The truth about a job is there within milliseconds; a stream whose store is slow opens without it (seconds).
FIRST_S = 1.0


async def job_events(request: Request) -> Response:
    """GET /api/jobs/{id}/events"""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    words = (
        f"unstuck: live progress of job {job_id}.\n"
        "Every 'job' event is the whole job; the last one has \"done\":true, then this stream ends."
    )
    viewer = await _join(request, services, [job_id], one=True)
    try:
        # Whether there is such a job is what the hub's one read says, however many come at once.
        async with asyncio.timeout(FIRST_S):
            await viewer.wait_ready()
    except TimeoutError:
        pass
    except BaseException:
        services.hub.leave(viewer)
        raise
    if viewer.job_missing:
        services.hub.leave(viewer)
        raise JobNotFound(job_id)  # 404 as an answer, which curl understands
    if viewer.ended and _last_event_id(request) == str(viewer.newest_seq(job_id)):
        services.hub.leave(viewer)
        return Response(status_code=204)  # stops an EventSource for good
    return _stream(request, services, viewer, words)


async def all_events(request: Request) -> Response:
    """GET /api/events/stream"""
    services = services_of(request)
    named = list(dict.fromkeys(job_id_of(text) for text in request.query_params.getlist("job")))
    if len(named) > MOST_JOBS:
        raise TooLarge(
            f"A stream follows {MOST_JOBS} jobs at most; name fewer, or none to follow all.",
            code="too_many_jobs",
        )
    words = f"unstuck: live progress of {len(named) or 'all'} job{'' if len(named) == 1 else 's'}."
    return _stream(request, services, await _join(request, services, named or None, one=False), words)


async def _join(request: Request, services: Services, job_ids: Sequence[str] | None, *, one: bool) -> Viewer:
    wants_items = request.query_params.get("items") != "0"
    return await services.hub.join(job_ids, base=base_of(request), wants_items=wants_items, ends=one)


def _stream(request: Request, services: Services, viewer: Viewer, words: str) -> Response:
    if request.method == "HEAD":  # whoever asks for the head alone is not kept waiting for a body that never comes
        services.hub.leave(viewer)
        return Response(headers=HEADERS)
    opening = sse.opening(words, random.randint(*RETRY_MS))  # noqa: S311 – spreads, hides nothing
    limit_s = services.settings.send_timeout_s
    if CONNECTION_KEY in request.scope:
        return DirectResponse(viewer, opening, services.hub, services.flush, limit_s)

    async def events() -> AsyncIterator[bytes]:
        try:
            yield opening
            async for pending in viewer:
                yield pending
        finally:
            services.hub.leave(viewer)

    return EventSourceResponse(events(), headers=HEADERS, ping=0, send_timeout=limit_s)


def _last_event_id(request: Request) -> str | None:
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id")
