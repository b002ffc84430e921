"""No request is answered with 500, whatever its parameters, headers and body.

What is not understood is a problem document with a status of 4xx.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote, quote_from_bytes
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from tests.support.asgi import Answer, Headers, InProcess, call, in_process
from tests.support.waiting import eventually
from unstuck.app import create_app
from unstuck.settings import Settings

ROUTES = [
    (method, route.path)
    for route in create_app(Settings()).routes
    if isinstance(route, Route)
    for method in sorted(route.methods or ())
]
PARAMETERS = [
    "state", "kind", "health", "name", "id_prefix", "limit", "cursor", "finished_before", "after_seq", "job",
    "items", "last_event_id",
]  # fmt: skip
HEADERS = [
    b"origin", b"host", b"last-event-id", b"if-none-match", b"content-type", b"content-length", b"idempotency-key",
    b"x-unstuck-poll", b"sec-fetch-site", b"accept", b"range", b"if-range", b"connection",
]  # fmt: skip
WORK = {"kind": "rehearsal", "total": 1, "options": {"seconds": 0}}
EXTERNAL = {"kind": "x", "external": True, "total": 3}
#: A state of the server rather than a defect.
BY_STATE = {503, 507}

#: Texts that a parser is likely to misread.
ODD = [
    "", "-", "--5", "-0", "+1", " 1", "1_0", "²", "१", "٣.٣", "1e3", "0x1", "nan", "inf", "1.", ".1", "1.1.1",
    "9" * 18, "9" * 19, "9" * 36, "9" * 5_000, str(2**53), str(2**63), str(-(2**63) - 1), "\x00", "\x7f", "%",
    "%zz", "🂡", "é", "\u2028", "\ufeff1", "null", "[]", "{}", ",", "a,,b", "~", "1~1", "²~1", "1.5~" + "9" * 18,
    "9" * 12 + ".9~1", "9" * 18 + "." + "9" * 18, "http://[", "http://[::1", "http://[::1]:x", "[", "[::1", "::",
    "://", "http://localhost:99999", "W/", "W/\"", "2026-11-22T00:00:00Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", "2026-11-22T24:00:00Z", "2026-W01-1T00Z", ",".join(["stalled"] * 40_000),
    ",".join(["running"] * 40_000), "multipart/form-data; boundary=", "multipart/form-data; boundary=é",
    "multipart/form-data; boundary*=x''y", "multipart/form-data; boundary*0=a; boundary*1=b",
    'multipart/form-data; boundary="', "application/json; charset=utf-16", "APPLICATION/JSON;",
    "application/x-ndjson",     "bytes=0-", "bytes=9-1", "bytes=-", "bytes=²-", "bytes=0-0,1-1",
]  # fmt: skip
texts = st.one_of(st.sampled_from(ODD), st.text(max_size=40))
raw = st.one_of(texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=40))

#: Values that JSON can hold, and some that it cannot.
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), texts, st.floats(allow_nan=False, allow_infinity=False),
        st.integers(), st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1e308, 5e-324, -1, 0]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
broken = st.sampled_from([
    b"", b"{", b"\xff", b'{"kind": "\xff"}', b'{"a": "\\ud800"}', b'{"a": 1e400}', b"[" * 100_000,
    b"\xef\xbb\xbf{}",
    b'{"why": "\xff"}', b'{"only": "\xff"}', b'{"a": NaN}', "{}".encode("utf-16"), b"\x00", b"1" * 5_000,
    b'{"kind":"rehearsal","total":1,"options":{"\xff":1}}', b'{"items":[{"index":0,"result":{"a":"\xff"}}]}',
    b'{"items":[{"index":0,"result":{"a":1e400}}]}',
    b'{"items":[{"index":0,"result":' + b"[" * 2_000 + b"]" * 2_000 + b"}]}",
    b'{"items":[{"index":0,"result":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}",
])  # fmt: skip

checked = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Target(InProcess):
    """The running app, with a finished job and an unfinished one."""

    finished = ""
    external = ""

    def new_external(self) -> str:
        asked = {"kind": "x", "external": True, "items": ["a", "b"]}
        return str(self.post("/api/jobs", asked).json()["id"])


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    data = str(tmp_path_factory.mktemp("any") / "data")
    # Any host is allowed, so that odd ones reach the routes too.
    with in_process(data=data, workers=1, allowed_hosts=("*",), max_waiting_jobs=1_000_000) as running:
        target = Target(running.app, running.loop)
        target.finished = str(target.post("/api/jobs", WORK).json()["id"])
        eventually(lambda: bool(target.call("GET", f"/api/jobs/{target.finished}").json()["done"]))
        target.external = target.new_external()
        yield target
        check_health(target)


def check_health(app: InProcess) -> None:
    """Check that nothing is left of all these requests, and that work is still done."""
    job = app.post("/api/jobs", WORK).json()
    eventually(lambda: bool(app.call("GET", job["links"]["self"]).json()["done"]))
    eventually(lambda: app.call("GET", "/api/health").json()["streams"]["open"] == 0)
    assert app.call("GET", "/api/health/ready").json() == {"status": "ok", "troubles": []}


def understood(answer: Answer, *asked: object) -> None:
    assert answer.status in BY_STATE or answer.status < 500, (answer.status, answer.body[:300], *asked)
    if answer.status >= 400:
        assert answer.headers[b"content-type"] == b"application/problem+json", (answer.status, *asked)
        problem = answer.json()
        assert problem["status"] == answer.status
        assert len(problem["detail"]) < 2_000


@st.composite
def paths(draw: st.DrawFn) -> tuple[str, str, bool]:
    """Return a method, a path, and whether the path names the finished job."""
    method, path = draw(st.sampled_from(ROUTES))
    which = draw(st.sampled_from(["finished", "external", "unknown", "odd"])) if "{job_id}" in path else "none"
    if method == "DELETE" and which == "finished":
        which = "unknown"  # the others need it
    odd = quote(draw(texts).replace("/", ""), safe="")
    job = {"finished": "{finished}", "external": "{external}", "unknown": str(uuid4()), "odd": odd}.get(which, "")
    index = quote(draw(st.one_of(st.sampled_from(["0", "1"]), texts)).replace("/", ""), safe="")
    return method, path.replace("{job_id}", job).replace("{index}", index), which == "external"


def filled(app: Target, path: str) -> str:
    return path.replace("{finished}", app.finished).replace("{external}", app.external)


#: The parameters of each call that has some.
READS = {
    "/api/jobs": ("state", "kind", "health", "name", "id_prefix", "limit", "cursor", "finished_before"),
    "/api/events/stream": ("job", "items"),
    "/api/jobs/{finished}/events": ("items", "last_event_id"),
    "/api/jobs/{finished}/items": ("state", "after_seq", "limit", "cursor"),
    "/api/jobs/{finished}/timeline": ("limit",),
}
#: Parameters that change how another one is read.
BESIDE = {"cursor": ("", "after_seq=1&", "finished_before=2999-01-01T00:00:00Z&")}


def test_each_parameter_with_each_odd_value(app: Target) -> None:
    async def ask() -> None:
        asked = [(path, name, text) for path, names in READS.items() for name, text in product(names, ODD)]
        for path, name, text in asked:
            for beside in BESIDE.get(name, ("",)):
                query = f"{beside}{name}={quote(text)}".encode()
                understood(await call(app.app, "GET", filled(app, path), query), path, query[:200])

    app.run(ask())


def test_each_header_with_each_odd_value(app: Target) -> None:
    form = (b"content-type", b"multipart/form-data; boundary=B")
    calls: list[tuple[str, str, Headers]] = [
        ("GET", "/api/jobs/{finished}", ()), ("GET", "/api/jobs/{finished}/events", ()),
        ("GET", "/static/define.js", ()),
        ("POST", "/api/jobs", ()), ("POST", "/api/jobs", [form]), ("POST", "/api/jobs/{finished}/cancel", ()),
    ]  # fmt: skip

    async def ask() -> None:
        for (method, path, beside), name, text in product(calls, HEADERS, ODD):
            headers = [(name, text.encode("utf-8", "replace")), *(one for one in beside if one[0] != name)]
            understood(await call(app.app, method, filled(app, path), b"", headers), path, name, text[:200])

    app.run(ask())


@checked
@given(paths(), st.lists(st.tuples(st.sampled_from([*PARAMETERS, "é", ""]), raw), max_size=3), st.booleans())
def test_parameters(
    app: Target, asked: tuple[str, str, bool], query: list[tuple[str, bytes]], escaped: bool
) -> None:
    method, path, of_external = asked
    if of_external and path.endswith(("/fail", "/cancel")):
        return  # the others need it
    value = quote_from_bytes if escaped else lambda raw: raw.decode("latin-1")
    text = "&".join(f"{name}={value(given)}" for name, given in query).encode("latin-1", "replace")
    understood(app.call(method, filled(app, path), text), method, path, text)


@checked
@given(paths(), st.dictionaries(st.sampled_from(HEADERS), raw, min_size=1, max_size=3))
def test_headers(app: Target, asked: tuple[str, str, bool], headers: dict[bytes, bytes]) -> None:
    method, path, _ = asked
    understood(app.call(method, filled(app, path), b"", list(headers.items()), b"{}"), method, path, headers)


@checked
@given(st.sampled_from(["GET", "HEAD", "PUT", "é", ""]), st.one_of(raw.map(quote_from_bytes), texts.map(quote)))
def test_paths_of_no_route(app: Target, method: str, path: str) -> None:
    for place in (f"/{path}", f"/static/{path}", f"/static/client/{path}/x", f"/api/{path}", path):
        understood(app.call(method, place), method, place)
        understood(app.call(method, place, b"", [(b"host", b"[")]), method, place)


HOSTS: Any = create_app(Settings())


@checked
@given(raw, raw)
def test_hosts_and_origins_where_few_are_allowed(app: Target, host: bytes, origin: bytes) -> None:
    for headers in ([(b"host", host)], [(b"host", b"localhost"), (b"origin", origin)], [(b"host", host)] * 2):
        understood(app.run(call(HOSTS, "POST", "/api/health/live", b"", headers)), headers)


FIELDS = [
    "kind", "name", "options", "priority", "max_attempts", "max_errors", "deadline_seconds", "item_limit_seconds",
    "webhook_url", "external", "items", "total",
]  # fmt: skip
EXTREME: dict[str, list[Any]] = {
    "priority": [-1_000_000, 1_000_000, 10**30],
    "max_attempts": [1, 100, 101],
    "max_errors": [0, 2**53, 2**63, 10**30],
    "deadline_seconds": [5e-324, 316_224_000, 316_224_001, 1e308],
    "item_limit_seconds": [5e-324, 316_224_000, 1e308],
    "total": [1, 10**30],
    "items": [["a", "\x00", "é" * 1_000]],
    "options": [{"a": 2**64}, {"a": 10**30}, {"": {}}],
    "webhook_url": ["http://[", "http://example.org:99999", "https://" + "a" * 3_000, "//"],
    "name": ["", "\x00"],
    "kind": ["", "\x00", "k" * 100],
}


@st.composite
def submissions(draw: st.DrawFn) -> dict[str, Any]:
    fields: dict[str, Any] = draw(st.sampled_from([WORK, EXTERNAL, {}]))
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique=True)):
        fields = {**fields, name: draw(st.one_of(values, st.sampled_from(EXTREME.get(name, [None]))))}
    return fields


def encoded(value: object) -> bytes:
    """Return the value as JSON, also where msgspec refuses to write it."""
    return json.dumps(value, ensure_ascii=True).encode()


def test_each_field_with_each_extreme_value(app: Target) -> None:
    for (name, values), base in product(EXTREME.items(), (WORK, EXTERNAL)):
        for value in values:
            body = encoded({**base, name: value})
            answer = app.call("POST", "/api/jobs", b"", [(b"content-type", b"application/json")], body)
            understood(answer, body)
            if answer.status == 202:
                job = answer.json()["links"]
                assert app.call("GET", job["self"]).status == 200, body
                understood(app.post(job["cancel"], {}))
                again = app.call("POST", f"{job['self']}/retry")
                assert again.status in (202, 409), (again, body)


@checked
@given(st.one_of(submissions().map(encoded), values.map(encoded), broken, st.binary(max_size=60)))
def test_submissions_as_json(app: Target, body: bytes) -> None:
    answer = app.call("POST", "/api/jobs", b"", [(b"content-type", b"application/json")], body[:9], body[9:])
    understood(answer, body)
    if answer.status == 202:
        for path in ("", "/items", "/timeline", "/events"):
            shown = app.call("GET", f"{answer.json()['links']['self']}{path}")
            assert shown.status in (200, 204), (shown, body)
        understood(app.post(answer.json()["links"]["cancel"], {}))
    assert app.call("GET", "/api/jobs").status == 200


@checked
@given(submissions(), st.lists(st.tuples(raw, raw, raw), max_size=2), st.sampled_from([b"B", b"\xe9", b"a b"]))
def test_submissions_as_forms(
    app: Target, fields: dict[str, Any], parts: list[tuple[bytes, bytes, bytes]], boundary: bytes
) -> None:
    pieces = [(b'form-data; name="' + name.encode() + b'"', encoded(value)) for name, value in fields.items()]
    pieces += [(b'form-data; name="' + name + b'"' + more, content) for name, more, content in parts]
    body = b"".join(
        b"--" + boundary + b"\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n"
        for disposition, content in pieces
    )
    whole = body + b"--" + boundary + b"--\r\n"
    headers: Headers = [(b"content-type", b'multipart/form-data; boundary="' + boundary + b'"')]
    answer = app.call("POST", "/api/jobs", b"", headers, whole[: len(whole) // 2], whole[len(whole) // 2 :])
    understood(answer, whole)


def reported(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(
        st.sampled_from(names), st.one_of(values, st.sampled_from(["failed", "running", 2**53]))
    )


reports = st.tuples(
    reported(["processed", "failed", "skipped", "total", "stage", "message", "state", "error", "é"]),
    st.lists(reported(["index", "name", "state", "progress", "message", "error", "result"]), max_size=2),
).map(lambda both: encoded({**both[0], "items": both[1]} if both[1] else both[0]))


@checked
@given(st.lists(st.one_of(reports, broken), min_size=1, max_size=3), st.booleans())
def test_reports(app: Target, lines: list[bytes], streamed: bool) -> None:
    job_id = app.new_external()
    kind = b"application/x-ndjson" if streamed else b"application/json"
    body = b"\n".join(lines)
    answer = app.call("POST", f"/api/jobs/{job_id}/progress", b"", [(b"content-type", kind)], body[:7], body[7:])
    understood(answer, body)
    for path in ("", "/items", "/timeline", "/events", "/results", "/errors"):
        understood(app.call("GET", f"/api/jobs/{job_id}{path}"), path, body)
    assert app.call("GET", f"/api/jobs/{job_id}").status == 200, body
    assert app.call("GET", f"/api/jobs/{job_id}/items").status == 200, body


@checked
@given(st.sampled_from(["fail", "retry", "cancel", "rescue"]), st.one_of(values.map(encoded), broken, st.binary()))
def test_bodies_of_other_calls(app: Target, verb: str, body: bytes) -> None:
    for job_id in (app.finished, app.new_external()):
        understood(app.call("POST", f"/api/jobs/{job_id}/{verb}", b"", (), body), verb, body)
    for why in ('{"why": %s}', '{"only": %s}'):
        if msgspec_reads(body):
            asked = (why % body.decode()).encode()
            understood(app.call("POST", f"/api/jobs/{app.finished}/{verb}", b"", (), asked), verb, asked)


def msgspec_reads(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
        body.decode()
    except Exception:
        return False
    return True
