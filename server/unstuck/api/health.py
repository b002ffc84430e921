"""Is it alive, can it work, and how does it do? For load balancers, and for people at three at night."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from unstuck import __version__
from unstuck.api.context import answer, parts_of
from unstuck.errors import StoreUnavailable


async def live(_: Request) -> Response:
    """GET /api/health/live – the process answers."""
    return answer({"status": "ok"})


async def ready(request: Request) -> Response:
    """GET /api/health/ready – the store takes a durable write, and work can be done; 503 otherwise."""
    parts = parts_of(request)
    troubles = parts.troubles()
    try:
        await parts.store.check()
    except StoreUnavailable as error:
        troubles.append(error.detail)
    status = "unavailable" if troubles else "ok"
    return answer({"status": status, "troubles": troubles}, 503 if troubles else 200)


async def details(request: Request) -> Response:
    """GET /api/health – queue, jobs, streams and rescues in numbers."""
    parts = parts_of(request)
    overview = await parts.store.overview()
    counts, work = parts.hub.counts, parts.work()
    troubles = parts.troubles()
    if parts.store.trouble is not None:
        troubles.append(f"The store cannot be written: {parts.store.trouble}.")
    return answer(
        {
            "status": "unavailable" if troubles else "ok",
            "version": __version__,
            "troubles": troubles,
            "workers": {"alive": work.workers, "deaths": work.deaths, "leases_lapsed": work.lapsed},
            "queue": {
                "waiting_items": overview.waiting_items,
                "running_items": overview.leased_items,
                "oldest_wait_seconds": overview.oldest_wait_s,
            },
            "jobs": {"by_state": overview.by_state, "by_health": overview.by_health},
            "webhooks": overview.webhooks,
            "streams": {
                "open": parts.hub.streams,
                "jobs_watched": parts.hub.watched,
                "opened": counts.opened,
                "refused": counts.refused,
                "broadcasts": counts.broadcasts,
                "broadcast_retries": counts.broadcast_retries,
                "broadcast_failures": counts.broadcast_failures,
                "rescues": counts.rescues,
            },
            "polls": parts.polls,
        }
    )
