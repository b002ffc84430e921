"""Creates a new job from what failed in a finished one, or from all of it.

Must not know: how the store makes a job durable, or what idempotency is.
See also: admission.py (which creates the job), files/protocol.py (shared inputs), PROTOCOL.md section 3.

The new job has the old one's kind, options and limits, and shares its inputs; a deadline starts anew. What cannot
be retried is refused before the job exists, and leaves nothing behind.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api import admission
from unstuck.api.bodies import Body
from unstuck.api.context import JSON_ERRORS, Services, job_id_of, services_of
from unstuck.api.submission import check_kind, check_webhook
from unstuck.errors import DamagedJob, InvalidRequest, JobNotDone, NothingToRetry
from unstuck.files.folder import stored_name
from unstuck.jobs.job import UNREADABLE, Item, ItemState, Job, State
from unstuck.store.protocol import Store
from unstuck.wire import RetryRequest

#: Most bytes of a request's body.
BODY_BYTES = 4096
#: Items that are read, and inputs that are linked, at a time.
PAGE = 1_000

#: The states of items that a retry repeats unless it repeats all.
FAILED = (ItemState.FAILED.value, ItemState.CANCELLED.value)


async def retry_job(request: Request) -> Response:
    """Serve POST /api/jobs/{id}/retry."""
    services = services_of(request)
    old_id = job_id_of(request.path_params["job_id"])
    old = (await services.store.snapshot(old_id)).job
    if not old.done:
        raise JobNotDone(old_id)
    only = (await _read_request(request)).only
    if not old.external:
        if old.error is not None and old.error.code == UNREADABLE:
            raise DamagedJob(old_id)
        check_kind(old.kind, dict(old.options), services)
    check_webhook(old.webhook_url, services)
    await admission.check_room(request, services, external=old.external)
    new_id = str(uuid4())
    try:
        items = await _items(services, old_id, new_id, FAILED if only == "failed" else ())
        if not items and (not old.counted or (only == "failed" and old.state is State.COMPLETED)):
            raise NothingToRetry(old_id)
        job = _build_job(old, new_id, items, await _span(services.store, old))
    except BaseException:
        await admission.discard_files(services, new_id)
        raise
    return await admission.create_job(request, services, job, items, ("retry", old_id, only))


async def _read_request(request: Request) -> RetryRequest:
    refusal = InvalidRequest('The body must be {"only": "failed"}, {"only": "all"}, or empty.', status=422)
    with Body(request, services_of(request).bodies) as arriving:
        body = await arriving.read(BODY_BYTES, refusal)
    if not body.strip():
        return RetryRequest()
    try:
        return msgspec.json.decode(body, type=RetryRequest)
    except msgspec.ValidationError:
        detail = 'only must be "failed" (what failed or was cancelled) or "all", as in {"only": "all"}.'
        raise InvalidRequest(detail, status=422) from None
    except JSON_ERRORS as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None


async def _items(services: Services, old_id: str, new_id: str, states: Sequence[str]) -> list[Item]:
    """Return the new job's items, with their inputs durably in its folder."""
    found: list[Item] = []
    shared = False
    async for page in _pages(services.store, old_id, states):
        pairs = []
        for old in page:
            index = len(found)
            file = None if old.file is None else stored_name(index, old.name)
            found.append(Item(index=index, name=old.name, size=old.size, file=file))
            if old.file is not None and file is not None:
                pairs.append((old.file, file))
        if pairs:
            if not shared:
                await services.files.begin(new_id)
            shared = True
            await services.files.share_inputs(old_id, new_id, pairs)
    if shared:
        await services.files.sync_inputs(new_id)
    return found


async def _pages(store: Store, job_id: str, states: Sequence[str]) -> AsyncIterator[list[Item]]:
    after = -1
    while page := await store.items(job_id, states=states, after_index=after, limit=PAGE):
        yield page
        after = page[-1].index


async def _span(store: Store, old: Job) -> float | None:
    """Return the time that the old job had until its deadline (seconds), or None if it had none.

    It counts from the submission in the timeline, since `created_at` is moved when the clock is set.
    """
    if old.deadline_at is None:
        return None
    entries = await store.timeline(old.id)
    return old.deadline_at - (entries[0].at if entries else old.created_at)


def _name(old: Job, items: Sequence[Item]) -> str:
    """Return the old job's name; one made of the number of its items says how many are left."""
    units = "files|items" if old.units is None else re.escape(old.units)
    made = re.fullmatch(rf"{old.total:,}(?: of [\d,]+)? ({units})", old.name)
    if made is None or len(items) in (0, old.total):
        return old.name
    return items[0].name if len(items) == 1 else f"{len(items):,} of {old.total:,} {made[1]}"


def _build_job(old: Job, new_id: str, items: Sequence[Item], span_s: float | None) -> Job:
    now = time.time()
    return Job(
        id=new_id,
        kind=old.kind,
        name=_name(old, items),
        total=len(items),
        waiting=len(items),
        created_at=now,
        options=old.options,
        priority=old.priority,
        max_attempts=old.max_attempts,
        max_errors=old.max_errors,
        item_limit_s=old.item_limit_s,
        deadline_at=None if span_s is None else now + span_s,
        webhook_url=old.webhook_url,
        retry_of=old.id,
        external=old.external,
        lost_after_s=old.lost_after_s,
        counted=old.counted,
        open_end=old.counted,
        percent=None if old.counted else 0.0,
        unit=old.unit,
        units=old.units,
    )
