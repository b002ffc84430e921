"""Each path tells all of its methods, whatever was asked of it."""

from __future__ import annotations

import asyncio

import pytest
from starlette.routing import Route

from tests.support.asgi import Answer, call
from unstuck.app import create_app
from unstuck.settings import Settings

APP = create_app(Settings())
ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
PATHS = {
    route.path.replace("{job_id}", ID).replace("{index}", "0"): set(route.methods or ())
    for route in APP.routes
    if isinstance(route, Route)
} | {"/static/define.js": {"GET", "HEAD", "OPTIONS"}, "/static/nothing": {"GET", "HEAD", "OPTIONS"}}


def ask(method: str, path: str, *headers: tuple[bytes, bytes]) -> Answer:
    return asyncio.run(call(APP, method, path, headers=headers))


def allowed(answer: Answer) -> set[str]:
    return set(answer.headers[b"allow"].decode().split(", "))


@pytest.mark.parametrize("path", PATHS)
def test_options_and_refusals_tell_the_methods(path: str) -> None:
    options = ask("OPTIONS", path)
    assert (options.status, options.body, allowed(options)) == (204, b"", PATHS[path])
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - PATHS[path]:
        refused = ask(method, path)
        assert (refused.status, refused.json()["code"], allowed(refused)) == (
            405,
            "method_not_allowed",
            PATHS[path],
        )


def test_a_path_has_one_route() -> None:
    assert PATHS["/api/jobs"] == {"GET", "HEAD", "POST", "OPTIONS"}
    assert PATHS[f"/api/jobs/{ID}"] == {"GET", "HEAD", "DELETE", "OPTIONS"}
    assert len(PATHS) == len(APP.routes)  # two paths below /static, and two mounts


def test_options_gets_past_no_check() -> None:
    assert ask("OPTIONS", "/api/jobs", (b"host", b"evil.example")).status == 421
    preflight = ask(
        "OPTIONS", "/api/jobs", (b"host", b"localhost"), (b"origin", b"https://evil.example"),
        (b"access-control-request-method", b"POST"),
    )  # fmt: skip
    assert not [name for name in preflight.headers if name.startswith(b"access-control")]
    assert ask("OPTIONS", "/nowhere").status == 404
