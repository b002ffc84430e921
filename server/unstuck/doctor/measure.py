"""Measures the real path from here to a server: what `unstuck doctor` has judged by diagnosis.py.

A rehearsal job moves for a while, so that the events' own times show what the way does to them; then the
stream is quiet but for its heartbeats, so that a proxy that cuts idle connections does so. Polls beside it
compare the clocks. Where the server knows no rehearsal, the stream of all jobs is watched instead.
It decides nothing, and leaves nothing behind.
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

from unstuck.doctor.diagnosis import Event, Measured

#: Of the time to watch, how much the rehearsal may take; the rest is quiet.
REHEARSAL_SHARE, REHEARSAL_MOST_S = 0.25, 6.0
#: Between two polls beside the stream (seconds).
POLL_S = 1.0
#: For any single answer but the stream's.
PATIENCE_S = 10.0
#: The server says no finer time than this in its Date header (seconds).
DATE_STEP_S = 1.0
#: What a browser asks for, as far as httpx can read it.
BROWSER = {"Accept-Encoding": "gzip, deflate", "Cache-Control": "no-cache"}

Say = Callable[[str], None]


async def measure(url: str, seconds: float, *, insecure: bool = False, say: Say = lambda _: None) -> Measured:
    """Everything there is to know about the path to the server at `url`, in about `seconds`."""
    measured = Measured(url)
    try:
        measured.url = base_of(url)
        _place(measured.url)
    except (httpx.InvalidURL, ValueError) as error:
        measured.unreachable = f"{url!r} is no address to measure ({error}); give one such as https://example.org."
        return measured
    limits = httpx.Timeout(PATIENCE_S)
    try:
        async with httpx.AsyncClient(headers=BROWSER, timeout=limits, verify=not insecure) as client:
            say("asking for the API")
            if await _look_for_api(client, measured):
                measured.protocol = await _agreed_protocol(measured.url, insecure)
                await _watch(client, measured, seconds, say)
    except httpx.HTTPError as error:
        measured.unreachable = await _why(measured.url, error)
    return measured


def _place(url: str) -> tuple[str, int]:
    """Host and port; ValueError or httpx.InvalidURL where there are none."""
    given, port = httpx.URL(url), urlsplit(url).port  # each of the two finds what the other lets pass
    if given.scheme not in ("http", "https") or not given.host or re.search(r"\s", url):
        raise ValueError("it takes http:// or https://, and a host")
    return given.host, port or (443 if given.scheme == "https" else 80)


def base_of(url: str) -> str:
    """Where the app is mounted, from whatever address of it somebody has at hand."""
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    path = parts.path.split("/api/")[0].removesuffix("/api").removesuffix("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


async def _why(url: str, error: httpx.HTTPError) -> str:
    """Why there was no answer, and what to do about it: the steps of a request, one by one."""
    reason = str(error) or type(error).__name__
    host, port = _place(url)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"The certificate of {url} is not trusted here ({reason}). Measure all the same with --insecure."
    if "SSL" in reason:
        return f"Port {port} of {host} does not speak TLS ({reason}). Is it http:// instead?"
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (socket.gaierror, UnicodeError):
        return f"The name {host} is not known here. Is it spelt right? Ask the name service: getent hosts {host}"
    except ConnectionRefusedError:
        return (
            f"Nothing listens on port {port} of {host}. Start the server there (unstuck serve), or give the port "
            "that it listens on."
        )
    except TimeoutError:
        return f"{host} does not answer on port {port}: it is down, or a firewall drops what is sent there."
    except OSError as trouble:
        return f"{host} cannot be reached from here ({trouble})."
    writer.close()
    if isinstance(error, httpx.TimeoutException):
        return f"Something listens on port {port} of {host}, and says nothing: it hangs. Restart it; see its log."
    return (
        f"What listens on port {port} of {host} does not answer as HTTP does ({reason}). Is it https:// instead?"
    )


async def _look_for_api(client: httpx.AsyncClient, measured: Measured) -> bool:
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
    """Why the API is not to be had: in the server's own words, or in those for a proxy's answer."""
    told = f"{answer.url} answers {answer.status_code}"
    if isinstance(problem, dict) and "detail" in problem:
        return f"{told}: {problem['detail']}"
    if answer.status_code in (401, 403):
        return f"{told}: a login is in the way. Measure from a place that needs none, or from behind it."
    if answer.status_code in (502, 503, 504):
        return f"{told}: a proxy is there, and the server behind it is not. Start the server; see its log."
    return f"{told}: a web server is there, and no unstuck. Is it under a prefix? unstuck doctor URL/PREFIX"


async def _agreed_protocol(url: str, insecure: bool) -> str | None:
    """What TLS agrees on when both are offered, as a browser does; None without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    context = ssl._create_unverified_context() if insecure else ssl.create_default_context()  # noqa: S323
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    except (OSError, TimeoutError):
        return "unknown"  # a direct way is closed, as behind an outgoing proxy
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    return agreed or "http/1.1"


async def _watch(client: httpx.AsyncClient, measured: Measured, seconds: float, say: Say) -> None:
    rehearsal_s = min(seconds * REHEARSAL_SHARE, REHEARSAL_MOST_S)
    job = await _rehearse(client, measured.url, rehearsal_s)
    measured.rehearsed = job is not None
    say("a rehearsal job moves" if job else "no rehearsal here; heartbeats have to do")
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
        replace(one, age_s=None if one.age_s is None else one.age_s + apart) for one in measured.events
    ]


async def _rehearse(client: httpx.AsyncClient, base: str, seconds: float) -> str | None:
    """A job that moves for so long; None where that kind of work is not known."""
    work = {"kind": "rehearsal", "name": "unstuck doctor", "total": 1, "options": {"seconds": round(seconds, 2)}}
    answer = await client.post(f"{base}/api/jobs", json=work)
    return str(answer.json()["id"]) if answer.status_code == 202 else None


async def _remove(client: httpx.AsyncClient, base: str, job: str) -> bool:
    """Cancelled, waited for, removed."""
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
    asked = time.monotonic()
    address = f"{measured.url}/api/events/stream" + (f"?job={job}" if job else "")
    limits = httpx.Timeout(PATIENCE_S, read=None)
    said_farewell = False
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream("GET", address, headers={"Accept": "text/event-stream"}, timeout=limits) as answer,
        ):
            measured.headers_s = time.monotonic() - asked
            measured.status, measured.headers = answer.status_code, dict(answer.headers)
            if not measured.streamed:
                return
            async for name, said in _events(answer, measured, asked):
                made_at = _made_at(said)
                age = None if made_at is None else time.time() - made_at
                measured.events.append(Event(time.monotonic() - asked, name, age, said.get("next_s")))
                said_farewell = said_farewell or name == "leaving"
            measured.cut = not said_farewell
    except TimeoutError:
        pass  # watched long enough, and it is still open
    except httpx.TransportError:
        measured.cut = measured.headers_s is not None and not said_farewell
    finally:
        measured.watched_s = time.monotonic() - asked


async def _events(
    answer: httpx.Response, measured: Measured, asked: float
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event, as it comes."""
    waiting = b""
    async for some in answer.aiter_bytes():
        measured.last_byte_s = time.monotonic() - asked
        measured.first_byte_s = measured.first_byte_s or measured.last_byte_s
        *whole, waiting = (waiting + some).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in whole:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"event" in fields:
                yield fields[b"event"].decode(errors="replace"), _object(fields.get(b"data", b""))


def _object(data: bytes) -> dict[str, Any]:
    """What was said, and nothing where that cannot be read."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _made_at(said: dict[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(said["server_time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


async def _poll(client: httpx.AsyncClient, measured: Measured, job: str | None) -> None:
    """Polls beside the stream until cancelled; the quickest one says the most about the clocks."""
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


def _compare_clocks(measured: Measured, said: Any, wall: float, took: float) -> None:
    time_said = said.get("server_time") if isinstance(said, dict) else None
    if time_said is None or took / 2 >= (measured.clock_unsure_s if measured.clock_s is not None else 1e9):
        return
    measured.clock_s = datetime.fromisoformat(time_said).timestamp() - (wall + took / 2)
    measured.clock_unsure_s = took / 2


def _compare_date(measured: Measured, answer: httpx.Response) -> None:
    """The Date header is rough, and better than nothing: a proxy may have written it, too."""
    try:
        said = parsedate_to_datetime(answer.headers["date"]).timestamp() + DATE_STEP_S / 2
    except (KeyError, ValueError):
        return
    took = answer.elapsed.total_seconds()
    measured.clock_s = said - (time.time() - took / 2)
    measured.clock_unsure_s = DATE_STEP_S + took / 2
