"""Puts it together: folder, store, hub, runner, routes. The only file that knows them all.

`create_app(settings)` is an ASGI app. Served alone, its lifespan starts and ends everything. Mounted in a
host app it gets no lifespan; there the host enters `running(app)` in its own.
"""

from __future__ import annotations

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
from unstuck.api.bodies import Bodies
from unstuck.api.context import Services, WorkerStats
from unstuck.api.middleware import SecurityMiddleware
from unstuck.errors import CannotStart, StoreUnavailable, UnstuckError
from unstuck.files.folder import DataFolder
from unstuck.files.retention import Retention, remove_orphans
from unstuck.jobs.job import HealthLimits
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.settings import Settings, load
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.direct import FlushQueue
from unstuck.streaming.host import HostServer
from unstuck.streaming.hub import Hub
from unstuck.streaming.open_files import room_for_bodies, room_for_streams
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Supervisor, supervising
from unstuck.webhooks.dispatcher import Dispatcher, WebhookConfig
from unstuck.webhooks.signature import keys
from unstuck.webhooks.targets import AllowedTargets

log = logging.getLogger("unstuck")


def create_app(settings: Settings | None = None) -> Starlette:
    """The whole server as an ASGI app; nothing is opened before it starts."""
    settings = settings or load()
    app = Starlette(
        routes=[
            Route("/api/jobs", jobs.list_jobs, methods=["GET"]),
            Route("/api/jobs", submit.submit_job, methods=["POST"]),
            Route("/api/jobs/{job_id}", jobs.get_job, methods=["GET"]),
            Route("/api/jobs/{job_id}", jobs.remove_job, methods=["DELETE"]),
            Route("/api/jobs/{job_id}/items", jobs.list_items, methods=["GET"]),
            Route("/api/jobs/{job_id}/items/{index}/result", results.item_result, methods=["GET"]),
            Route("/api/jobs/{job_id}/results", results.job_results, methods=["GET"]),
            Route("/api/jobs/{job_id}/events", streams.job_events, methods=["GET"]),
            Route("/api/jobs/{job_id}/timeline", timeline.job_timeline, methods=["GET"]),
            Route("/api/jobs/{job_id}/progress", progress.report_progress, methods=["POST"]),
            Route("/api/jobs/{job_id}/cancel", jobs.cancel_job, methods=["POST"]),
            Route("/api/jobs/{job_id}/retry", retry.retry_job, methods=["POST"]),
            Route("/api/jobs/{job_id}/rescue", operate.rescue_job, methods=["POST"]),
            Route("/api/jobs/{job_id}/fail", operate.fail_job, methods=["POST"]),
            Route("/api/events/stream", streams.all_events, methods=["GET"]),
            Route("/api/kinds", submit.list_kinds, methods=["GET"]),
            Route("/api/health", health.get_health, methods=["GET"]),
            Route("/api/health/live", health.get_live, methods=["GET"]),
            Route("/api/health/ready", health.get_ready, methods=["GET"]),
            Route("/api/openapi.json", openapi.get_openapi, methods=["GET"]),
            Route("/metrics", metrics.get_metrics, methods=["GET"]),
            Route("/", _page, methods=["GET"]),
            Mount("/static", _Static(directory=frontend())),
        ],
        middleware=[Middleware(SecurityMiddleware, allowed_hosts=settings.allowed_hosts)],
        exception_handlers={
            UnstuckError: problems.on_unstuck_error,
            HTTPException: problems.on_http_error,
            Exception: problems.on_unexpected_error,
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
        bodies = Bodies(room_for_bodies(settings.max_uploads))
        most_streams = settings.max_streams or room_for_streams(bodies.most)
        hub = Hub(store, _stream_config(settings), settings.keep_s, most=most_streams)
        runner = Runner(store, folder, _runner_config(settings))
        webhooks = Dispatcher(store, _webhook_config(settings))
        retention = Retention(store, folder, settings.keep_s, keep_inputs=bool(settings.keep_inputs))
        await remove_orphans(folder, store)
        await _recover_leases(store)
        try:
            async with supervising() as supervisor:
                supervisor.watch(store.writer_loop)
                await runner.start(supervisor)
                await webhooks.start(supervisor)
                supervisor.run("heartbeat", hub.heartbeat.tick_periodically)
                supervisor.run("first heartbeat", hub.heartbeat.greet_new_viewers)
                supervisor.run("retention", retention.run)
                supervisor.run("host", HostServer(hub).watch)
                app.state.services = Services(
                    settings=settings,
                    store=store,
                    folder=folder,
                    hub=hub,
                    flush=FlushQueue(),
                    bodies=bodies,
                    kinds=runner.kinds,
                    troubles=_troubles(runner, supervisor),
                    polls={},
                    check_webhook=webhooks.check,
                    supervisor=supervisor,
                    work=_worker_stats(runner),
                )
                try:
                    yield
                finally:
                    app.state.services = None
                    hub.announce_leaving("the server is stopping")
                    await hub.close()
        finally:
            await _stop_runner(runner)
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


def _stream_config(settings: Settings) -> StreamConfig:
    return StreamConfig(
        heartbeat_s=settings.heartbeat_s,
        interval_s=settings.interval_s,
        stream_life_s=settings.stream_life_s,
        broadcast_attempts=settings.broadcast_attempts,
        broadcast_pause_s=settings.broadcast_pause_s,
    )


def _runner_config(settings: Settings) -> RunnerConfig:
    return RunnerConfig(
        workers=settings.worker_count,
        app=settings.app,
        commands=settings.commands,
        memory_mib=settings.worker_memory,
        lease_s=settings.lease_s,
        hold_s=settings.report_hold_s,
        cancel_grace_s=settings.cancel_grace_s,
        item_limit_s=settings.item_limit_s or None,
        pause=Backoff(settings.retry_pause_s),
        limits=HealthLimits(
            waiting_long_s=settings.waiting_long_s,
            stalled_s=settings.stalled_s,
            unresponsive_s=settings.lease_s * 2 / 3,  # a lease is renewed every third of it
            reporter_silent_s=settings.reporter_silence_s,
            reporter_grace_s=settings.lease_s,
            expiry_s=settings.expiry_s or None,
        ),
    )


def _webhook_config(settings: Settings) -> WebhookConfig:
    try:
        signing = keys(settings.webhook_secret)
    except ValueError as error:
        raise CannotStart(f"UNSTUCK_WEBHOOK_SECRET cannot be used. {error}") from None
    hosts = frozenset(host.lower().rstrip(".") for host in settings.webhook_hosts)
    allowed = AllowedTargets(bool(settings.webhook_allow_private), hosts)
    return WebhookConfig(keys=signing, allowed=allowed, base=settings.root_path, keep_s=settings.keep_s)


def _worker_stats(runner: Runner) -> Callable[[], WorkerStats]:
    return lambda: WorkerStats(
        workers=runner.workers, deaths=runner.deaths, lapsed=runner.lapsed, able=runner.alive
    )


def _troubles(runner: Runner, supervisor: Supervisor) -> Callable[[], list[str]]:
    def troubles() -> list[str]:
        unable = [] if runner.trouble is None else [f"No worker can be started: {runner.trouble}"]
        return unable + supervisor.troubles

    return troubles


async def _recover_leases(store: SQLiteStore) -> None:
    """The folder is ours alone, so whoever holds an item is a server that ended."""
    swept = await anyio.to_thread.run_sync(lambda: store.sweep(HealthLimits(), everything=True))
    if swept.lapsed:
        log.info("taking up %d items that an earlier run of the server left behind", len(swept.lapsed))


async def _stop_runner(runner: Runner) -> None:
    try:
        await runner.stop()
    except StoreUnavailable as error:
        log.error("items could not be given back (%s); the next start takes them up all the same", error)
