"""A viewer leaves on every path out of its request: an error, a cancel or a disconnect at each await."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.crash.disconnects import play_disconnects
from tests.streaming.live_jobs import MemoryJobs
from tests.streaming.readers import QUICK
from unstuck.api import events, problems
from unstuck.api.context import Services
from unstuck.errors import UnstuckError
from unstuck.serve import _with_connection
from unstuck.settings import load
from unstuck.streaming.direct import FlushQueue
from unstuck.streaming.hub import Hub

JOB, NO_JOB = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", "00000000-0000-4000-8000-000000000000"
#: More awaits than any request here has.
MANY = 200


class Interrupted:
    """Awaits a coroutine, and raises `error` in it where it waits for the `at`-th time."""

    def __init__(self, work: Coroutine[Any, Any, None], at: int, error: BaseException) -> None:
        self._work, self._at, self._error = work, at, error
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration:
                return
            self.waits += 1
            if self.waits == self._at:
                if isinstance(waits_for, asyncio.Future):
                    waits_for._asyncio_future_blocking = False  # as a task does with what it no longer awaits
                thrown = self._error
                continue
            thrown = None
            try:
                yield waits_for
            except BaseException as error:
                thrown = error


class Client:
    """A double of uvicorn, all of whose calls wait once; the `fails_at`-th raises, and the client disconnects."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls = 0
        self.gone = asyncio.Event()
        self.transport = SimpleNamespace(
            is_closing=self.gone.is_set,
            set_write_buffer_limits=self._no_closed_transport,
            get_write_buffer_size=lambda: 0,
            write=lambda _: None,
            abort=self.gone.set,
        )
        self._fails_at = fails_at

    async def send(self, message: Any) -> None:
        await self._called()
        if not message.get("more_body", True):
            self.gone.set()

    async def receive(self) -> dict[str, Any]:
        await self._called()
        if self.calls > 20:
            self.gone.set()
        await asyncio.wait([asyncio.ensure_future(self.gone.wait())], timeout=0.001)
        return {"type": "http.disconnect"} if self.gone.is_set() else {"type": "http.request", "body": b""}

    async def _called(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls == self._fails_at:
            self.gone.set()
            raise RuntimeError("the test broke this call")

    def _no_closed_transport(self, _: int) -> None:
        if self.gone.is_set():
            raise RuntimeError("unable to perform operation; the handler is closed")


class SlowJobs(MemoryJobs):
    """Jobs of which one changes while they are listed."""

    async def live_ids(self, finished_within_s: float) -> list[str]:
        listed = await super().live_ids(finished_within_s)
        self.commit(JOB)
        await asyncio.sleep(0)
        return listed


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub(SlowJobs(JOB), QUICK)
    yield hub
    await hub.close()


def app_with(hub: Hub, *, own: bool) -> ASGIApp:
    """Return an app with the streams, as our own server (`own`) or a host app serves it."""
    missing = dict.fromkeys(
        ("store", "files", "bodies", "kinds", "troubles", "polls", "check_webhook", "supervisor", "door")
    )
    app = Starlette(
        routes=[
            Route("/api/jobs/{job_id}/events", events.job_events, methods=["GET"]),
            Route("/api/events/stream", events.all_events, methods=["GET"]),
        ],
        exception_handlers={UnstuckError: problems.on_unstuck_error},
    )
    app.state.services = Services(
        settings=load({}, {}), hub=hub, flush=FlushQueue(), **cast("dict[str, Any]", missing)
    )
    return _with_connection(app) if own else app


def scope_of(path: str, method: str = "GET") -> dict[str, Any]:
    where, _, query = path.partition("?")
    return {
        "type": "http", "http_version": "1.1", "method": method, "path": where, "raw_path": where.encode(),
        "query_string": query.encode(), "root_path": "", "headers": [], "scheme": "http",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip


async def outcome(request: Awaitable[None]) -> None:
    """Wait for the end of a request; whatever becomes of it, its viewer must leave."""
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await request


REQUESTS = [
    (f"/api/jobs/{JOB}/events", "GET"),
    (f"/api/jobs/{JOB}/events", "HEAD"),
    (f"/api/jobs/{NO_JOB}/events", "GET"),
    (f"/api/events/stream?job={JOB}&job={NO_JOB}", "GET"),
    ("/api/events/stream", "GET"),
]


@pytest.mark.parametrize("own", [True, False], ids=["own server", "host app"])
@pytest.mark.parametrize(("path", "method"), REQUESTS)
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_viewer_leaves_after_an_error_at_each_await(
    hub: Hub, own: bool, path: str, method: str, error: type[BaseException]
) -> None:
    app = app_with(hub, own=own)
    for at in range(1, MANY):
        client = Client()
        work = cast("Coroutine[Any, Any, None]", app(scope_of(path, method), client.receive, client.send))
        request = Interrupted(work, at, error("the test interrupts this request"))
        await outcome(request)
        assert (hub.streams, hub.watched) == (0, 0), f"a viewer stayed after an error at await {at}"
        if request.waits < at:
            assert at > 2, "the request was interrupted nowhere"
            return
    raise AssertionError("the request never ended without being interrupted")


@pytest.mark.parametrize("own", [True, False], ids=["own server", "host app"])
@pytest.mark.parametrize(("path", "method"), REQUESTS)
async def test_a_viewer_leaves_when_a_send_or_receive_fails(hub: Hub, own: bool, path: str, method: str) -> None:
    app = app_with(hub, own=own)
    for at in range(1, MANY):
        client = Client(fails_at=at)
        await outcome(app(scope_of(path, method), client.receive, client.send))
        assert (hub.streams, hub.watched) == (0, 0), f"a viewer stayed after call {at} failed"
        if client.calls < at:
            return
    raise AssertionError("the request never ended without a failure")


@pytest.mark.parametrize("own", [True, False], ids=["own server", "host app"])
async def test_a_client_that_goes_before_its_answer_leaves_no_viewer(hub: Hub, own: bool) -> None:
    """5,000 of 5,000 that closed at once stayed: a closed transport raises when its limits are set."""
    client = Client()
    client.gone.set()
    await app_with(hub, own=own)(scope_of("/api/events/stream"), client.receive, client.send)  # raises nothing
    assert (hub.streams, hub.watched) == (0, 0)


async def test_a_job_that_changes_while_jobs_are_listed_is_subscribed_once(hub: Hub) -> None:
    """A second subscription sent every event twice, and the first was never ended."""
    app = app_with(hub, own=True)
    client = Client()
    request = asyncio.ensure_future(app(scope_of("/api/events/stream"), client.receive, client.send))
    while not hub.watched:
        await asyncio.sleep(0)
    (job,) = hub._registry.jobs.values()
    assert len(job.subscriptions) == 1
    await request
    assert (hub.streams, hub.watched) == (0, 0)


def test_clients_that_disconnect_at_once_leave_nothing() -> None:
    """By FIN and RST over real connections; `scripts/crash --disconnects 100000` is the long form."""
    told: list[str] = []
    assert play_disconnects(500, 1, told.append) == []
    assert "0 streams and 0 watched jobs are left" in told[0]
