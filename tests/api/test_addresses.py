"""The addresses under which a server is reached: by proxies that keep or strip a prefix, by probes, by tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.support.asgi import Answer, call
from unstuck.api.root_path import at_root_path
from unstuck.app import create_app
from unstuck.settings import Settings

APP = create_app(Settings())


def ask(app: Any, method: str, path: str, *headers: tuple[str, str], query: bytes = b"") -> Answer:
    given = [(name.encode(), text.encode()) for name, text in headers]
    return asyncio.run(call(app, method, path, query, given))


def kept(prefix: str, path: str) -> str:
    return prefix + path


def stripped(_: str, path: str) -> str:
    return path


@pytest.mark.parametrize("prefix", ["/progress", "/a/b.c", "/api", "/static", "/metrics", "/caf%C3%A9"])
@pytest.mark.parametrize("proxy", [kept, stripped])
def test_a_proxy_may_keep_the_prefix_or_strip_it(prefix: str, proxy: Callable[[str, str], str]) -> None:
    app = at_root_path(APP, prefix)
    assert ask(app, "GET", proxy(prefix, "/api/health/live")).status == 200
    assert ask(app, "GET", proxy(prefix, "/")).status == 200
    assert ask(app, "GET", proxy(prefix, "/static/define.js")).status == 200
    assert ask(app, "GET", proxy(prefix, "/api/openapi.json")).json()["servers"] == [{"url": prefix}]
    moved = ask(app, "GET", proxy(prefix, "/api/jobs/"), query=b"limit=1")
    assert (moved.status, moved.headers[b"location"]) == (307, f"{prefix}/api/jobs?limit=1".encode())
    assert ask(app, "GET", proxy(prefix, "/nowhere")).status == 404


def test_the_prefix_alone_leads_to_the_page() -> None:
    app = at_root_path(APP, "/progress")
    moved = ask(app, "GET", "/progress")
    assert (moved.status, moved.headers[b"location"]) == (307, b"/progress/")
    assert ask(app, "GET", "/progressive").status == 404


def test_escaped_paths_stay_as_they_are() -> None:
    for path in ("/api/jobs/é/nowhere", "/nowhere/a%2Fb", "//evil.example/"):
        for proxy in (kept, stripped):
            answer = ask(at_root_path(APP, "/progress"), "GET", quote(proxy("/progress", path), safe="/%"))
            assert (answer.status, f"/progress{unquote(path)}" in answer.json()["detail"]) == (404, True)


@pytest.mark.parametrize("base", ["", "/host"])
@pytest.mark.parametrize("path", ["/api/health", "/api/health/live", "/api/health/ready"])
def test_a_probe_may_name_any_host(base: str, path: str) -> None:
    app = Starlette(routes=[Mount(base, APP)])
    for host in ("10.1.2.3:8765", "[fd00::1]:8765", "unstuck.default.svc", ""):
        assert ask(app, "OPTIONS", base + path, ("host", host)).status == 204  # where the app need not run
    assert ask(app, "GET", f"{base}/api/health/live", ("host", "10.1.2.3")).status == 200
    assert ask(app, "POST", base + path, ("host", "10.1.2.3")).status == 421
    assert ask(app, "GET", f"{base}{path}/", ("host", "10.1.2.3")).status == 421
    assert ask(app, "GET", f"{base}/api/kinds", ("host", "10.1.2.3")).status == 421


def test_refusals_name_the_cure() -> None:
    misdirected = ask(APP, "GET", "/", ("host", "backend")).json()["detail"]
    for cure in ("UNSTUCK_ALLOWED_HOSTS", "create_app(allowed_hosts=", "proxy_set_header Host $http_host;"):
        assert cure in misdirected
    assert "base_url" in ask(APP, "GET", "/", ("host", "testserver")).json()["detail"]
    forbidden = ask(APP, "POST", "/api/jobs", ("host", "localhost"), ("origin", "https://shop.example"))
    assert (forbidden.status, "proxy_set_header Host" in forbidden.json()["detail"]) == (403, True)
