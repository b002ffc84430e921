"""Direct writes rely on uvicorn's internals: a check at the start decides, and the plain path is the fallback."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from unstuck import serve
from unstuck.app import create_app
from unstuck.serve import direct_writes_work
from unstuck.settings import Settings, load


def test_direct_writes_work_with_the_installed_uvicorn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert direct_writes_work(), "this uvicorn differs from what streaming/direct.py relies on"
    assert not caplog.records


async def wrapped_send(cycle: Any, app: Any) -> None:
    """Imitate a uvicorn whose `send` is no longer a method of its request."""

    async def send(message: Any) -> None:
        await cycle.send(message)

    await run_asgi(cycle, lambda scope, receive, _: app(scope, receive, send))


async def unframed(cycle: Any, app: Any) -> None:
    """Imitate a uvicorn that no longer sends a response without a length in chunks."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = 2
    await run_asgi(cycle, app)


async def renamed_transport(cycle: Any, app: Any) -> None:
    """Imitate a uvicorn whose request has another name for its transport."""

    class Renamed:
        scope, receive = cycle.scope, cycle.receive

        async def send(self, message: Any) -> None:
            await cycle.send(message)

    await run_asgi(cycle, lambda scope, receive, _: app(scope, receive, Renamed().send))


run_asgi = RequestResponseCycle.run_asgi


def test_a_check_that_fails_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(serve, "ServerState", None)
    assert not direct_writes_work()
    (record,) = [one for one in caplog.records if one.name == "unstuck"]
    assert record.exc_info


@pytest.mark.parametrize("other", [wrapped_send, unframed, renamed_transport])
def test_a_uvicorn_with_other_internals_is_detected(
    other: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RequestResponseCycle, "run_asgi", other)
    assert not direct_writes_work()
    (warning,) = [record for record in caplog.records if record.name == "unstuck"]
    assert warning.levelno == logging.WARNING
    assert warning.getMessage().startswith("Streams take the plain path, since this version of uvicorn")
    assert warning.getMessage().endswith(f": uvicorn={uvicorn.__version__}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"data": str(tmp_path / "data"), "port": 0}, {})


@pytest.mark.parametrize("works", [True, False])
def test_streams_are_direct_only_where_the_check_passes(
    works: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr(serve, "direct_writes_work", lambda: works)
    monkeypatch.setattr(serve.Server, "run", lambda server, _: served.append(server.config.app))
    nothing = SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None)
    monkeypatch.setattr(serve, "gc", nothing)  # leave this process's collector alone
    app = create_app(settings)
    with serve.listen(settings) as listener:
        serve.run(app, settings, listener)
    assert (served[0] is app) != works
