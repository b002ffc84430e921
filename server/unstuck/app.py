"""Puts it together: folder, store, hub, runner, routes. The only file that knows them all.

`create_app(settings)` is an ASGI app. Served alone, its lifespan starts and ends everything. Mounted in a
host app it gets no lifespan; there the host enters `running(app)` in its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from unstuck.api import events as streams
from unstuck.api import health, jobs, metrics, openapi, problems, results, retry, submit, timeline
from unstuck.api import operator as operate
from unstuck.api import reports as progress
from unstuck.api.context import Parts, Work
from unstuck.api.middleware import Guard
from unstuck.backoff import Backoff
from unstuck.errors import CannotStart, StoreUnavailable, UnstuckError
from unstuck.files.folder import DataFolder
from unstuck.files.retention import Retention, remove_litter
from unstuck.jobs.job import Alarms
from unstuck.runner.runner import Crew, Runner
from unstuck.settings import Settings, load
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.config import Pace
from unstuck.streaming.direct import Flush
from unstuck.streaming.hub import Hub
from unstuck.streaming.open_files import room_for_streams
from unstuck.webhooks.dispatcher import Terms, Webhooks
from unstuck.webhooks.signature import keys
from unstuck.webhooks.targets import Allowed

log = logging.getLogger("unstuck")


def create_app(settings: Settings | None = None) -> Starlette:
    """The whole server as an ASGI app; nothing is opened before it starts."""
    settings = settings or load()
    app = Starlette(
        routes=[
            Route("/api/jobs", jobs.listed, methods=["GET"]),
            Route("/api/jobs", submit.submit, methods=["POST"]),
            Route("/api/jobs/{job_id}", jobs.one, methods=["GET"]),
            Route("/api/jobs/{job_id}", jobs.remove, methods=["DELETE"]),
            Route("/api/jobs/{job_id}/items", jobs.items, methods=["GET"]),
            Route("/api/jobs/{job_id}/items/{index}/result", results.of_item, methods=["GET"]),
            Route("/api/jobs/{job_id}/results", results.of_job, methods=["GET"]),
            Route("/api/jobs/{job_id}/events", streams.of_one_job, methods=["GET"]),
            Route("/api/jobs/{job_id}/timeline", timeline.of_job, methods=["GET"]),
            Route("/api/jobs/{job_id}/progress", progress.report, methods=["POST"]),
            Route("/api/jobs/{job_id}/cancel", jobs.cancel, methods=["POST"]),
            Route("/api/jobs/{job_id}/retry", retry.retry, methods=["POST"]),
            Route("/api/jobs/{job_id}/rescue", operate.rescue, methods=["POST"]),
            Route("/api/jobs/{job_id}/fail", operate.fail, methods=["POST"]),
            Route("/api/events/stream", streams.of_many, methods=["GET"]),
            Route("/api/kinds", submit.kinds, methods=["GET"]),
            Route("/api/health", health.details, methods=["GET"]),
            Route("/api/health/live", health.live, methods=["GET"]),
            Route("/api/health/ready", health.ready, methods=["GET"]),
            Route("/api/openapi.json", openapi.description, methods=["GET"]),
            Route("/metrics", metrics.metrics, methods=["GET"]),
            Route("/", _page, methods=["GET"]),
            Mount("/static", _Static(directory=frontend())),
        ],
        middleware=[Middleware(Guard, allowed_hosts=settings.allowed_hosts)],
        exception_handlers={
            UnstuckError: problems.ours,
            HTTPException: problems.of_the_framework,
            Exception: problems.unexpected,
        },
        lifespan=running,
    )
    app.state.settings = settings
    return app


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[None]:
    """Everything open and at work while inside. Raises CannotStart, and then nothing is left open."""
    settings: Settings = app.state.settings
    folder = DataFolder(settings.folder)
    await anyio.to_thread.run_sync(folder.open)
    store = SQLiteStore(folder.database, steady=time.monotonic)
    try:
        await store.open()
        hub = Hub(store, _pace(settings), settings.keep_s, most=settings.max_streams or room_for_streams())
        runner = Runner(store, folder, _crew(settings))
        webhooks = Webhooks(store, _terms(settings))
        await remove_litter(folder, store)
        await _take_up(store)
        try:
            await runner.start()
            await webhooks.start()
            beating = asyncio.create_task(hub.beats.run(), name="heartbeat")
            retention = Retention(store, folder, settings.keep_s, keep_inputs=bool(settings.keep_inputs))
            expiring = asyncio.create_task(retention.run(), name="retention")
            troubles = _troubles(runner)
            app.state.parts = Parts(
                settings=settings,
                store=store,
                folder=folder,
                hub=hub,
                flush=Flush(),
                kinds=runner.kinds,
                troubles=troubles,
                polls={},
                check_webhook=webhooks.check,
                work=_work(runner),
            )
            try:
                yield
            finally:
                app.state.parts = None
                hub.leave("the server is stopping")
                beating.cancel()
                expiring.cancel()
                await asyncio.gather(hub.close(), webhooks.stop(), beating, expiring, return_exceptions=True)
        finally:
            await _stop(runner)
    finally:
        await store.close()
        folder.close()


def frontend() -> Path:
    """The browser's files: inside the wheel, or beside the server's folder in a checkout."""
    inside = Path(__file__).parent / "frontend"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "frontend"


class _Static(StaticFiles):
    """Revalidated at every load, so that a page never mixes the files of two versions."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _page(_: Request) -> Response:
    return FileResponse(frontend() / "index.html", headers={"Cache-Control": "no-cache"})


def _pace(settings: Settings) -> Pace:
    return Pace(
        heartbeat_s=settings.heartbeat_s,
        interval_s=settings.interval_s,
        stream_life_s=settings.stream_life_s,
        broadcast_attempts=settings.broadcast_attempts,
        broadcast_pause_s=settings.broadcast_pause_s,
    )


def _crew(settings: Settings) -> Crew:
    return Crew(
        workers=settings.worker_count,
        app=settings.app,
        commands=settings.commands,
        memory_mib=settings.worker_memory,
        lease_s=settings.lease_s,
        hold_s=settings.report_hold_s,
        cancel_grace_s=settings.cancel_grace_s,
        item_limit_s=settings.item_limit_s or None,
        pause=Backoff(settings.retry_pause_s),
        alarms=Alarms(
            waiting_long_s=settings.waiting_long_s,
            stalled_s=settings.stalled_s,
            unresponsive_s=settings.lease_s * 2 / 3,  # a lease is renewed every third of it
            reporter_silent_s=settings.reporter_silence_s,
            reporter_grace_s=settings.lease_s,
            expiry_s=settings.expiry_s or None,
        ),
    )


def _terms(settings: Settings) -> Terms:
    try:
        signing = keys(settings.webhook_secret)
    except ValueError as error:
        raise CannotStart(f"UNSTUCK_WEBHOOK_SECRET cannot be used. {error}") from None
    hosts = frozenset(host.lower().rstrip(".") for host in settings.webhook_hosts)
    allowed = Allowed(bool(settings.webhook_allow_private), hosts)
    return Terms(keys=signing, allowed=allowed, base=settings.root_path, keep_s=settings.keep_s)


def _work(runner: Runner) -> Callable[[], Work]:
    return lambda: Work(workers=runner.workers, deaths=runner.deaths, lapsed=runner.lapsed)


def _troubles(runner: Runner):  # type: ignore[no-untyped-def]
    def troubles() -> list[str]:
        if runner.trouble is not None:
            return [f"No worker can be started: {runner.trouble}"]
        return [] if runner.alive else ["The runner has stopped; restart the server. Its log says why."]

    return troubles


async def _take_up(store: SQLiteStore) -> None:
    """The folder is ours alone, so whoever holds an item is a server that ended."""
    swept = await anyio.to_thread.run_sync(lambda: store.sweep(Alarms(), everything=True))
    if swept.lapsed:
        log.info("taking up %d items that an earlier run of the server left behind", len(swept.lapsed))


async def _stop(runner: Runner) -> None:
    try:
        await runner.stop()
    except StoreUnavailable as error:
        log.error("items could not be given back (%s); the next start takes them up all the same", error)
