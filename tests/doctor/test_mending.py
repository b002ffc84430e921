"""The doctor's advice works: each printed line, applied as it is, makes its finding go away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.doctor.way import caddy, needs_caddy, needs_nginx, nginx
from tests.support.server import Server, StartServer
from unstuck.cli.doctor import doctor

#: A rehearsal of one second, and a few heartbeats.
SECONDS = 4.0
#: Enough to notice an idle limit of 2.5 s, with a heartbeat only every 5 s.
QUIET_SECONDS, SELDOM_S = 8.0, "5"
#: Makes nginx hold back the whole response, and lets browsers cache it for an hour.
HOARDS = """gzip on;
gzip_types text/event-stream;
gzip_proxied any;
proxy_buffering on;
proxy_ignore_headers X-Accel-Buffering;
expires 1h;"""


@pytest.fixture(scope="module")
def brisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a heartbeat every second."""
    environ = {"UNSTUCK_HEARTBEAT_S": "1"}
    server = Server(tmp_path_factory.mktemp("mending") / "data", "--workers", "1", environ=environ).start()
    yield server
    server.stop()


@pytest.fixture
def seldom(start_server: StartServer) -> Server:
    """A server whose heartbeats are rarer than the idle limits of the proxies in these tests."""
    return start_server("--workers", "1", heartbeat_s=SELDOM_S)


def screen(way: AbstractContextManager[str], seconds: float = SECONDS) -> str:
    """Return what the doctor prints about a path."""
    command = typer.Typer()
    command.command()(doctor)
    with way as url:
        return CliRunner().invoke(command, [url, "--seconds", str(seconds)]).stdout


def fine(text: str, about: str) -> bool:
    return re.search(rf"^✓ ok +{about} ", text, re.MULTILINE) is not None


def troubles(text: str) -> list[str]:
    return re.findall(r"^(?:✗ bad|! attention) +(\S+) ", text, re.MULTILINE)


def line_for(proxy: str, about: str, text: str) -> str:
    """Return the advice for this proxy under this finding, copied from the screen as a user would."""
    under = re.search(rf"^(?:✗ bad|! attention) +{about} (?:.*\n)((?: .*\n)+)", text, re.MULTILINE)
    assert under, f"nothing is wrong with {about}:\n{text}"
    label = f"{proxy:>24}  "
    lines = iter(under[1].splitlines())
    copied = [next(line for line in lines if line.startswith(label))]
    for line in lines:
        if not line.startswith(" " * len(label)):
            break
        copied.append(line)
    return "\n".join(line[len(label) :] for line in copied)


def mended(configuration: str, line: str) -> str:
    """Return the configuration with the printed lines in place of those about the same matter."""
    new, old = statements(line), statements(configuration)
    matters = {one.split()[0] for one in new}
    return "\n".join([*(one for one in old if one.split()[0] not in matters), *new])


def statements(text: str) -> list[str]:
    """Return each statement with its block; a statement starts at a line that is not indented."""
    return re.findall(r"^[^\s}].*(?:\n[\s}].*)*", text, re.MULTILINE)


@needs_nginx
def test_the_advice_for_nginx(tmp_path: Path, brisk: Server) -> None:
    """The lines are added in turn: compression and headers show only once something comes through."""
    text = screen(nginx(tmp_path, brisk.url, HOARDS))
    assert "stream" in troubles(text), text
    passes = mended(HOARDS, line_for("nginx", "stream", text))
    text = screen(nginx(tmp_path, brisk.url, passes))
    assert fine(text, "stream"), text
    as_sent = mended(passes, line_for("nginx", "compression", text))
    as_sent = mended(as_sent, line_for("nginx", "headers", text))
    text = screen(nginx(tmp_path, brisk.url, as_sent))
    assert all(fine(text, about) for about in ("stream", "compression", "headers", "idle")), text


@needs_nginx
def test_an_idle_limit_of_nginx_is_raised_or_avoided_by_heartbeats(
    tmp_path: Path, seldom: Server, start_server: StartServer
) -> None:
    configuration = "proxy_read_timeout 2500ms;"
    before = screen(nginx(tmp_path, seldom.url, configuration), QUIET_SECONDS)
    raised = mended(configuration, line_for("nginx", "idle", before))
    after = screen(nginx(tmp_path, seldom.url, raised), QUIET_SECONDS)
    assert fine(after, "idle"), after
    setting, often = line_for("or unstuck", "idle", before).split("=")
    assert setting == "UNSTUCK_HEARTBEAT_S"
    lively = start_server("--workers", "1", data="lively", heartbeat_s=often)
    after = screen(nginx(tmp_path, lively.url, configuration), QUIET_SECONDS)
    assert fine(after, "idle"), after


@needs_nginx
def test_harmless_settings_are_not_faults(tmp_path: Path, brisk: Server) -> None:
    """HTTP/1.0 to the server and `proxy_buffering on` let streams through."""
    text = screen(nginx(tmp_path, brisk.url, "proxy_http_version 1.0;\nproxy_buffering on;"))
    assert all(fine(text, about) for about in ("stream", "compression", "headers", "idle")), text


@needs_caddy
@pytest.mark.parametrize(
    ("site", "about"),
    [
        ("reverse_proxy HOST:PORT {\n\tbuffer_responses\n}", "stream"),
        # Caddy obeys no-transform and does not compress small chunks, so it has to be forced to compress.
        (
            "reverse_proxy HOST:PORT {\n\theader_down -Cache-Control\n}\nencode {\n\tgzip\n\tminimum_length 1\n}",
            "compression",
        ),
        ("reverse_proxy HOST:PORT\nheader {\n\tCache-Control max-age=60\n\tdefer\n}", "headers"),
    ],
)
def test_the_advice_for_caddy(tmp_path: Path, brisk: Server, site: str, about: str) -> None:
    place = brisk.url.removeprefix("http://")
    before = screen(caddy(tmp_path, site.replace("HOST:PORT", place)))
    assert about in troubles(before), before
    better = mended(site, line_for("Caddy", about, before)).replace("HOST:PORT", place)
    after = screen(caddy(tmp_path, better))
    assert fine(after, about), after


@needs_caddy
def test_idle_and_total_limits_of_caddy(tmp_path: Path, seldom: Server) -> None:
    place = seldom.url.removeprefix("http://")
    site = "reverse_proxy HOST:PORT {\n\ttransport http {\n\t\tread_timeout 2500ms\n\t}\n}"
    before = screen(caddy(tmp_path, site.replace("HOST:PORT", place)), QUIET_SECONDS)
    better = mended(site, line_for("Caddy", "idle", before)).replace("HOST:PORT", place)
    assert fine(after := screen(caddy(tmp_path, better), QUIET_SECONDS), "idle"), after
    options = "servers {\n\ttimeouts {\n\t\twrite 500ms\n\t}\n}"
    before = screen(caddy(tmp_path, better, options))
    after = screen(caddy(tmp_path, better, mended(options, line_for("Caddy", "idle", before))))
    assert fine(after, "idle"), after
