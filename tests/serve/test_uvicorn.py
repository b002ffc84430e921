"""The direct path reaches into uvicorn: the start checks that it may; if not, streams take the plain path."""

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


def test_the_uvicorn_that_is_installed_is_built_as_the_direct_path_expects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert direct_writes_work(), "streaming/direct.py says what it rests on; this uvicorn changed some of it"
    assert not caplog.records


async def wrapped_send(cycle: Any, app: Any) -> None:
    """A uvicorn whose `send` is no longer a method of its request."""

    async def send(message: Any) -> None:
        await cycle.send(message)

    await run_asgi(cycle, lambda scope, receive, _: app(scope, receive, send))


async def unframed(cycle: Any, app: Any) -> None:
    """A uvicorn that no longer sends a response without a length in chunks."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = 2
    await run_asgi(cycle, app)


async def renamed_transport(cycle: Any, app: Any) -> None:
    """A uvicorn whose request calls its transport by another name."""

    class Renamed:
        scope, receive = cycle.scope, cycle.receive

        async def send(self, message: Any) -> None:
            await cycle.send(message)

    await run_asgi(cycle, lambda scope, receive, _: app(scope, receive, Renamed().send))


run_asgi = RequestResponseCycle.run_asgi


def test_a_uvicorn_that_cannot_be_asked_is_found_out_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "ServerState", None)
    assert not direct_writes_work()
    (record,) = [one for one in caplog.records if one.name == "unstuck"]
    assert record.exc_info


@pytest.mark.parametrize("other", [wrapped_send, unframed, renamed_transport])
def test_a_uvicorn_that_is_built_otherwise_is_found_out(
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
def test_streams_take_the_direct_path_only_where_it_works(
    works: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr(serve, "direct_writes_work", lambda: works)
    monkeypatch.setattr(serve.Server, "run", lambda server, _: served.append(server.config.app))
    nothing = SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None)
    monkeypatch.setattr(serve, "gc", nothing)  # this process is not the server's own
    app = create_app(settings)
    with serve.listen(settings) as listener:
        serve.run(app, settings, listener)
    assert (served[0] is app) != works
