"""The Host check, requests from other sites, and the headers of every response."""

from __future__ import annotations

import httpx
import pytest

from tests.support.http import raw
from tests.support.server import Server, StartServer


def host_of(server: Server) -> str:
    return server.url.removeprefix("http://")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1@evil", "localhost.evil.example", "", "[::1", "a:b:c"])
def test_foreign_hosts_are_refused(server: Server, host: str) -> None:
    for path in ("/", "/api/jobs", "/api/events/stream"):
        answer = httpx.get(f"{server.url}{path}", headers={"Host": host})
        assert answer.status_code in (400, 421)


def test_two_host_headers_are_refused(server: Server) -> None:
    answer = raw(server, "GET /api/jobs HTTP/1.1\nHost: localhost\nHost: evil.example\n\n")
    assert answer.split()[1] in (b"400", b"421")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8765"])
def test_loopback_hosts_are_allowed(server: Server, host: str) -> None:
    assert httpx.get(f"{server.url}/api/jobs", headers={"Host": host}).status_code == 200


def test_more_hosts_can_be_allowed(start_server: StartServer) -> None:
    server = start_server("--workers", "1", "--allowed-host", "progress.example")
    assert httpx.get(f"{server.url}/api/jobs", headers={"Host": "progress.example:8080"}).status_code == 200
    assert httpx.get(f"{server.url}/api/jobs", headers={"Host": "other.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "multipart/form-data; boundary=B"])
def test_other_sites_change_nothing(server: Server, headers: dict[str, str], content_type: str) -> None:
    job = server.submit("rehearsal", total=1, options={"seconds": 0})
    body = b'{"kind":"rehearsal","total":1}'
    headers = {**headers, "Content-Type": content_type}
    count = len(server.get("/api/jobs?limit=200")["jobs"])
    for path in ("/api/jobs", f"/api/jobs/{job['id']}/cancel"):
        assert httpx.post(f"{server.url}{path}", content=body, headers=headers).status_code == 403
    assert httpx.delete(f"{server.url}/api/jobs/{job['id']}", headers=headers).status_code == 403
    assert len(server.get("/api/jobs?limit=200")["jobs"]) == count


def test_the_servers_own_page_may_submit(server: Server) -> None:
    headers = {"Origin": f"http://{host_of(server)}", "Sec-Fetch-Site": "same-origin"}
    body = {"kind": "rehearsal", "total": 1, "options": {"seconds": 0}}
    assert httpx.post(f"{server.url}/api/jobs", json=body, headers=headers).status_code == 202


@pytest.mark.parametrize("path", ["/", "/static/define.js", "/api/jobs", "/nowhere"])
def test_every_response_has_the_security_headers(server: Server, path: str) -> None:
    answer = httpx.get(f"{server.url}{path}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_has_no_inline_code(server: Server) -> None:
    page = httpx.get(f"{server.url}/").text
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


def test_static_files_stay_in_their_folder(server: Server) -> None:
    for path in ("/static/..%2f..%2fetc/passwd", "/static/%2e%2e/pyproject.toml", "/static//etc/passwd"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
