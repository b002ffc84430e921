"""Submissions over real HTTP: what is kept, how bad ones are refused, and that these leave nothing behind."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.support.http import raw, refused, traces
from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

TINY = {"max_files": "3", "max_file_bytes": "2000", "max_job_bytes": "5000", "upload_memory_bytes": "500"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with limits low enough to reach in a test."""
    environ = {f"UNSTUCK_{name.upper()}": text for name, text in TINY.items()}
    server = Server(tmp_path_factory.mktemp("tiny") / "data", "--workers", "1", environ=environ).start()
    yield server
    server.stop()


def form(*files: tuple[str, bytes], **fields: str) -> dict[str, Any]:
    fields.setdefault("kind", "checksum")
    return {"data": fields, "files": [("files", one) for one in files]}


def test_files_small_and_large_are_kept_byte_for_byte(tiny: Server) -> None:
    files = {"small": b"a" * 499, "edge": b"b" * 500, "large.bin": os.urandom(2000)}
    job = tiny.submit("checksum", files)
    assert job["state"] == "queued"
    assert job["progress"]["total"] == 3
    folder = tiny.data / "files" / job["id"] / "in"
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == list(files.values())
    assert tiny.until_done(job["id"])["state"] == "completed"


def test_the_answer_has_the_location_of_the_job(tiny: Server) -> None:
    answer = httpx.post(f"{tiny.url}/api/jobs", **form(("a", b"x")))
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/api/jobs/{job['id']}"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "..\\..\\x", "/abs", "C:\\x", "%2e%2e%2f", "con", "CON.txt", "x" * 300, "a\nb.csv",
        "\u202egnp.exe", "A\u030a.csv", "\u00c5.csv", "<img src=x onerror=alert(1)>.png", "'; DROP TABLE jobs;--",
        "{{7*7}}", "a\u2028event: done",
    ],
)  # fmt: skip
def test_names_are_labels_and_never_paths(tiny: Server, name: str) -> None:
    job = tiny.submit("rehearsal", items=[name], options={"seconds": 0})
    assert tiny.items(job["id"])[0]["name"] == name
    body, boundary = multipart(name, b"content")
    answer = httpx.post(f"{tiny.url}/api/jobs", content=body, headers=boundary)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    (stored,) = (tiny.data / "files" / job_id / "in").iterdir()
    assert stored.name.startswith("00000")
    assert stored.read_bytes() == b"content"
    assert tiny.items(job_id)[0]["name"].rsplit("\\")[-1] == name.rsplit("\\")[-1]
    headers = boundary | {"x-unstuck-names": "percent-encoded"}
    encoded, _ = multipart(quote(name), b"content")
    whole = httpx.post(f"{tiny.url}/api/jobs", content=encoded, headers=headers).json()
    assert tiny.items(whole["id"])[0]["name"] == name
    for entry in tiny.data.rglob("*"):
        assert entry.resolve().is_relative_to(tiny.data)


def test_empty_and_equal_names_are_kept_apart(tiny: Server) -> None:
    job = tiny.submit("rehearsal", items=["", "same", "same"], options={"seconds": 0})
    assert [item["name"] for item in tiny.items(job["id"])] == ["unnamed", "same", "same"]


def multipart(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    shown = name.replace("\n", "%0A").replace('"', "%22").replace("\\", "\\\\")
    body = (
        b'--B\r\nContent-Disposition: form-data; name="kind"\r\n\r\nchecksum\r\n'
        b'--B\r\nContent-Disposition: form-data; name="files"; filename="' + shown.encode() + b'"\r\n\r\n'
        + content + b"\r\n--B--\r\n"
    )  # fmt: skip
    return body, {"content-type": "multipart/form-data; boundary=B"}


def test_limits(tiny: Server) -> None:
    small = b"x"
    refused(tiny, 413, "too_many_files", **form(*[(f"{n}", small) for n in range(4)]))
    refused(tiny, 413, "file_too_large", **form(("a", b"x" * 2001)))
    refused(tiny, 413, "job_too_large", **form(*[(f"{n}", b"x" * 1900) for n in range(3)]))
    refused(tiny, 413, "job_too_large", **form(("a", b"x" * 9_000_000)))
    refused(tiny, 422, "name_too_long", **form(("n" * 1001, small)))
    refused(tiny, 422, "name_too_long", **form(("a", small), name="n" * 1001))
    refused(tiny, 413, "too_many_files", json={"kind": "rehearsal", "total": 4})
    refused(tiny, 413, "too_many_files", json={"kind": "rehearsal", "total": 10**30})
    refused(tiny, 413, "field_too_large", **form(("a", small), options="x" * 300_000))
    refused(tiny, 413, "too_many_fields", **form(("a", small), **{f"f{n}": "x" for n in range(40)}))


def test_a_refusal_names_the_fault(tiny: Server) -> None:
    file = ("a", b"x")
    assert "checksum" in refused(tiny, 422, "unknown_kind", **form(file, kind="chekcsum"))
    assert "widht" in refused(tiny, 422, "invalid_options", **form(file, options='{"widht": 3}'))
    refused(tiny, 422, "invalid_options", **form(file, options="{"))
    refused(tiny, 422, "invalid_options", **form(file, options="[]"))
    refused(tiny, 422, "invalid_options", json={"kind": "rehearsal", "total": 1, "options": [1]})
    refused(tiny, 422, "invalid_options", json={"kind": "rehearsal", "total": 1, "options": {"seconds": "x"}})
    refused(tiny, 422, "no_files", files={"kind": (None, b"checksum")})
    refused(tiny, 422, "no_files", json={"kind": "checksum", "total": 3})
    refused(tiny, 422, "no_files", json={"kind": "rehearsal", "items": []})
    refused(tiny, 422, "invalid_request", json={"kind": "rehearsal"})
    refused(tiny, 422, "invalid_request", json={"kind": "rehearsal", "total": 0})
    refused(tiny, 422, "invalid_request", json={"kind": "rehearsal", "total": 1, "unheard": 1})
    refused(tiny, 422, "invalid_request", json={"total": 1})
    refused(tiny, 422, "invalid_request", json=[1])
    refused(tiny, 422, "invalid_request", **form(file, priority="high"))
    refused(tiny, 422, "invalid_request", **form(file, max_attempts="0"))
    for name, wrong in (
        ("deadline_seconds", 0), ("deadline_seconds", -1), ("deadline_seconds", 1e12), ("deadline_seconds", "x"),
        ("item_limit_seconds", 0), ("item_limit_seconds", [1]), ("webhook_url", 5),
    ):  # fmt: skip
        refused(tiny, 422, "invalid_request", json={"kind": "rehearsal", "total": 1, name: wrong})
    for text in ("nan", "inf", "-1", "1e400"):
        refused(tiny, 422, "invalid_request", **form(file, deadline_seconds=text))


def test_the_same_submission_twice_is_one_job(tiny: Server) -> None:
    def send(content: bytes, key: str = "k-1", **fields: str) -> httpx.Response:
        request = form(("a", content), ("large", b"y" * 1800), **fields)
        return httpx.post(f"{tiny.url}/api/jobs", headers={"Idempotency-Key": key}, **request)

    first = send(b"x")
    tiny.until_done(first.json()["id"])
    before = traces(tiny)
    again = send(b"x")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.json()["state"] == "completed", "the job's current state"
    for other in (send(b"z"), send(b"x", name="another")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert traces(tiny) == before
    assert send(b"x", key="k-2").json()["id"] != first.json()["id"]
    refused(
        tiny,
        400,
        "invalid_request",
        json={"kind": "rehearsal", "total": 1},
        headers={"idempotency-key": "k" * 256},
    )


JSON_TYPE = {"content-type": "application/json"}
FORM_TYPE = {"content-type": "multipart/form-data; boundary=B"}
PART = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("status", "code", "content", "headers"),
    [
        (400, "invalid_json", b"{", JSON_TYPE),
        (400, "invalid_json", b"\xff\xfe", JSON_TYPE),
        (400, "invalid_json", b"[" * 100_000, JSON_TYPE),
        (413, "body_too_large", b"[" + b"1," * 9_000_000, JSON_TYPE),
        (400, "invalid_multipart", b"x", {}),
        (400, "invalid_multipart", b"a=b&" * 1000, {"content-type": "application/x-www-form-urlencoded"}),
        (400, "invalid_multipart", b"x", {"content-type": "multipart/form-data"}),
        (400, "invalid_multipart", b"x", {"content-type": "multipart/form-data; boundary=" + "b" * 10_000}),
        (400, "invalid_multipart", b"no boundary at all", FORM_TYPE),
        (400, "upload_cut_off", b"", FORM_TYPE),
        (400, "upload_cut_off", PART + b"half a fi", FORM_TYPE),
        (400, "upload_cut_off", PART + b"x" * 1500, FORM_TYPE),
        (400, "invalid_multipart", b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n", FORM_TYPE),
        (400, "invalid_multipart", PART.replace(b'"files"', b'"file"') + b"x\r\n--B--\r\n", FORM_TYPE),
        (400, "invalid_multipart", b"--B\r\n" + b"X-A: b\r\n" * 1000 + b"\r\nx\r\n--B--\r\n", FORM_TYPE),
        (400, "invalid_multipart", b"--B\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\nx\r\n--B--\r\n", FORM_TYPE),
        (400, "invalid_multipart", PART + b"x\r\n--B--\r\n" + b"z" * 200_000, FORM_TYPE),
        (413, "too_many_files", (PART + b"x\r\n") * 10_000 + b"--B--\r\n", FORM_TYPE),
    ],
)
def test_malformed_bodies_are_refused(
    tiny: Server, status: int, code: str, content: bytes, headers: dict[str, str]
) -> None:
    # Sent in pieces, so that a refusal may come in the middle of the body.
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    refused(tiny, status, code, content=pieces(), headers=headers)


@pytest.mark.parametrize(
    "lengths",
    ["Content-Length: -1", "Content-Length: 5\nContent-Length: 6", "Content-Length: 5\nTransfer-Encoding: chunked",
     "Content-Length: x", "Content-Length: 99999999999999999999999"],
)  # fmt: skip
def test_smuggled_lengths_are_refused(tiny: Server, lengths: str) -> None:
    before = traces(tiny)
    type_ = "multipart/form-data; boundary=B"
    head = f"POST /api/jobs HTTP/1.1\nHost: localhost\nContent-Type: {type_}\n{lengths}\n\n"
    answer = raw(tiny, head, b"hello")
    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert traces(tiny) == before


def test_an_upload_that_breaks_off_leaves_nothing(tiny: Server) -> None:
    before = traces(tiny)
    where = urlsplit(tiny.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=B\r\n\r\n".encode())
        connection.sendall(PART + b"x" * 1000)
        eventually(lambda: len(list((tiny.data / "files").iterdir())) > len(before[1]))
    eventually(lambda: traces(tiny) == before)


def test_a_large_upload_is_never_held_in_memory(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1")
    assert server.process is not None
    size = 300 * 1024 * 1024
    source = tmp_path / "large"
    with source.open("wb") as sparse:
        sparse.truncate(size)
    status_file = Path(f"/proc/{server.process.pid}/status")

    def peak() -> int:
        status = status_file.read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    before = peak()
    with source.open("rb") as file:
        answer = httpx.post(
            f"{server.url}/api/jobs", data={"kind": "checksum"}, files={"files": file}, timeout=120
        )
    assert answer.status_code == 202
    assert peak() - before < size / 5
    assert server.until_done(answer.json()["id"])["state"] == "completed"


def test_a_full_disk(start_server: StartServer, tmp_path: Path) -> None:
    """The folder for uploads is on its own small file system."""
    small = tmp_path / "small"
    with mounted(small, "size=1m"):
        server = start_server("--workers", "1")
        files = server.data / "files"
        files.rmdir()
        files.symlink_to(small)
        detail = refused(server, 507, "storage_full", **form(("a", b"x" * 3_000_000)))
        assert "room" in detail
        assert server.until_done(server.submit("checksum", {"a": b"fits"})["id"])["state"] == "completed"


def test_kinds_and_limits_are_listed(server: Server) -> None:
    told = server.get("/api/kinds")
    assert {kind["name"] for kind in told["kinds"]} >= {"checksum", "csv-profile", "thumbnail", "rehearsal"}
    assert told["limits"]["max_files"] == 10_000
    assert json.dumps(told)


def test_items_are_called_as_the_submission_or_the_kind_says(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "mails.py").write_text(
        "import unstuck\n@unstuck.kind('mail', needs_file=False, unit='reply')\ndef mail(file, report): ...\n"
        "@unstuck.kind('ffmpeg', title='Convert', unavailable='install ffmpeg')\ndef ffmpeg(file, report): ...\n"
    )
    server = start_server("--app", str(tmp_path / "mails.py"))
    told = {kind["name"]: (kind["unit"], kind["units"]) for kind in server.get("/api/kinds")["kinds"]}
    assert (told["mail"], told["checksum"]) == (("reply", "replies"), ("", ""))

    def called(answer: httpx.Response) -> tuple[str, str, str]:
        job = answer.json()
        assert server.job(job["id"])["unit"] == job["unit"]
        return job["unit"], job["units"], job["name"]

    def post(**fields: Any) -> httpx.Response:
        return httpx.post(f"{server.url}/api/jobs", json=fields)

    assert called(post(kind="mail", total=2)) == ("reply", "replies", "2 replies")
    assert called(post(kind="mail", total=2, unit="mail")) == ("mail", "mails", "2 mails")
    assert called(post(kind="rehearsal", total=1_200)) == ("item", "items", "1,200 items")
    rows = post(kind="import", external=True, unit="child", units="children")
    assert called(rows) == ("child", "children", "import")
    files = httpx.post(f"{server.url}/api/jobs", **form(("a", b""), ("b", b""), kind="checksum"))
    assert called(files) == ("file", "files", "2 files")
    for wrong in ({"units": "rows"}, {"unit": "x" * 41}):
        refused(server, 422, "invalid_request", json={"kind": "import", "external": True, **wrong})

    ended = httpx.post(f"{server.url}{rows.json()['links']['self']}/progress", json={"state": "failed"})
    assert called(httpx.post(f"{server.url}{ended.json()['links']['retry']}"))[:2] == ("child", "children")
    key = {"idempotency-key": "one"}
    first = httpx.post(f"{server.url}/api/jobs", json={"kind": "mail", "total": 1, "unit": "a"}, headers=key)
    other = httpx.post(f"{server.url}/api/jobs", json={"kind": "mail", "total": 1, "unit": "b"}, headers=key)
    assert (first.status_code, other.status_code) == (202, 422)

    # The same server, since starting one takes a while: a kind that cannot be used here.
    kinds = {kind["name"]: kind["unavailable"] for kind in server.get("/api/kinds")["kinds"]}
    assert (kinds["ffmpeg"], kinds["mail"]) == ("install ffmpeg", None)
    detail = refused(server, 422, "kind_unavailable", **form(("a", b"content"), kind="ffmpeg"))
    assert detail == "Convert cannot be used here: install ffmpeg"
