"""Serves the event streams: of one job, of several, of all live ones.

Must not know: what is sent, or when.
See also: streaming/hub.py (what is sent), PROTOCOL.md section 4.

It decides how a stream starts, and when a client gets another answer instead. In our own server
streaming/direct.py writes; in a host app, behind unknown middleware, sse-starlette does. No other file imports
sse-starlette, because the import patches uvicorn. Its pings and its shutdown watcher are off, since the hub sends
heartbeats and farewells.
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

# sse-starlette's shutdown flag belongs to the whole process and stays set; the hub has one for each app.
AppStatus.enable_automatic_graceful_drain = False

#: Most jobs that one stream may name.
MOST_JOBS = 100
#: The delay before a client whose stream broke reconnects (milliseconds, a range).
RETRY_MS = (1_000, 3_000)
#: The time that a job's state may take, usually milliseconds; then the stream starts without it (seconds).
FIRST_S = 1.0


async def job_events(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/events."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    comment = (
        f"unstuck: live progress of job {job_id}.\n"
        "Every 'job' event is the whole job; the last one has \"done\":true, then this stream ends."
    )
    viewer = await _join(request, services, [job_id], one=True)
    try:
        # The hub's one read shows whether the job exists, however many viewers join at once. asyncio's timeout is
        # 6 µs cheaper than anyio's, for each of thousands of viewers that connect together.
        async with asyncio.timeout(FIRST_S):
            await viewer.wait_ready()
    except TimeoutError:
        pass
    except BaseException:
        services.hub.leave(viewer)
        raise
    if viewer.job_missing:
        services.hub.leave(viewer)
        raise JobNotFound(job_id)  # an ordinary 404, which curl understands
    if viewer.ended and _last_event_id(request) == str(viewer.newest_seq(job_id)):
        services.hub.leave(viewer)
        return Response(status_code=204)  # stops an EventSource permanently
    return _stream(request, services, viewer, comment)


async def all_events(request: Request) -> Response:
    """Serve GET /api/events/stream."""
    services = services_of(request)
    named = list(dict.fromkeys(job_id_of(text) for text in request.query_params.getlist("job")))
    if len(named) > MOST_JOBS:
        raise TooLarge(
            f"A stream can follow at most {MOST_JOBS} jobs; name fewer, or none to follow all.",
            code="too_many_jobs",
        )
    comment = f"unstuck: live progress of {len(named) or 'all'} job{'' if len(named) == 1 else 's'}."
    return _stream(request, services, await _join(request, services, named or None, one=False), comment)


async def _join(request: Request, services: Services, job_ids: Sequence[str] | None, *, one: bool) -> Viewer:
    wants_items = request.query_params.get("items") != "0"
    return await services.hub.join(job_ids, base=base_of(request), wants_items=wants_items, ends=one)


def _stream(request: Request, services: Services, viewer: Viewer, comment: str) -> Response:
    if request.method == "HEAD":  # answered at once, not held open for a body that never comes
        services.hub.leave(viewer)
        return Response(headers=HEADERS)
    opening = sse.opening(comment, random.randint(*RETRY_MS))  # noqa: S311 – spreads load, is no secret
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
