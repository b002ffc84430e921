"""Random heads and bodies of requests, sent to a real server as bytes, in pieces and cut off.

Each is answered with a status that is no defect, or its connection is closed; and nothing is left: no file without
a job, no stream, no watched job, no traceback in the log. A seed sends the same requests again.
See also: tests/api/test_any_request.py (each parameter of each route, without HTTP).
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.server import Server
from tests.support.waiting import eventually

#: How long an answer may take to begin, or the connection to be closed (seconds); the server drains for 5 s.
ANSWER_S = 20.0
#: How long a client waits before it ends a request that the server may not take for whole (seconds).
SETTLE_S = 0.3
AT_ONCE, REQUESTS = 16, 30
#: Statuses above 499 that are no defect: no room, an unknown version of HTTP.
BY_STATE = {"501", "503", "505", "507"}
ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"

METHODS = [*[b"GET"] * 6, *[b"POST"] * 12, b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"TRACE", b"BREW", b"get", b""]
PATHS = [
    "/", "/api/jobs", "/api/jobs", "/api/jobs", "/api/jobs?limit=1", "/api/events/stream", "/api/kinds",
    "/metrics",
    "/static/define.js", "/static/../x", "//evil.example/", "/api/jobs/", "*", "", "/%", "/%00", "/é", "/a b",
    "http://localhost/api/jobs", f"/api/jobs/{ID}", f"/api/jobs/{ID}/progress", f"/api/jobs/{ID}/events",
    "/api/jobs/JOB", "/api/jobs/JOB/events", "/api/jobs/JOB/items", "/api/jobs/JOB/retry", "/api/jobs/JOB/results",
    "/api/jobs/JOB/progress", "/api/jobs/JOB/items/0/result", "/api/jobs/JOB/timeline", "/" + "a" * 70_000,
]  # fmt: skip
VERSIONS = ["HTTP/1.1"] * 40 + ["HTTP/1.0", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9", "", "HTTP/1.1 x"]
HEADS = [
    ("Host", ["localhost", "localhost", "evil.example", "", "[::1]:80", "localhost\x00"]),
    ("Content-Type", ["multipart/form-data; boundary=B"] * 6 + [
        "application/json", "application/json", "application/x-ndjson", "text/plain", "multipart/form-data",
        'multipart/form-data; boundary="', "multipart/mixed; boundary=B",
        "multipart/form-data; boundary=" + "b" * 300,
    ]),
    ("Expect", ["100-continue", "100-Continue", "x"]),
    ("Range", ["bytes=0-0", "bytes=9-5", "items=0-1", "bytes=-0", "bytes=" + "0-0," * 99, "bytes"]),
    ("If-Range", ['"x"', "W/", "yesterday"]),
    ("Connection", ["close", "keep-alive", "upgrade", "TE, close"]),
    ("Upgrade", ["websocket", "h2c"]),
    ("Idempotency-Key", ["k", "", "k" * 300]),
    ("Origin", ["null", "http://localhost", "https://evil.example"]),
    ("Last-Event-ID", ["1", "-1", "x"]),
    ("Cookie", ["a" * 5_000, "é"]),
    ("X-Forwarded-Host", ["evil.example"]),
    ("Bad Name", ["x"]),
]  # fmt: skip
DISPOSITIONS = [
    b'form-data; name="kind"', b'form-data; name="options"', b'form-data; name="total"', b"form-data", b"",
    b'form-data; name="files"; filename="a.txt"', b'form-data; name="files"; filename=""',
    b'form-data; name="files"; filename="../../x"', b'form-data; name="files"; filename="a%22b"',
    b"form-data; name=files; filename*=utf-8''%e2%82%ac", b'form-data; name="other"; filename="a"',
    b'form-data; name="files"; filename="\xff\x00"', b'form-data; name="' + b"n" * 9_000 + b'"',
]  # fmt: skip
CONTENTS = [
    b"checksum", b"rehearsal", b"", b"1", b'{"seconds": 0}', b"{", b"\xff" * 100, b"x" * 200_000, b"--B",
    b"\r\n--", b"a,b\n1,2\n",
]  # fmt: skip
JSON = [
    b'{"kind":"rehearsal","total":1,"options":{"seconds":0}}', b'{"kind":"x","external":true}', b"{}", b"[]", b"{",
    b"\xef\xbb\xbf{}", b"null", b"[" * 9_000, b'{"processed": 1}\n{"processed": 2}\n', b"\x00", b'{"only":"all"}',
]  # fmt: skip


def play(folder: Path, seed: int, rounds: int) -> Iterator[str]:
    """Send REQUESTS in each round, and yield what is wrong with an answer or left at the end."""
    server = Server(folder, "--workers", "1").start()
    try:
        job = server.submit("x", external=True, total=3)["id"]
        with ThreadPoolExecutor(AT_ONCE) as clients:
            numbers = [f"{seed}-{number}" for number in range(rounds * REQUESTS)]
            requests = [draw(random.Random(number), job) for number in numbers]
            pieces = [random.Random(f"{number}-pieces") for number in numbers]
            statuses = clients.map(_send, repeat(server.url), requests, pieces)
            for request, status in zip(requests, statuses, strict=True):
                if status == "silence" or (status.isdecimal() and int(status) >= 500 and status not in BY_STATE):
                    yield f"{status} to {request[:300]!r}"
        yield from _left(server)
    finally:
        code = server.stop()
    if code != 0:
        yield f"the server ended with {code}"


def draw(chance: random.Random, job: str) -> bytes:
    """Return a request, most of which is as it should be."""
    path = chance.choice(PATHS).replace("JOB", job).encode()
    lines = [b" ".join([chance.choice(METHODS), path, chance.choice(VERSIONS).encode()])]
    heads = dict(chance.choice([[], *([("Host", "localhost")],) * 9]))
    for name, values in chance.sample(HEADS, chance.choice([0, 1, 1, 2, 3])):
        heads[name] = chance.choice(values)
    if b"/jobs" in path and chance.random() < 0.7:
        heads["Content-Type"] = chance.choice(HEADS[1][1])
    kind = heads.get("Content-Type", "")
    body = _form(chance) if "multipart" in kind else chance.choice(JSON) if kind or chance.random() < 0.2 else b""
    framing = chance.choice(["length"] * 6 + ["chunked", "chunked", "none", "both", "wrong"])
    if framing in ("length", "both"):
        heads["Content-Length"] = str(len(body))
    if framing == "wrong":
        heads["Content-Length"] = chance.choice(["-1", "x", "99999999999999", str(len(body) + 5), "1, 2", "0"])
    if framing in ("chunked", "both"):
        heads["Transfer-Encoding"] = chance.choice(["chunked", "chunked", "gzip, chunked", "x"])
        body = b"%x\r\n%b\r\n%b\r\n\r\n" % (len(body), body, chance.choice([b"0", b"0", b"-1", b"z"]))
    lines += [f"{name}: {value}".encode() for name, value in heads.items()]
    whole = b"\r\n".join(lines) + b"\r\n\r\n" + body
    if chance.random() < 0.1:  # a byte goes wrong on the way
        at = chance.randrange(len(whole))
        whole = whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]
    return whole if chance.random() < 0.9 else whole[: chance.randrange(1, len(whole))]


def _form(chance: random.Random) -> bytes:
    parts = [chance.choice([b"", b"", b"preamble\r\n", b"\r\n"])]
    right = chance.random() < 0.5
    for _ in range(chance.choice([0, 1, 2, 2, 3, 40])):
        disposition = DISPOSITIONS[5] if right else chance.choice(DISPOSITIONS)
        head = b"Content-Disposition: " + disposition if disposition else b"X: y"
        parts.append(b"--B\r\n" + head + b"\r\n\r\n" + chance.choice(CONTENTS) + b"\r\n")
    if right or chance.random() < 0.5:
        parts.insert(1, b'--B\r\nContent-Disposition: form-data; name="kind"\r\n\r\nchecksum\r\n')
    return b"".join(parts) + chance.choice(
        [b"--B--\r\n"] * 6 + [b"", b"--B", b"--B--\r\nepilogue", b"--B--" * 9_000]
    )


def _send(url: str, request: bytes, chance: random.Random) -> str:
    """Send a request in pieces, and end it; return the status, `closed`, or `silence`, which is wrong."""
    where = urlsplit(url)
    cuts = sorted(chance.randrange(len(request)) for _ in range(chance.choice([0, 0, 1, 3])))
    with socket.create_connection((where.hostname, where.port), timeout=ANSWER_S) as connection:
        try:
            for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
                connection.sendall(request[start:end])
            if (status := _status(connection, SETTLE_S)) is None:  # the server waits for more
                connection.shutdown(socket.SHUT_WR)
                status = _status(connection, ANSWER_S)
            return status or "silence"
        except OSError:
            return "closed"


def _status(connection: socket.socket, within_s: float) -> str | None:
    """Return the status of the answer, or `closed`; None if nothing comes."""
    connection.settimeout(within_s)
    answer = b""
    with suppress(TimeoutError):
        while piece := connection.recv(65536):
            answer += piece
            if found := re.search(rb"HTTP/1\.1 (?!100)(\d{3})", answer):
                return found[1].decode()
        return "closed"
    return None


def _left(server: Server) -> list[str]:
    """Return what is left of the requests, and whether work is still done."""
    wrongs = []

    def streams() -> dict[str, int]:
        return dict(server.get("/api/health")["streams"])

    with suppress(AssertionError):  # told below
        eventually(lambda: (streams()["open"], streams()["jobs_watched"]) == (0, 0))
    if streams()["open"] or streams()["jobs_watched"]:
        wrongs.append(f"streams are left: {streams()}")

    def without_a_job() -> set[str]:
        jobs, cursor = set(), ""
        while True:
            page = server.get(f"/api/jobs?limit=200{cursor}")
            jobs |= {job["id"] for job in page["jobs"]}
            if page["next"] is None:
                return {entry.name for entry in (server.data / "files").iterdir()} - jobs
            cursor = f"&cursor={page['next']}"

    with suppress(AssertionError):
        eventually(lambda: not without_a_job())
    if folders := without_a_job():
        wrongs.append(f"folders without a job are left: {sorted(folders)}")
    if not server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0})["id"])["done"]:
        wrongs.append("no work is done any more")
    log = server.log.read_text()
    wrongs += [f"in the log: {line}" for line in log.splitlines() if re.search("Traceback|ERROR|multipart", line)]
    return wrongs
