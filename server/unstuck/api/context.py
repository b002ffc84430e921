"""Gives all routes the running app's services and the job object, and reads ids and numbers of requests.

Must not know: any rule of a job's life, or any route.
See also: the modules beside this one, each of which serves one noun of PROTOCOL.md section 3.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck import wire
from unstuck.api.bodies import Bodies
from unstuck.api.door import Door
from unstuck.errors import InvalidJobId, InvalidRequest
from unstuck.files.protocol import Files
from unstuck.jobs.job import is_job_id
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.kinds.option import KindInfo
from unstuck.settings import Settings
from unstuck.store.protocol import Store
from unstuck.streaming.direct import FlushQueue
from unstuck.streaming.hub import Hub
from unstuck.supervision.supervisor import Supervisor

#: A whole number as a parameter may spell it; int() also reads underscores, spaces and the digits of any script,
#: and is slow on long texts.
WHOLE = re.compile(r"-?[0-9]{1,19}")
#: The largest whole number that fits into a column of the store.
MOST_STORED = 2**63 - 1
#: What decoding JSON raises for bytes that are no JSON, nested too deep, or no UTF-8.
JSON_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
#: For every answer that is not a static file: it is valid only now and only for this caller.
NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """Counts since the start. `lapsed` items lost their runner; `able` is true while a worker can be started.

    `kinds` are those that the workers can work on. `own`: this server has workers of its own.
    """

    workers: int = 0
    deaths: int = 0
    lapsed: int = 0
    able: bool = True
    kinds: Collection[str] = ()
    own: bool = True


@dataclass(frozen=True, slots=True)
class Services:
    """The running app's services, as routes use them.

    `flush` writes to the viewers. `troubles` returns sentences that say what is wrong now. `polls` counts polls by
    their reason. `check_webhook` raises InvalidRequest for a URL to which no webhook can be delivered.
    `door` is where workers on other machines come in.
    """

    settings: Settings
    store: Store
    files: Files
    hub: Hub
    flush: FlushQueue
    bodies: Bodies
    kinds: Mapping[str, KindInfo]
    troubles: Callable[[], list[str]]
    polls: dict[str, int]
    check_webhook: Callable[[str], None]
    supervisor: Supervisor
    door: Door
    work: Callable[[], WorkerStats] = WorkerStats


def services_of(request: Request) -> Services:
    """Return the services of the running app."""
    services = getattr(request.app.state, "services", None)
    if services is None:
        raise RuntimeError(
            "unstuck was mounted but never started, since a mounted app gets no lifespan. "
            "Enter `async with unstuck.app.running(app):` in the lifespan of the host app."
        )
    assert isinstance(services, Services)
    return services


def base_of(request: Request) -> str:
    """Return the prefix under which the app is mounted, without a trailing slash."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def shown(request: Request, snapshot: Snapshot) -> wire.Job:
    """Return the job object as this request is answered with it."""
    services = services_of(request)
    return public(snapshot, time.time(), base_of(request), services.settings.keep_s, services.hub.poll_ms)


def wants_only_progress(request: Request) -> bool:
    """Return whether `?fields=progress` asks for no more than a progress bar needs; raise InvalidRequest."""
    fields = request.query_params.get("fields")
    if fields in (None, "progress"):
        return fields is not None
    raise InvalidRequest(f"fields must be progress, or left out for the whole job, not {fields[:40]!r}.")


def job_id_of(text: str) -> str:
    """Return the job id in lower case; raise InvalidJobId."""
    found = text.lower()
    if not is_job_id(found):
        raise InvalidJobId(text)
    return found


def whole(text: str) -> int | None:
    """Return the whole number of 64 bits that the text spells, or None."""
    found = int(text) if WHOLE.fullmatch(text) else None
    return None if found is None or abs(found) > MOST_STORED else found


def int_param(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """Return a whole number from the query; raise InvalidRequest if it is not one or out of bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    found = whole(text)
    if found is not None and least <= found <= most:
        return found
    raise InvalidRequest(f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}.")


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON that no cache keeps."""
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        media_type="application/json",
        headers={**NO_STORE, **(headers or {})},
    )
