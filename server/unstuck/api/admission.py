"""How a job comes into being, whoever asks for it: there has to be room, and what is asked twice is done once.

Knows neither submissions nor retries: they bring the job, its items, and what it is the same by. What is
refused leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api.context import Services, base_of, json_response
from unstuck.errors import InvalidRequest, QueueFull
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.store.protocol import IdempotencyKey

#: Characters of an Idempotency-Key.
KEY_LENGTH = 255


async def check_room(request: Request, services: Services) -> None:
    """Before anything is sent or written for it: QueueFull. What was taken before is never refused when it comes
    again."""
    most = services.settings.max_waiting_jobs
    if not await services.store.has_room(most, _key(request)):
        raise QueueFull(most)


async def create_job(
    request: Request, services: Services, job: Job, items: Iterable[Item], fingerprint: object
) -> Response:
    """Keep the job for good, and answer with it; or, where it was asked for before, with the first one. Its files
    go if it is not kept. `same_by` is all that makes another request of it, as JSON can have it."""
    kept = None
    try:
        key = _idempotency_key(request, fingerprint)
        kept = await services.store.create(job, items, key, services.settings.max_waiting_jobs)
    finally:
        if kept is None or kept.id != job.id:  # refused, or asked for before: these files belong to no job
            await discard_files(services, job.id)
    snapshot = Snapshot(job) if kept.id == job.id else await services.store.snapshot(kept.id)
    seen = public(snapshot, time.time(), base_of(request), services.settings.keep_s)
    return json_response(seen, 202, {"Location": seen.links.self, "Retry-After": "1"})


async def discard_files(services: Services, job_id: str) -> None:
    """Remove what was written for a job that is none."""
    await anyio.to_thread.run_sync(shutil.rmtree, services.folder.job(job_id), True)


def _idempotency_key(request: Request, fingerprint: object) -> IdempotencyKey | None:
    """What tells a request that is sent again, after a lost answer or a double click, from a new one."""
    key = _key(request)
    if key is None:
        return None
    return IdempotencyKey(key, hashlib.sha256(msgspec.json.encode(fingerprint)).hexdigest())


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_LENGTH:
        raise InvalidRequest(f"An Idempotency-Key has 1 to {KEY_LENGTH} characters.")
    return key
