"""Puts everything together: folder, store, hub, runner, routes. It is the only file that knows them all.

Must not know: uvicorn, sockets, signals.
See also: serve.py (the server around the app), api/context.py (what the routes see of it).

`create_app(settings)` returns an ASGI app. Served alone, its lifespan starts and ends everything. Mounted in a
host app it gets no lifespan; there the host enters `running(app)` in its own lifespan.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from unstuck import __version__
from unstuck.api import events as streams
from unstuck.api import (
    health,
    item_errors,
    jobs,
    metrics,
    openapi,
    problems,
    results,
    retry,
    submit,
    timeline,
    work,
)
from unstuck.api import operator as operate
from unstuck.api import reports as progress
from unstuck.api.bodies import Bodies
from unstuck.api.context import Services, WorkerStats
from unstuck.api.door import Door
from unstuck.api.middleware import SecurityMiddleware
from unstuck.api.page import routes_of
from unstuck.api.resource import compressed, resource
from unstuck.errors import CannotStart, StoreUnavailable, UnstuckError
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.files.protocol import Files
from unstuck.files.retention import Retention
from unstuck.jobs.job import HealthLimits, State
from unstuck.kinds.declare import app_of, declared
from unstuck.kinds.option import KindInfo
from unstuck.runner.runner import Runner, RunnerConfig, fresh_name
from unstuck.settings import Settings, load
from unstuck.store.protocol import Changes
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

#: The path of what a worker on another machine holds.
LEASE = "/api/work/{job_id}/items/{index}/leases/{lease}"


def create_app(settings: Settings | None = None, **given: Any) -> Starlette:
    """Return the whole server as an ASGI app; nothing is opened before its lifespan starts.

    Without `settings` they are read from the environment; those that are `given` by name take precedence:
    `create_app(data="/var/lib/shop/jobs", workers=2)`. Raises CannotStart if one of them is invalid.
    """
    settings = load(given) if settings is None else replace(settings, **given)
    app = Starlette(
        routes=[
            compressed(resource("/api/jobs", GET=jobs.list_jobs, POST=submit.submit_job)),
            resource("/api/jobs/{job_id}", GET=jobs.get_job, DELETE=jobs.remove_job),
            compressed(resource("/api/jobs/{job_id}/items", GET=jobs.list_items)),
            resource("/api/jobs/{job_id}/items/{index}/result", GET=results.item_result),
            resource("/api/jobs/{job_id}/results", GET=results.job_results),
            resource("/api/jobs/{job_id}/errors", GET=item_errors.job_errors),
            resource("/api/jobs/{job_id}/events", GET=streams.job_events),
            compressed(resource("/api/jobs/{job_id}/timeline", GET=timeline.job_timeline)),
            resource("/api/jobs/{job_id}/progress", POST=progress.report_progress),
            resource("/api/jobs/{job_id}/cancel", POST=jobs.cancel_job),
            resource("/api/jobs/{job_id}/retry", POST=retry.retry_job),
            resource("/api/jobs/{job_id}/rescue", POST=operate.rescue_job),
            resource("/api/jobs/{job_id}/fail", POST=operate.fail_job),
            resource("/api/events/stream", GET=streams.all_events),
            compressed(resource("/api/kinds", GET=submit.list_kinds)),
            resource("/api/work", GET=work.get_work),
            compressed(resource("/api/work/claim", POST=work.claim)),
            resource("/api/work/report", POST=work.report),
            resource(f"{LEASE}/input", GET=work.get_input),
            resource(f"{LEASE}/output", PUT=work.put_output),
            resource("/api/health", GET=health.get_health),
            resource("/api/health/live", GET=health.get_live),
            resource("/api/health/ready", GET=health.get_ready),
            compressed(resource("/api/openapi.json", GET=openapi.get_openapi)),
            resource("/metrics", GET=metrics.get_metrics),
            *routes_of(frontend()),
        ],
        middleware=[Middleware(SecurityMiddleware, allowed_hosts=settings.allowed_hosts)],
        exception_handlers={
            UnstuckError: problems.on_unstuck_error,
            HTTPException: problems.on_http_error,
            ClientDisconnect: problems.on_client_gone,
            Exception: problems.on_unexpected_error,
        },
        lifespan=running,
    )
    app.state.settings = settings
    return app


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[None]:
    """Start everything on entry, and stop it on exit. Raises CannotStart, and then leaves nothing open."""
    settings: Settings = app.state.settings
    folder = DataFolder(settings.folder)
    await anyio.to_thread.run_sync(folder.open)
    store = SQLiteStore(folder.database, steady=time.monotonic)
    files: Files = LocalFiles(folder, settings.worker_count)
    try:
        await store.open()
        store.on_commit(_log_failed_jobs)
        bodies = Bodies(room_for_bodies(settings.max_uploads))
        most_streams = settings.max_streams or room_for_streams(bodies.most)
        hub = Hub(store, _stream_config(settings), settings.keep_s, most=most_streams)
        config = _runner_config(settings)
        runner = Runner(store, files, config)
        webhooks = Dispatcher(store, _webhook_config(settings))
        retention = Retention(store, files, settings.keep_s, keep_inputs=bool(settings.keep_inputs))
        await files.open(store)
        await _recover_leases(store, folder.database, files, config.name)
        if store.trouble is not None:
            await _make_room(retention)
        try:
            async with supervising() as supervisor:
                supervisor.watch(store.writer_loop)
                await runner.start(supervisor)
                await webhooks.start(supervisor)
                supervisor.run("heartbeat", hub.heartbeat.tick_periodically)
                supervisor.run("first heartbeat", hub.heartbeat.greet_new_viewers)
                supervisor.run("catch-up", hub.catch_up.run)
                supervisor.run("retention", retention.run)
                supervisor.run("host", HostServer(hub).watch)
                app.state.services = Services(
                    settings=settings,
                    store=store,
                    files=files,
                    hub=hub,
                    flush=FlushQueue(),
                    bodies=bodies,
                    kinds=runner.kinds,
                    troubles=_troubles(runner, supervisor),
                    polls={},
                    check_webhook=webhooks.check,
                    supervisor=supervisor,
                    door=Door(store, settings.lease_s, runner.discard_output),
                    work=_worker_stats(runner),
                )
                log.info(
                    "Server started: version=%s data=%s workers=%d name=%s",
                    __version__,
                    folder.root,
                    config.workers,
                    config.name,
                )
                if not (runner.has_workers or settings.work_token):
                    log.warning("No work is done here: set UNSTUCK_WORK_TOKEN to let workers elsewhere in")
                _log_unknown_kinds(runner.kinds)
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
        await files.close()
        folder.close()
    log.info("Server stopped: data=%s", folder.root)


def _log_unknown_kinds(known: Mapping[str, KindInfo]) -> None:
    """Log the kinds that the host app declares, but that the workers do not load."""
    for name in declared.keys() - known.keys():
        log.warning(
            "Kind is declared here and unknown to the workers, set UNSTUCK_APP to its module: kind=%s module=%s",
            name,
            app_of(name),
        )


def frontend() -> Path:
    """Return the folder of the browser's files: inside the wheel, or beside the server's folder in a checkout."""
    inside = Path(__file__).parent / "frontend"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "frontend"


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
        name=settings.server_name or fresh_name(),
        workers=settings.worker_count if settings.own_workers else 0,
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
            reporter_lost_s=settings.reporter_lost_s or None,
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
        workers=runner.workers,
        deaths=runner.deaths,
        lapsed=runner.lapsed,
        able=runner.alive,
        kinds=runner.able_kinds,
        own=runner.has_workers,
    )


def _troubles(runner: Runner, supervisor: Supervisor) -> Callable[[], list[str]]:
    def troubles() -> list[str]:
        unable = [] if runner.trouble is None else [f"No worker can be started: {runner.trouble}"]
        return unable + supervisor.troubles

    return troubles


async def _recover_leases(store: SQLiteStore, database: Path, files: Files, name: str) -> None:
    """End the leases of an earlier run of this server."""
    try:
        swept = await anyio.to_thread.run_sync(partial(store.sweep, HealthLimits(), ended=name))
    except StoreUnavailable as error:
        raise CannotStart(f"The database {database} cannot be written: {error.__cause__}.") from error
    if swept.lapsed:
        await files.remove_outputs(swept.lapsed)  # what fails is removed with its job
        log.info("Items of an earlier run of the server were taken back: items=%d", len(swept.lapsed))


async def _make_room(retention: Retention) -> None:
    """Remove what has expired before anything else is written, since the disk is full."""
    try:
        await retention.expire()
    except StoreUnavailable as error:
        log.warning("No room could be made on the full disk: error=%s", error)


async def _stop_runner(runner: Runner) -> None:
    try:
        await runner.stop()
    except StoreUnavailable as error:
        log.error("Items could not be released, the next start takes them back: error=%s", error)


def _log_failed_jobs(changed: Changes) -> None:
    for job_id, job in (changed or {}).items():
        if job is not None and job.error is not None and job.state is State.FAILED:
            log.warning("Job failed: job=%s code=%s failed=%d", job_id, job.error.code, job.failed)
