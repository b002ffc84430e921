"""Turns a form with files, or JSON, into a durable job; and lists the kinds of work that can be submitted.

Must not know: how a job is made durable, or what idempotency is.
See also: submission.py (what it may say), uploads.py (its files), admission.py (which creates the job).

Whatever is wrong with a submission is reported before the job exists, and leaves nothing behind; where possible,
it is reported before the files were sent in vain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from unstuck import wire
from unstuck.api import admission
from unstuck.api.context import Services, json_response, read_body, services_of
from unstuck.api.submission import build_job, check, fingerprint_of, named_items, read, read_form
from unstuck.api.uploads import Limits, Upload, boundary_of
from unstuck.errors import InvalidRequest, TooLarge, UnstuckError
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import ITEM_ERRORS_SHOWN

#: Most bytes of a JSON submission: ten thousand long names fit in.
JSON_BYTES = 16 * 1024 * 1024
#: How much of a refused body is still read, so that its sender sees the answer (bytes, seconds).
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0

#: A job to create, its items, and its fingerprint.
NewJob = tuple[Job, list[Item], object]


async def submit_job(request: Request) -> Response:
    """Serve POST /api/jobs."""
    services = services_of(request)
    content_type = request.headers.get("content-type", "")
    try:
        if content_type.partition(";")[0].strip().lower() == "application/json":
            # Only the body says whether the work is external, and has no files that would be sent in vain.
            job, items, fingerprint = await _from_json(request, services)
        else:
            await admission.check_room(request, services)
            job, items, fingerprint = await _from_form(request, services, content_type)
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone and will not read it
    except UnstuckError:
        await drain(request)
        raise
    return await admission.create_job(request, services, job, items, fingerprint)


async def list_kinds(request: Request) -> Response:
    """Serve GET /api/kinds: the kinds of work with their options, and the limits of a submission."""
    services = services_of(request)
    settings = services.settings
    limits = wire.Limits(
        max_files=settings.max_files,
        max_file_bytes=settings.max_file_bytes,
        max_job_bytes=settings.max_job_bytes,
        max_name_length=settings.max_name_length,
        item_errors_shown=ITEM_ERRORS_SHOWN,
    )
    return json_response(wire.Kinds(kinds=list(services.kinds.values()), limits=limits))


async def _from_form(request: Request, services: Services, content_type: str) -> NewJob:
    settings = services.settings
    boundary = boundary_of(content_type)
    limits = Limits(
        settings.max_files,
        settings.max_file_bytes,
        settings.max_job_bytes,
        settings.max_name_length,
        settings.upload_memory_bytes,
    )
    if int(request.headers.get("content-length", "0")) > limits.body_bytes:
        raise TooLarge(
            f"The files of a job may have at most {settings.max_job_bytes:,} bytes together.",
            code="job_too_large",
        )
    job_id = str(uuid4())
    # Only a submission that may be repeated needs a fingerprint of its files.
    digests = "idempotency-key" in request.headers
    upload = Upload(services.folder.inputs(job_id), boundary, limits, digests=digests)
    await upload.receive(_checked_early(request, upload, services))
    try:
        submission = read_form(upload.fields)
        info, options = check(submission, services)
        if upload.files:
            if submission.external:
                raise InvalidRequest(
                    "The server stores no files for external work. Name the items instead (items).",
                    code="files_not_taken",
                    status=422,
                )
            items = [
                Item(index=index, name=one.name, size=one.size, file=one.file)
                for index, one in enumerate(upload.files)
            ]
        else:
            items = named_items(submission, info, services)
        job = build_job(job_id, submission, options, items, services)
        return job, items, fingerprint_of(submission, job, items, [one.digest for one in upload.files])
    except BaseException:
        await admission.discard_files(services, job_id)
        raise


async def _checked_early(request: Request, upload: Upload, services: Services) -> AsyncIterator[bytes]:
    """Yield the body; if the fields come first, check them before gigabytes of files are sent in vain."""
    checked = False
    async for chunk in request.stream():
        yield chunk
        if not checked and "kind" in upload.fields and (upload.files or upload.fields.keys() >= {"options"}):
            checked = True
            check(read_form(upload.fields), services)


async def _from_json(request: Request, services: Services) -> NewJob:
    refusal = TooLarge(f"A JSON submission may have at most {JSON_BYTES:,} bytes.", code="body_too_large")
    body = await read_body(request, JSON_BYTES, refusal)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    submission = read(fields)
    info, options = check(submission, services)
    items = named_items(submission, info, services)
    job = build_job(str(uuid4()), submission, options, items, services)
    return job, items, fingerprint_of(submission, job, items, [])


async def drain(request: Request) -> None:
    """Read on for a while after a refusal, since a sender that is cut off never sees the reason."""
    try:
        with anyio.move_on_after(DRAIN_S):
            rest = 0
            async for chunk in request.stream():
                rest += len(chunk)
                if rest > DRAIN_BYTES:
                    return
    except (ClientDisconnect, RuntimeError):
        return  # the sender is gone, or the body was read to its end
