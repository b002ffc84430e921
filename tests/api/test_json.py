"""JSON with a byte order mark, as PowerShell and some editors write it, wherever JSON is taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asgi import Answer, InProcess, in_process
from tests.support.waiting import eventually

MARK = b"\xef\xbb\xbf"
FORM = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder: Path = tmp_path_factory.mktemp("json")
    with in_process(data=str(folder / "data"), workers=1) as running:
        yield running


def send(app: InProcess, path: str, body: bytes, content_type: bytes = b"application/json") -> Answer:
    return app.call("POST", path, b"", [(b"content-type", content_type)], body)


def test_a_mark_before_json_is_no_part_of_it(app: InProcess) -> None:
    wanted = {"kind": "rehearsal", "total": 1, "options": {"seconds": 0, "failures": 1}}
    submitted = send(app, "/api/jobs", MARK + json.dumps(wanted).encode())
    assert submitted.status == 202, submitted.body
    job = f"/api/jobs/{submitted.json()['id']}"
    eventually(lambda: bool(app.call("GET", job).json()["done"]))
    assert send(app, f"{job}/retry", MARK + b'{"only": "all"}').status == 202
    assert send(app, f"{job}/retry", MARK).status == 202
    external = send(app, "/api/jobs", MARK + b'{"kind": "x", "external": true, "total": 9}').json()["id"]
    for body, content_type in [
        (MARK + b'{"processed": 1}', b"application/json"),
        (MARK + b'{"processed": 2}\n' + MARK + b'{"processed": 3}\n', b"application/x-ndjson"),
    ]:
        assert send(app, f"/api/jobs/{external}/progress", body, content_type).status == 200
    assert app.call("GET", f"/api/jobs/{external}").json()["progress"]["processed"] == 3
    assert send(app, f"/api/jobs/{external}/fail", MARK + b'{"why": "no"}').status == 202


def test_a_mark_in_the_options_of_a_form(app: InProcess) -> None:
    body = FORM % (b"kind", b"rehearsal") + FORM % (b"total", b"1") + FORM % (b"options", MARK + b'{"seconds": 0}')
    sent = send(app, "/api/jobs", body + b"--B--\r\n", b"multipart/form-data; boundary=B")
    assert sent.status == 202, sent.body
