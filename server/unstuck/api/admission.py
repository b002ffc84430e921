"""Creates jobs: enforces the limit on unfinished jobs, and idempotency.

Must not know: submissions or retries.
See also: submit.py and retry.py, which bring the job, its items and the fingerprint.

Either the job is created, or the first job of the same Idempotency-Key is the answer. A refused job leaves nothing
behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api.context import Services, json_response, shown
from unstuck.errors import InvalidRequest, QueueFull
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot
from unstuck.store.protocol import IdempotencyKey

#: Most characters of an Idempotency-Key.
KEY_LENGTH = 255


def key_of(request: Request) -> str | None:
    """Return the Idempotency-Key, or None if there is none. Raises InvalidRequest if it is empty or too long."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_LENGTH:
        raise InvalidRequest(f"An Idempotency-Key must have 1 to {KEY_LENGTH} characters.")
    return key


async def check_room(request: Request, services: Services, *, external: bool = False) -> None:
    """Raise QueueFull before anything is uploaded or written. A repeated request is never refused."""
    most = services.settings.max_waiting_jobs
    if not await services.store.has_room(most, key_of(request), external=external):
        raise QueueFull(most)


async def create_job(
    request: Request, services: Services, job: Job, items: Sequence[Item], fingerprint: object
) -> Response:
    """Store the job durably and answer with it, or with the first job of the same Idempotency-Key.

    `fingerprint` holds the values that the key covers; they are compared as JSON. The files of a job that is not
    stored are removed.
    """
    kept = None
    has_files = any(item.file is not None for item in items)
    try:
        key = _idempotency_key(request, fingerprint)
        kept = await services.store.create(job, items, key, services.settings.max_waiting_jobs)
    finally:
        if kept is None or kept.id != job.id:  # refused, or a repeated request: these files belong to no job
            await discard_files(services, job.id)
        elif has_files:
            await services.files.keep(job.id)
    snapshot = Snapshot(job) if kept.id == job.id else await services.store.snapshot(kept.id)
    stored = shown(request, snapshot)
    return json_response(stored, 202, {"Location": stored.links.self, "Retry-After": "1"})


async def discard_files(services: Services, job_id: str) -> None:
    """Remove the files of a job that was not stored."""
    await services.files.remove([job_id])


def _idempotency_key(request: Request, fingerprint: object) -> IdempotencyKey | None:
    """Return what tells a repeated request, after a lost answer or a double click, from a new one."""
    key = key_of(request)
    if key is None:
        return None
    return IdempotencyKey(key, hashlib.sha256(msgspec.json.encode(fingerprint)).hexdigest())
