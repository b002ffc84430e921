"""Turns a form with files, or JSON, into a durable job; and lists the kinds of work that can be submitted.

Must not know: how a job is made durable, or what idempotency is.
See also: submission.py (what it may say), uploads.py (its files), admission.py (which creates the job).

Whatever is wrong with a submission is reported before the job exists, and leaves nothing behind; where possible,
it is reported before the files were sent in vain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck import wire
from unstuck.api import admission
from unstuck.api.bodies import Body
from unstuck.api.context import JSON_ERRORS, Services, json_response, services_of
from unstuck.api.submission import build_job, check, fingerprint_of, named_items, read, read_form
from unstuck.api.uploads import Limits, Upload, boundary_of
from unstuck.errors import InvalidRequest, TooLarge, UnstuckError
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import ITEM_ERRORS_SHOWN

#: Most bytes of a JSON submission: ten thousand long names fit in.
JSON_BYTES = 16 * 1024 * 1024

#: The header by which a sender says that the names of its files are percent-encoded, and its value.
NAMES_HEADER = "x-unstuck-names"
PERCENT_ENCODED = "percent-encoded"

#: A job to create, its items, and its fingerprint.
NewJob = tuple[Job, list[Item], object]


async def submit_job(request: Request) -> Response:
    """Serve POST /api/jobs."""
    services = services_of(request)
    content_type = request.headers.get("content-type", "")
    with Body(request, services.bodies) as body:
        try:
            if content_type.partition(";")[0].strip().lower() == "application/json":
                # Only the body says whether the work is external, and has no files that would be sent in vain.
                admission.key_of(request)
                job, items, fingerprint = await _from_json(body, services)
            else:
                await admission.check_room(request, services)
                job, items, fingerprint = await _from_form(request, body, services, content_type)
        except UnstuckError:
            await body.drain()
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


async def _from_form(request: Request, body: Body, services: Services, content_type: str) -> NewJob:
    settings = services.settings
    boundary = boundary_of(content_type)
    limits = Limits(
        settings.max_files,
        settings.max_file_bytes,
        settings.max_job_bytes,
        settings.max_name_length,
        settings.upload_memory_bytes,
    )
    if body.declared > limits.body_bytes:
        raise TooLarge(
            f"The files of a job may have at most {settings.max_job_bytes:,} bytes together.",
            code="job_too_large",
        )
    job_id = str(uuid4())
    # Only a submission that may be repeated needs a fingerprint of its files.
    digests = "idempotency-key" in request.headers
    encoded_names = request.headers.get(NAMES_HEADER) == PERCENT_ENCODED
    upload = Upload(services.files, job_id, boundary, limits, digests=digests, encoded_names=encoded_names)
    await upload.receive(_checked_early(body, upload, services))
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
        job = build_job(job_id, submission, info, options, items, services)
        return job, items, fingerprint_of(submission, job, items, [one.digest for one in upload.files])
    except BaseException:
        await admission.discard_files(services, job_id)
        raise


async def _checked_early(body: Body, upload: Upload, services: Services) -> AsyncIterator[bytes]:
    """Yield the body; if the fields come first, check them before gigabytes of files are sent in vain."""
    checked = False
    async for piece in body.pieces():
        yield piece
        if not checked and "kind" in upload.fields and (upload.files or upload.fields.keys() >= {"options"}):
            checked = True
            check(read_form(upload.fields), services)


async def _from_json(body: Body, services: Services) -> NewJob:
    refusal = TooLarge(f"A JSON submission may have at most {JSON_BYTES:,} bytes.", code="body_too_large")
    try:
        fields = msgspec.json.decode(await body.read(JSON_BYTES, refusal))
    except JSON_ERRORS as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    submission = read(fields)
    info, options = check(submission, services)
    items = named_items(submission, info, services)
    job = build_job(str(uuid4()), submission, info, options, items, services)
    return job, items, fingerprint_of(submission, job, items, [])
