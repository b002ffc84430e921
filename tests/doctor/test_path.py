"""The doctor on real paths: straight to a server, and through proxies that spoil a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.doctor.way import needs_nginx, nginx, spoiled
from tests.support.certificate import make_certificate
from tests.support.server import Server, StartServer
from unstuck.cli.doctor import doctor
from unstuck.doctor.diagnosis import Finding, Level, Measured, exit_code, judge
from unstuck.doctor.measure import base_of, measure

#: Long enough for a few heartbeats, one a second.
SECONDS = 5.0


@pytest.fixture(scope="module")
def brisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a heartbeat every second."""
    environ = {"UNSTUCK_HEARTBEAT_S": "1"}
    server = Server(tmp_path_factory.mktemp("doctor") / "data", "--workers", "1", environ=environ).start()
    yield server
    server.stop()


def found(measured: Measured) -> dict[str, Finding]:
    return {finding.about: finding for finding in judge(measured)}


async def test_a_straight_path(brisk: Server) -> None:
    measured = await measure(f"{brisk.url}/?job=1", SECONDS)
    findings = found(measured)
    for about in ("server", "stream", "compression", "headers", "idle", "polls", "HTTP/2"):
        assert findings[about].level is Level.OK, findings[about]
    assert measured.url == brisk.url
    assert measured.rehearsed
    assert {event.name for event in measured.events} >= {"job", "heartbeat"}
    assert findings["buffering"].level is not Level.BAD, findings["buffering"]
    assert brisk.get("/api/jobs")["jobs"] == [], "the rehearsal was left behind"


async def test_a_path_that_sends_bursts(brisk: Server) -> None:
    async with spoiled(brisk.url, hold_s=3) as url:
        measured = await measure(url, 10)
    finding = found(measured)["buffering"]
    assert finding.level is Level.BAD, measured
    assert "proxy_buffering off" in finding.mend["nginx"]
    assert exit_code(measured, judge(measured)) == 1


async def test_a_path_that_cuts_idle_streams(start_server: StartServer) -> None:
    async with spoiled(start_server("--workers", "1").url, cut_after_s=2) as url:
        measured = await measure(url, 20)
    finding = found(measured)["idle"]
    assert finding.level is Level.BAD
    assert "without a byte" in finding.says
    assert "proxy_read_timeout" in finding.mend["nginx"]


@needs_nginx
def test_nginx_that_only_compresses(tmp_path: Path, brisk: Server) -> None:
    with nginx(tmp_path, brisk.url, "gzip on; gzip_types text/event-stream; gzip_proxied any;") as url:
        findings = found(asyncio.run(measure(url, SECONDS)))
    assert findings["compression"].level is Level.ATTENTION, findings
    assert findings["stream"].level is Level.OK
    assert "a proxy has removed X-Accel-Buffering" in findings["headers"].says


@needs_nginx
def test_nginx_that_buffers_and_compresses(tmp_path: Path, brisk: Server) -> None:
    spoil = (
        "gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0; proxy_buffering on; "
        "proxy_ignore_headers X-Accel-Buffering;"
    )
    with nginx(tmp_path, brisk.url, spoil) as url:
        measured = asyncio.run(measure(url, SECONDS))
    finding = found(measured)
    assert (finding["buffering"] if measured.streamed else finding["stream"]).level is Level.BAD
    assert exit_code(measured, judge(measured)) == 1


@needs_nginx
def test_nginx_that_cuts_idle_streams(tmp_path: Path, start_server: StartServer) -> None:
    with nginx(tmp_path, start_server("--workers", "1").url, "proxy_read_timeout 2s;") as url:
        findings = found(asyncio.run(measure(url, 20)))
    assert findings["idle"].level is Level.BAD


def test_https(tmp_path: Path, start_server: StartServer) -> None:
    certificate, key = make_certificate(tmp_path)
    url = start_server("--workers", "1", "--tls-cert", certificate, "--tls-key", key, heartbeat_s="1").url
    assert "--insecure" in found(asyncio.run(measure(url, 2)))["server"].says
    measured = asyncio.run(measure(url, 4, insecure=True))
    assert measured.streamed
    assert measured.protocol in ("h2", "http/1.1")  # h2 where zttp is installed


async def test_no_server() -> None:
    measured = await measure("http://127.0.0.1:9", 2)
    assert exit_code(measured, judge(measured)) == 2
    assert "Nothing listens on port 9 of 127.0.0.1. Start the server" in judge(measured)[0].says


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("no-such-host.invalid", "The name no-such-host.invalid cannot be resolved"),
        ("127.0.0.1:99999", "is not a valid address (Port out of range"),
        ("ftp://127.0.0.1", "is not a valid address (it needs http://"),
        ("http://", "is not a valid address"),
        ("two words", "is not a valid address"),
        ("http://two..dots", "The name two..dots cannot be resolved"),
        ("http://xn--", "is not a valid address"),
        ("http://[::1", "is not a valid address"),
    ],
)
async def test_bad_addresses(address: str, says: str) -> None:
    measured = await measure(address, 2)
    assert exit_code(measured, judge(measured)) == 2
    assert says in judge(measured)[0].says


async def test_https_to_a_server_without_tls(brisk: Server) -> None:
    measured = await measure(brisk.url.replace("http:", "https:"), 2)
    assert "does not speak TLS" in judge(measured)[0].says
    assert "http:// instead" in judge(measured)[0].says


async def test_a_server_that_does_not_speak_http() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-greeting\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        measured = await measure(f"127.0.0.1:{other.sockets[0].getsockname()[1]}", 2)
    assert "does not speak HTTP" in judge(measured)[0].says


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        ("200 OK", "hello", "not unstuck"),
        ("200 OK", "[]", "not unstuck"),
        ("404 Not Found", "nothing here", "PREFIX"),
        ("401 Unauthorized", "<h1>Sign in</h1>", "it requires a login"),
        ("502 Bad Gateway", "<h1>nginx</h1>", "the server behind it does not"),
        ("421 Misdirected Request", '{"detail": "Allow it with --allowed-host NAME."}', "--allowed-host"),
    ],
)
async def test_a_server_that_is_not_unstuck(head: str, body: str, says: str) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as other:
        measured = await measure(f"127.0.0.1:{other.sockets[0].getsockname()[1]}", 2)
    assert exit_code(measured, judge(measured)) == 2
    assert says in judge(measured)[0].says


def test_the_command(brisk: Server) -> None:
    command = typer.Typer()
    command.command()(doctor)
    told = CliRunner().invoke(command, [brisk.url, "--seconds", "3", "--json"])
    answer = json.loads(told.stdout)
    assert told.exit_code == answer["exit_code"]
    assert {one["about"] for one in answer["findings"]} >= {"server", "buffering", "clocks"}
    shown = CliRunner().invoke(command, ["http://127.0.0.1:9"])
    assert shown.exit_code == 2
    assert "Nothing could be measured" in shown.stdout


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("example.org", "http://example.org"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org/progress/", "https://example.org/progress"),
        ("https://example.org/progress/api/jobs/1?x=2", "https://example.org/progress"),
        ("https://example.org:8443/api", "https://example.org:8443"),
    ],
)
def test_the_base_is_found_in_any_address_of_a_server(given: str, base: str) -> None:
    assert base_of(given) == base
