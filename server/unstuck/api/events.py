"""Serves the event streams: of one job, of several, of all live ones.

Must not know: what is sent, or when.
See also: streaming/hub.py (what is sent), PROTOCOL.md section 4.

It decides how a stream starts, and when a client gets another answer instead. In our own server
streaming/direct.py writes; in a host app, behind unknown middleware, sse-starlette does. No other file imports
sse-starlette, because the import patches uvicorn. Its pings are off, since the hub sends heartbeats. What it has
for the whole process stays as it is, since it belongs to the host's own streams: at the end of the server it gives
a stream of ours the time to send the hub's farewell.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress

from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from unstuck.api.context import Services, base_of, job_id_of, services_of, wants_only_progress
from unstuck.errors import JobNotFound, TooLarge
from unstuck.streaming import sse
from unstuck.streaming.direct import CONNECTION_KEY, HEADERS, DirectResponse
from unstuck.streaming.viewer import Viewer

#: Most jobs that one stream may name.
MOST_JOBS = 100
#: The delay before a client whose stream broke reconnects (milliseconds, a range).
RETRY_MS = (1_000, 3_000)
#: The time that a job's state may take, usually milliseconds; then the stream starts without it (seconds).
FIRST_S = 1.0


async def job_events(request: Request) -> ASGIApp:
    """Serve GET /api/jobs/{id}/events."""
    job_id = job_id_of(request.path_params["job_id"])
    comment = (
        f"unstuck: live progress of job {job_id}.\n"
        "Every 'job' event is the whole job; the last one has \"done\":true, then this stream ends."
    )
    return _EventStream(request, [job_id], comment, one=job_id)


async def all_events(request: Request) -> ASGIApp:
    """Serve GET /api/events/stream."""
    named = list(dict.fromkeys(job_id_of(text) for text in request.query_params.getlist("job")))
    if len(named) > MOST_JOBS:
        raise TooLarge(
            f"A stream can follow at most {MOST_JOBS} jobs; name fewer, or none to follow all.",
            code="too_many_jobs",
        )
    comment = f"unstuck: live progress of {len(named) or 'all'} job{'' if len(named) == 1 else 's'}."
    return _EventStream(request, named or None, comment)


class _EventStream:
    """A stream, or the answer that its client gets instead.

    The viewer belongs to the request's connection in our own server, and to this call in a host app: whatever
    happens between its joining and the end of the stream, it leaves.
    """

    def __init__(
        self, request: Request, job_ids: Sequence[str] | None, comment: str, *, one: str | None = None
    ) -> None:
        self._request = request
        self._job_ids = job_ids
        self._comment = comment
        self._one = one  # the one job with whose end the stream ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._request
        services = services_of(request)
        only_progress = wants_only_progress(request)
        with ExitStack() as call:
            viewer = await services.hub.join(
                scope.get(CONNECTION_KEY, call),
                self._job_ids,
                base=base_of(request),
                wants_items=request.query_params.get("items") != "0",
                only_progress=only_progress,
                ends=self._one is not None,
            )
            answer = None if self._one is None else await self._instead(viewer, self._one)
            await (answer or self._stream(services, viewer))(scope, receive, send)

    async def _instead(self, viewer: Viewer, job_id: str) -> Response | None:
        """Return another answer than a stream, if there is one. Raises JobNotFound."""
        # The hub's one read shows whether the job exists, however many viewers join at once. asyncio's timeout is
        # 6 µs cheaper than anyio's, for each of thousands of viewers that connect together.
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await viewer.wait_ready()
        if viewer.job_missing:
            raise JobNotFound(job_id)  # an ordinary 404, which curl understands
        if viewer.ended and _last_event_id(self._request) == str(viewer.newest_seq(job_id)):
            return Response(status_code=204)  # stops an EventSource permanently
        return None

    def _stream(self, services: Services, viewer: Viewer) -> Response:
        if self._request.method == "HEAD":  # answered at once, not held open for a body that never comes
            return Response(headers=HEADERS)
        opening = sse.opening(self._comment, random.randint(*RETRY_MS))  # noqa: S311 – spreads load, is no secret
        settings = services.settings
        if CONNECTION_KEY in self._request.scope:
            return DirectResponse(viewer, opening, services.flush, settings.send_timeout_s)

        async def events() -> AsyncIterator[bytes]:
            yield opening
            async for pending in viewer:
                yield pending

        return EventSourceResponse(
            events(),
            headers=HEADERS,
            ping=0,
            send_timeout=settings.send_timeout_s,
            shutdown_grace_period=settings.shutdown_s,
        )


def _last_event_id(request: Request) -> str | None:
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id")
