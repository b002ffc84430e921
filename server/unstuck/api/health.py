"""Serves the server's health: whether it is alive, whether it can work, and how it is doing.

See also: metrics.py (the same for Prometheus), PROTOCOL.md section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.requests import Request
from starlette.responses import Response

from unstuck import __version__, wire
from unstuck.api.context import json_response, services_of
from unstuck.errors import StoreUnavailable


async def get_live(_: Request) -> Response:
    """Serve GET /api/health/live: the process answers."""
    return json_response(wire.Alive(status="ok"))


async def get_ready(request: Request) -> Response:
    """Serve GET /api/health/ready: 503 unless the store takes a durable write and work can be done."""
    services = services_of(request)
    unwritable: list[str] = []
    try:
        await services.store.check_writable()
    except StoreUnavailable as error:
        unwritable = [error.detail]
    troubles = services.troubles() + unwritable  # a writer that fails during this very write is in both
    if not unwritable and services.store.trouble is not None:
        troubles.append(f"The store cannot be written: {services.store.trouble}.")
    status = "unavailable" if troubles else "ok"
    return json_response(wire.Ready(status=status, troubles=troubles), 503 if troubles else 200)


async def get_health(request: Request) -> Response:
    """Serve GET /api/health: queue, jobs, streams and rescues in numbers."""
    services = services_of(request)
    overview = await services.store.overview()
    counts, work = services.hub.stats, services.work()
    troubles = services.troubles()
    if services.store.trouble is not None:
        troubles.append(f"The store cannot be written: {services.store.trouble}.")
    return json_response(
        wire.ServerHealth(
            status="unavailable" if troubles else "ok",
            version=__version__,
            troubles=[
                *troubles,
                *_left_to_others(overview.waiting_by_kind, work.kinds),
                *_left_elsewhere(overview.waiting_items, services.door.workers, own=work.own),
            ],
            workers=wire.WorkerHealth(
                alive=work.workers,
                deaths=work.deaths,
                leases_lapsed=work.lapsed,
                elsewhere=services.door.workers,
            ),
            queue=wire.QueueHealth(
                waiting_items=overview.waiting_items,
                running_items=overview.leased_items,
                oldest_wait_seconds=overview.oldest_wait_s,
            ),
            jobs=wire.StoredJobs(
                by_state=overview.by_state, by_health=overview.by_health, unreadable=overview.unreadable
            ),
            webhooks=overview.webhooks,
            streams=wire.StreamHealth(
                open=services.hub.streams,
                jobs_watched=services.hub.watched,
                opened=counts.opened,
                refused=counts.refused,
                broadcasts=counts.broadcasts,
                broadcast_retries=counts.broadcast_retries,
                broadcast_failures=counts.broadcast_failures,
                rescues=counts.rescues,
            ),
            polls=services.polls,
        )
    )


def _left_to_others(waiting: Mapping[str, int], known: Collection[str]) -> list[str]:
    """Say which kinds wait for a server that knows them. That does not make this one unavailable."""
    return [
        f"No worker here knows the kind {kind[:40]!r}, and {count} {'job waits' if count == 1 else 'jobs wait'} "
        "for it: start a server that has it, or cancel what is not wanted."
        for kind, count in sorted(waiting.items())
        if kind not in known
    ]


def _left_elsewhere(waiting: int, elsewhere: int, *, own: bool) -> list[str]:
    """Say that work waits for workers elsewhere, where none came lately. The server itself is well."""
    if own or elsewhere or not waiting:
        return []
    return [
        "This server has no workers of its own (UNSTUCK_OWN_WORKERS=0), and none elsewhere has asked for work "
        f"lately: {waiting} {'item waits' if waiting == 1 else 'items wait'}. Start one with: unstuck work."
    ]
