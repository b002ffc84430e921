"""Serves workers on other machines: claims, reports, and the files of what they claimed.

Must not know: what a command does to an item, or who works here.
See also: wire/work.py (the bodies), runner/remote_queue.py (the other end), PROTOCOL.md section 10.

The door is closed without `work_token`. A claim is the store's own, so priorities and fairness are as on one
machine. The number of the lease fences all else: a command or file under an old one is refused, and what an old
lease left behind is removed.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hmac
import time
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unstuck import __version__, wire
from unstuck.api.bodies import Body
from unstuck.api.context import (
    JSON_ERRORS,
    NO_STORE,
    Services,
    base_of,
    job_id_of,
    json_response,
    services_of,
    whole,
)
from unstuck.api.file_response import RangedFile
from unstuck.errors import (
    InvalidRequest,
    LeaseLost,
    NotFound,
    StoreUnavailable,
    TooLarge,
    Unauthorized,
    UnstuckError,
    WorkClosed,
)
from unstuck.files.protocol import LeaseKey
from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, JobError, Release, Renew, Report, is_job_id
from unstuck.store.protocol import Outcome, Store, WorkItem
from unstuck.wire.work import LONGEST_WAIT_S

#: Most bytes of a claim, and of a report with its results.
CLAIM_BYTES = 256 * 1024
REPORT_BYTES = 16 * 1024 * 1024
#: Most bytes of an item's result as JSON, as for work that the server does itself.
RESULT_BYTES = 64 * 1024
#: Bytes of a result file that are written at a time.
PIECE_BYTES = 1024 * 1024
#: A waiting claim looks this often (seconds), since no commit marks the end of a retry's pause.
LOOK_S = 1.0
#: The longest name of a result file (bytes).
LONGEST_FILE = 255

_CLAIM = msgspec.json.Decoder(wire.WorkClaim)
_REPORT = msgspec.json.Decoder(wire.WorkReport)

T = TypeVar("T")


async def get_work(request: Request) -> Response:
    """Serve GET /api/work: what a worker has to know before it claims."""
    settings = _admitted(request).settings
    return json_response(
        wire.Work(
            version=__version__,
            lease_s=settings.lease_s,
            longest_wait_s=LONGEST_WAIT_S,
            item_limit_s=settings.item_limit_s or None,
            retry_pause_s=settings.retry_pause_s,
            cancel_grace_s=settings.cancel_grace_s,
        )
    )


async def claim(request: Request) -> Response:
    """Serve POST /api/work/claim. If its answer is lost, the leases lapse, and no attempt is used."""
    services = _admitted(request)
    wanted = await _read(request, services, CLAIM_BYTES, _CLAIM)
    services.door.see(wanted.worker)
    loop, lease_s = asyncio.get_running_loop(), services.settings.lease_s
    deadline = loop.time() + wanted.wait_s
    with services.door.waiting(frozenset(wanted.kinds)) as bell:
        while True:
            bell.clear()
            found = await services.store.claim(wanted.limit, lease_s, wanted.worker, wanted.short, wanted.kinds)
            left = deadline - loop.time()
            if await request.is_disconnected():
                await services.store.apply([Release(one.job_id, one.item.index, one.item.lease) for one in found])
                return Response(status_code=400)
            if found or left <= 0 or services.hub.leaving is not None:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_S)):
                    await bell.wait()
    jobs = {job_id: (await services.store.snapshot(job_id)).job for job_id in {one.job_id for one in found}}
    items = [_public(one, jobs[one.job_id], lease_s, base_of(request)) for one in found]
    return json_response(wire.WorkItems(items=items))


async def report(request: Request) -> Response:
    """Serve POST /api/work/report: apply the commands in order, and answer the outcome of each."""
    services = _admitted(request)
    sent = await _read(request, services, REPORT_BYTES, _REPORT)
    services.door.see(sent.worker)
    now = time.time()
    outcomes: list[Outcome | None] = []
    due: list[tuple[int, Command]] = []
    for one in sent.commands:
        outcomes.append(None)
        try:
            if isinstance(one, wire.WorkRenew) and (job := await _fresh(services, one)) is not None:
                outcomes[-1] = job
            else:
                due.append((len(outcomes) - 1, await _command(services, one, now)))
        except UnstuckError as refusal:
            outcomes[-1] = refusal
    applied = await services.store.apply([command for _, command in due]) if due else []
    for (place, command), outcome in zip(due, applied, strict=True):
        outcomes[place] = outcome
        await _clean_up(services, command, outcome)
    return json_response(wire.WorkOutcomes(outcomes=[_outcome(one) for one in outcomes]))


async def get_input(request: Request) -> Response:
    """Serve GET /api/work/{job_id}/items/{index}/leases/{lease}/input."""
    services = _admitted(request)
    job_id, index, lease = _key(request)
    item = await _held(services.store, job_id, index, lease)
    place = None if item.file is None else await services.files.locate_input(job_id, item.file)
    if place is None:
        raise NotFound(f"Item {index} of job {job_id} has no file (any more).")
    if isinstance(place, str):
        return RedirectResponse(place, 302, headers=NO_STORE)
    return RangedFile(place, media_type="application/octet-stream", headers=NO_STORE)


async def put_output(request: Request) -> Response:
    """Serve PUT /api/work/{job_id}/items/{index}/leases/{lease}/output: keep a result file, durably."""
    services = _admitted(request)
    key = _key(request)
    name = _file_name(request.query_params.get("name", ""))
    await _held(services.store, *key)
    most = services.settings.max_job_bytes
    with Body(request, services.bodies) as body:
        if body.declared > most:
            raise _too_large(most)
        try:
            await _receive(services, key, name, body, most)
        finally:
            if not await _wanted(services.store, key):
                services.door.discard_output(key)
    return Response(status_code=204, headers=NO_STORE)


# -- who may enter


def _admitted(request: Request) -> Services:
    """Return the services to a worker with the token. Raises WorkClosed, Unauthorized."""
    services = services_of(request)
    token = services.settings.work_token
    if not token:
        raise WorkClosed
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Unauthorized
    return services


async def _read(request: Request, services: Services, most: int, decoder: msgspec.json.Decoder[T]) -> T:
    refusal = TooLarge(f"The body may have at most {most:,} bytes; send several.", code="body_too_large")
    with Body(request, services.bodies) as body:
        raw = await body.read(most, refusal)
    try:
        return decoder.decode(raw.removeprefix(codecs.BOM_UTF8))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body cannot be read: {error}", status=422) from None
    except JSON_ERRORS as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None


# -- claims


def _public(found: WorkItem, job: Job, lease_s: float, base: str) -> wire.WorkItem:
    item = found.item
    path = f"{base}/api/work/{found.job_id}/items/{item.index}/leases/{item.lease}"
    return wire.WorkItem(
        job_id=found.job_id,
        kind=found.kind,
        options=found.options,
        index=item.index,
        name=item.name,
        size=item.size,
        lease=item.lease,
        lease_s=lease_s,
        attempt=item.attempt,
        limit_s=found.limit_s,
        errors_left=None if job.max_errors is None else max(job.max_errors - job.failed, 0),
        input=None if item.file is None else f"{path}/input",
        output=f"{path}/output",
    )


# -- commands


async def _fresh(services: Services, renew: wire.WorkRenew) -> Job | None:
    """Return the job if the lease was renewed lately, so that a renewal each second is not written each second."""
    if not is_job_id(renew.job_id):
        return None
    item = await services.store.item(renew.job_id, renew.index)
    if item is None or item.lease != renew.lease or item.lease_until is None:
        return None
    if item.lease_until < time.time() + services.settings.lease_s * 2 / 3:
        return None
    return (await services.store.snapshot(renew.job_id)).job


async def _command(
    services: Services, sent: wire.WorkProgress | wire.WorkFinish | wire.WorkRenew | wire.WorkRelease, now: float
) -> Command:
    """Return the store's command. Raises what is wrong with this one."""
    key = job_id_of(sent.job_id), sent.index, sent.lease
    match sent:
        case wire.WorkRenew():
            return Renew(*key, services.settings.lease_s)
        case wire.WorkRelease():
            return Release(*key)
        case wire.WorkProgress():
            return Report(*key, now - sent.running_s, sent.fraction, sent.message)
    error = None if sent.error is None else JobError(sent.error.code, sent.error.message, sent.error.transient)
    state = ItemState(sent.state)
    if sent.result_file is not None:
        if state is not ItemState.SUCCEEDED:
            raise InvalidRequest("Only an item that succeeded has a result file.", status=422)
        await services.files.locate_result(*key, _file_name(sent.result_file))  # or NotFound
    began = now - sent.running_s
    result = _result(sent.result)
    return Finish(*key, state, began, error, sent.message, result, sent.result_file, sent.pause_s)


def _result(raw: msgspec.Raw) -> Any:
    if len(raw) == 0:
        return None
    if len(raw) > RESULT_BYTES:
        raise TooLarge(f"An item's result may have at most {RESULT_BYTES:,} bytes.", code="result_too_large")
    return msgspec.json.decode(raw)


async def _clean_up(services: Services, command: Command, outcome: Outcome) -> None:
    """Remove what was uploaded under a lease that has ended without a result."""
    if not isinstance(command, Finish | Release):
        return
    if isinstance(outcome, Job) and isinstance(command, Finish) and command.state is ItemState.SUCCEEDED:
        return
    key = command.job_id, command.index, command.lease
    if not await _wanted(services.store, key):
        services.door.discard_output(key)


def _outcome(outcome: Outcome | None) -> wire.WorkOutcome:
    assert outcome is not None
    if isinstance(outcome, Job):
        return wire.WorkOutcome(ok=True, stopping=outcome.stopping)
    return wire.WorkOutcome(ok=False, code=outcome.code, detail=outcome.detail)


# -- files


def _key(request: Request) -> LeaseKey:
    job_id = job_id_of(request.path_params["job_id"])
    index, lease = (whole(request.path_params[name]) for name in ("index", "lease"))
    if index is None or lease is None:
        raise InvalidRequest("An item's index and its lease must be whole numbers.")
    return job_id, index, lease


def _file_name(name: str) -> str:
    one_step = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    if not one_step or len(name.encode("utf-8", "replace")) > LONGEST_FILE:
        raise InvalidRequest(f"A result file's name is one name of a file, not {name[:40]!r}.", status=422)
    return name


async def _held(store: Store, job_id: str, index: int, lease: int) -> Item:
    """Return the item that is held under this lease. Raises JobNotFound, LeaseLost."""
    item = await store.item(job_id, index)
    if item is None or item.lease != lease or item.lease_until is None:
        raise LeaseLost(f"Item {index} of job {job_id} is not held under lease {lease}; drop its work.")
    return item


async def _wanted(store: Store, key: LeaseKey) -> bool:
    """Return whether what was uploaded under this lease is, or may become, a result."""
    job_id, index, lease = key
    try:
        item = await store.item(job_id, index)
    except StoreUnavailable:
        return True  # not known: it is removed with its job at the latest
    except UnstuckError:
        return False
    return item is not None and item.lease == lease and (item.lease_until or item.result_file) is not None


async def _receive(services: Services, key: LeaseKey, name: str, body: Body, most: int) -> None:
    """Keep the body as this file, durably, if the lease is still held at its end."""
    size, pending = 0, bytearray()
    file = await services.files.put_result(*key, name)
    try:
        async for piece in body.pieces():
            size += len(piece)
            if size > most:
                raise _too_large(most)
            pending += piece
            if len(pending) >= PIECE_BYTES:
                await file.write(bytes(pending))
                pending.clear()
        await file.write(bytes(pending))
        await _held(services.store, *key)  # it may have been lost meanwhile
        await file.close()
    except BaseException:
        await file.abort()
        raise


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"A result file may have at most {most:,} bytes.", code="file_too_large")
