"""Measures the real network path from here to a server, for `unstuck doctor`.

A rehearsal job makes progress for a while, so that the times in its events show how long they take to arrive. Then
the stream carries only heartbeats, so that a proxy that cuts idle connections does so. Polls beside it compare the
clocks. If the server has no rehearsal kind, the stream of all jobs is watched instead. Nothing is left behind.

It must not judge what it measures.
Next: diagnosis.py, which does.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from unstuck.client.sse_decoder import SSEDecoder
from unstuck.client.transport import is_this_machine
from unstuck.doctor.diagnosis import Event, Measured

#: The share of the watching time that the rehearsal may take, and its upper limit; the rest is quiet.
REHEARSAL_SHARE, REHEARSAL_MOST_S = 0.25, 6.0
#: The pause between two polls beside the stream (seconds).
POLL_S = 1.0
#: The timeout of any single answer but the stream's (seconds).
PATIENCE_S = 10.0
#: The resolution of the Date header (seconds).
DATE_STEP_S = 1.0
#: The request headers of a browser, as far as httpx can decode the answer.
BROWSER = {"Accept-Encoding": "gzip, deflate", "Cache-Control": "no-cache"}

Say = Callable[[str], None]


async def measure(url: str, seconds: float, *, insecure: bool = False, say: Say = lambda _: None) -> Measured:
    """Measure the path to the server at `url`, in about `seconds`; `say` is called with each step."""
    measured = Measured(url)
    try:
        measured.url = base_of(url)
        _host_and_port(measured.url)
    except (httpx.InvalidURL, ValueError) as error:
        measured.unreachable = f"{url!r} is not a valid address ({error}); give one such as https://example.org."
        return measured
    limits = httpx.Timeout(PATIENCE_S)
    try:
        # A proxy would look for this machine on its own; the certificates of the environment count all the same.
        async with httpx.AsyncClient(
            headers=BROWSER, timeout=limits, verify=httpx.create_ssl_context(verify=not insecure),
            trust_env=not is_this_machine(measured.url),
        ) as client:  # fmt: skip
            say("Looking for the API")
            if await _find_api(client, measured):
                measured.protocol = await _agreed_protocol(measured.url, insecure)
                await _watch(client, measured, seconds, say)
    except httpx.HTTPError as error:
        measured.unreachable = await _explain(measured.url, error)
    return measured


def _host_and_port(url: str) -> tuple[str, int]:
    """Return host and port; ValueError or httpx.InvalidURL if the URL has none."""
    given, port = httpx.URL(url), urlsplit(url).port  # each of the two finds errors that the other misses
    if given.scheme not in ("http", "https") or not given.host or re.search(r"\s", url):
        raise ValueError("it needs http:// or https:// and a host")
    return given.host, port or (443 if given.scheme == "https" else 80)


def base_of(url: str) -> str:
    """Return the base URL of the app, given any address of it."""
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    path = parts.path.split("/api/")[0].removesuffix("/api").removesuffix("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


async def _explain(url: str, error: httpx.HTTPError) -> str:
    """Say why there was no answer and what to do about it, by trying the steps of a request one by one."""
    reason = str(error) or type(error).__name__
    host, port = _host_and_port(url)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"The certificate of {url} is not trusted here ({reason}). To measure anyway, add --insecure."
    if "SSL" in reason:
        return f"Port {port} of {host} does not speak TLS ({reason}). Should it be http:// instead?"
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (socket.gaierror, UnicodeError):
        return f"The name {host} cannot be resolved here. Is it spelled correctly? Check with: getent hosts {host}"
    except ConnectionRefusedError:
        return (
            f"Nothing listens on port {port} of {host}. Start the server there (unstuck serve), or give the port "
            "on which it listens."
        )
    except TimeoutError:
        return f"{host} does not answer on port {port}: it is down, or a firewall drops the packets."
    except OSError as trouble:
        return f"{host} cannot be reached from here ({trouble})."
    writer.close()
    if isinstance(error, httpx.TimeoutException):
        return f"Something listens on port {port} of {host} but does not answer: it may hang. Check its log."
    return f"Port {port} of {host} does not speak HTTP ({reason}). Should it be https:// instead?"


async def _find_api(client: httpx.AsyncClient, measured: Measured) -> bool:
    answer = await client.get(f"{measured.url}/api/health", follow_redirects=True)
    measured.url = base_of(str(answer.url))
    try:
        health = answer.json()
    except ValueError:
        health = None
    if answer.status_code >= 400:
        measured.unreachable = _refusal(answer, health)
        return False
    if not isinstance(health, dict) or "queue" not in health or "streams" not in health:
        return False
    measured.api = True
    measured.troubles = [str(one) for one in health.get("troubles", [])]
    wire = answer.headers.get("x-unstuck-wire") or health.get("wire")
    measured.wire = None if wire is None else str(wire)
    _compare_date(measured, answer)
    return True


def _refusal(answer: httpx.Response, problem: Any) -> str:
    """Say why the API is not available, in the server's own words if it gave any."""
    answered = f"{answer.url} answers {answer.status_code}"
    if isinstance(problem, dict) and "detail" in problem:
        return f"{answered}: {problem['detail']}"
    if answer.status_code in (401, 403):
        return f"{answered}: it requires a login. Measure from where none is needed, such as behind the proxy."
    if answer.status_code in (502, 503, 504):
        return f"{answered}: a proxy answers, but the server behind it does not. Start it, or check its log."
    return f"{answered}: a web server answers, but not unstuck. Is there a prefix? unstuck doctor URL/PREFIX"


async def _agreed_protocol(url: str, insecure: bool) -> str | None:
    """Return the protocol that TLS negotiates if offered both, as a browser does; None without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    context = ssl._create_unverified_context() if insecure else ssl.create_default_context()  # noqa: S323
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    except (OSError, TimeoutError):
        return "unknown"  # no direct connection, as behind an outgoing proxy
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    return agreed or "http/1.1"


async def _watch(client: httpx.AsyncClient, measured: Measured, seconds: float, say: Say) -> None:
    rehearsal_s = min(seconds * REHEARSAL_SHARE, REHEARSAL_MOST_S)
    job = await _rehearse(client, measured.url, rehearsal_s)
    measured.rehearsed = job is not None
    say("Watching a rehearsal job" if job else "Watching heartbeats, as the server has no rehearsal kind")
    polling = asyncio.create_task(_poll(client, measured, job))
    try:
        await _stream(client, measured, job, seconds)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        if job is not None and not await _remove(client, measured.url, job):
            measured.leftover_job = job
    apart = measured.clock_s or 0.0
    measured.events = [
        replace(event, age_s=None if event.age_s is None else event.age_s + apart) for event in measured.events
    ]


async def _rehearse(client: httpx.AsyncClient, base: str, seconds: float) -> str | None:
    """Submit a job that makes progress for so long, and return its id; None if the server has no such kind."""
    work = {"kind": "rehearsal", "name": "unstuck doctor", "total": 1, "options": {"seconds": round(seconds, 2)}}
    answer = await client.post(f"{base}/api/jobs", json=work)
    return str(answer.json()["id"]) if answer.status_code == 202 else None


async def _remove(client: httpx.AsyncClient, base: str, job: str) -> bool:
    """Cancel the job, wait for its end and remove it; return whether that succeeded."""
    end = time.monotonic() + PATIENCE_S
    try:
        await client.post(f"{base}/api/jobs/{job}/cancel")
        while time.monotonic() < end:
            if (await client.delete(f"{base}/api/jobs/{job}")).status_code in (204, 404):
                return True
            await asyncio.sleep(0.2)
    except httpx.HTTPError:
        return False
    return False


async def _stream(client: httpx.AsyncClient, measured: Measured, job: str | None, seconds: float) -> None:
    requested_at = time.monotonic()
    address = f"{measured.url}/api/events/stream" + (f"?job={job}" if job else "")
    limits = httpx.Timeout(PATIENCE_S, read=None)
    leaving = False
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream("GET", address, headers={"Accept": "text/event-stream"}, timeout=limits) as answer,
        ):
            measured.headers_s = time.monotonic() - requested_at
            measured.status, measured.headers = answer.status_code, dict(answer.headers)
            if not measured.streamed:
                return
            async for name, data in _events(answer, measured, requested_at):
                made_at = _made_at(data)
                age = None if made_at is None else time.time() - made_at
                measured.events.append(Event(time.monotonic() - requested_at, name, age, data.get("next_s")))
                leaving = leaving or name == "leaving"
            measured.cut = not leaving
    except TimeoutError:
        pass  # watched long enough, and it is still open
    except httpx.TransportError:
        measured.cut = measured.headers_s is not None and not leaving
    finally:
        measured.watched_s = time.monotonic() - requested_at


async def _events(
    answer: httpx.Response, measured: Measured, requested_at: float
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the name and data of each event as it arrives."""
    decoder = SSEDecoder()
    async for chunk in answer.aiter_bytes():
        measured.last_byte_s = time.monotonic() - requested_at
        measured.first_byte_s = measured.first_byte_s or measured.last_byte_s
        for event in decoder.feed(chunk):
            yield event.event, _object(event.data)


def _object(data: str) -> dict[str, Any]:
    """Parse a JSON object; return an empty one for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _made_at(data: dict[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(data["server_time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


async def _poll(client: httpx.AsyncClient, measured: Measured, job: str | None) -> None:
    """Poll beside the stream until cancelled; the fastest poll compares the clocks most exactly."""
    address = f"{measured.url}/api/jobs/{job}" if job else f"{measured.url}/api/health"
    while True:
        began, wall = time.monotonic(), time.time()
        try:
            answer = await client.get(address, headers={"X-Unstuck-Poll": "manual"})
            answer.raise_for_status()
            took = time.monotonic() - began
            _compare_clocks(measured, answer.json(), wall, took)
            measured.polls_s.append(took)
        except (httpx.HTTPError, ValueError):
            measured.polls_failed += 1
        await asyncio.sleep(POLL_S)


def _compare_clocks(measured: Measured, body: Any, wall: float, took: float) -> None:
    server_time = body.get("server_time") if isinstance(body, dict) else None
    if server_time is None or took / 2 >= (measured.clock_unsure_s if measured.clock_s is not None else 1e9):
        return
    measured.clock_s = datetime.fromisoformat(server_time).timestamp() - (wall + took / 2)
    measured.clock_unsure_s = took / 2


def _compare_date(measured: Measured, answer: httpx.Response) -> None:
    """Compare the clocks by the Date header, which is coarse, and may be a proxy's, but better than nothing."""
    try:
        date = parsedate_to_datetime(answer.headers["date"]).timestamp() + DATE_STEP_S / 2
    except (KeyError, ValueError):
        return
    took = answer.elapsed.total_seconds()
    measured.clock_s = date - (time.time() - took / 2)
    measured.clock_unsure_s = DATE_STEP_S + took / 2
