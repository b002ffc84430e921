"""POST /api/jobs: from a form with files, or from JSON, to a job that is kept for good.

Whatever is wrong with a submission is said before the job exists, and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import uuid4

import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from unstuck import names
from unstuck.errors import InvalidOptions, InvalidRequest, TooLarge, UnknownKind, UnstuckError
from unstuck.job import Item, Job
from unstuck.kinds.option import InvalidOptions as OptionsRefused
from unstuck.kinds.option import KindInfo, check_options
from unstuck.routes import Parts, answer, base_of, parts_of
from unstuck.routes.uploads import Limits, Stored, Upload, boundary_of
from unstuck.snapshot import ITEM_ERRORS_SHOWN, Snapshot, public
from unstuck.stores import Once

#: Bytes of a JSON submission: ten thousand long names fit.
JSON_BYTES = 16 * 1024 * 1024
#: Characters of an Idempotency-Key.
KEY_LENGTH = 255
#: What is still read of a body that was refused, so that its sender gets to see the answer (bytes, seconds).
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0

Count = Annotated[int, msgspec.Meta(ge=1)]


class Submission(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a submission may say, in a form's fields or in JSON."""

    kind: str
    name: str | None = None
    options: dict[str, Any] = {}
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    max_errors: Annotated[int, msgspec.Meta(ge=0)] | None = None
    items: list[str] | None = None
    total: Count | None = None


async def submit(request: Request) -> Response:
    """POST /api/jobs"""
    parts = parts_of(request)
    content_type = request.headers.get("content-type", "")
    try:
        if content_type.partition(";")[0].strip().lower() == "application/json":
            job, items, digests = await _from_json(request, parts)
        else:
            job, items, digests = await _from_form(request, parts, content_type)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except UnstuckError:
        await _drain(request)
        raise
    kept = None
    try:
        kept = await parts.store.create(job, items, _once(request, job, items, digests))
    finally:
        if kept is None or kept.id != job.id:  # refused, or sent before: these files belong to no job
            await anyio.to_thread.run_sync(shutil.rmtree, parts.folder.job(job.id), True)
    snapshot = Snapshot(job) if kept.id == job.id else await parts.store.snapshot(kept.id)
    seen = public(snapshot, time.time(), base_of(request), parts.settings.keep_s)
    return answer(seen, 202, {"Location": seen["links"]["self"], "Retry-After": "1"})


async def kinds(request: Request) -> Response:
    """GET /api/kinds – what can be done here, with which options, within which limits."""
    parts = parts_of(request)
    settings = parts.settings
    limits = {
        "max_files": settings.max_files,
        "max_file_bytes": settings.max_file_bytes,
        "max_job_bytes": settings.max_job_bytes,
        "max_name_length": settings.max_name_length,
        "item_errors_shown": ITEM_ERRORS_SHOWN,
    }
    return answer({"kinds": [msgspec.to_builtins(info) for info in parts.kinds.values()], "limits": limits})


async def _from_form(request: Request, parts: Parts, content_type: str) -> tuple[Job, list[Item], list[str]]:
    settings = parts.settings
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
            f"The files of a job have {settings.max_job_bytes:,} bytes together at most.", code="job_too_large"
        )
    job_id = str(uuid4())
    upload = Upload(parts.folder.inputs(job_id), boundary, limits)
    await upload.receive(_checked_early(request, upload, parts))
    try:
        submission = _submission(_fields(upload.fields))
        info, options = _what(submission, parts)
        if not upload.files:
            return *_without_files(job_id, submission, info, options, parts), []
        items = [
            Item(index=index, name=one.name, size=one.size, file=one.file)
            for index, one in enumerate(upload.files)
        ]
        job = _job(job_id, submission, info, options, items, upload.files, parts)
        return job, items, [one.digest for one in upload.files]
    except BaseException:
        await anyio.to_thread.run_sync(shutil.rmtree, parts.folder.job(job_id), True)
        raise


async def _checked_early(request: Request, upload: Upload, parts: Parts) -> AsyncIterator[bytes]:
    """The body; where the fields come first, a wrong one is refused before gigabytes were sent for nothing."""
    checked = False
    async for chunk in request.stream():
        yield chunk
        if not checked and "kind" in upload.fields and (upload.files or upload.fields.keys() >= {"options"}):
            checked = True
            _what(_submission(_fields(upload.fields)), parts)


async def _from_json(request: Request, parts: Parts) -> tuple[Job, list[Item], list[str]]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise TooLarge(f"A JSON submission has {JSON_BYTES:,} bytes at most.", code="body_too_large")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is no JSON: {error}", code="invalid_json") from None
    submission = _submission(fields)
    info, options = _what(submission, parts)
    return *_without_files(str(uuid4()), submission, info, options, parts), []


def _once(request: Request, job: Job, items: list[Item], digests: list[str]) -> Once | None:
    """What tells a submission that is sent again, after a lost answer or a double click, from a new one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_LENGTH:
        raise InvalidRequest(f"An Idempotency-Key has 1 to {KEY_LENGTH} characters.")
    asked = (job.kind, job.name, job.options, job.priority, job.max_attempts, job.max_errors)
    content = msgspec.json.encode((asked, [item.name for item in items], digests))
    return Once(key, hashlib.sha256(content).hexdigest())


def _without_files(
    job_id: str, submission: Submission, info: KindInfo, options: dict[str, Any], parts: Parts
) -> tuple[Job, list[Item]]:
    """A job of items that are only names; for kinds that need no files."""
    if info.needs_file:
        raise InvalidRequest(
            f"{info.name} works on files, and none was sent. Send them as multipart/form-data in the field "
            "'files' (curl: -F files=@NAME).",
            code="no_files",
            status=422,
        )
    if submission.items is None and submission.total is None:
        raise InvalidRequest("Say how many items there are: items (their names) or total.", status=422)
    most = parts.settings.max_files
    count = len(submission.items) if submission.items is not None else submission.total or 0
    if count > most:
        raise TooLarge(f"A job has {most:,} items at most; send several.", code="too_many_files")
    if count == 0:
        raise InvalidRequest("A job needs at least one item.", code="no_files", status=422)
    labels = submission.items if submission.items is not None else [f"item {n + 1}" for n in range(count)]
    longest = parts.settings.max_name_length
    for one in labels:
        if len(one) > longest:
            raise TooLarge(f"An item's name has {longest:,} characters at most.", code="name_too_long", status=422)
    items = [Item(index=index, name=names.label(one)) for index, one in enumerate(labels)]
    return _job(job_id, submission, info, options, items, [], parts), items


def _fields(form: dict[str, str]) -> dict[str, Any]:
    """A form's texts, `options` read as JSON; an empty field is one that was not filled in."""
    fields: dict[str, Any] = {name: text for name, text in form.items() if text != ""}
    if "options" in fields:
        try:
            fields["options"] = msgspec.json.decode(fields["options"])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidOptions(f"options must be a JSON object such as {{}}: {error}") from None
    return fields


def _submission(fields: object) -> Submission:
    if isinstance(fields, dict):
        for name in ("deadline_seconds", "webhook_url"):
            if fields.get(name) is not None:
                # Taking it and doing nothing would be a promise broken.
                raise InvalidRequest(
                    f"This server does not know {name} yet; leave it out.", code="not_supported", status=422
                )
        options = fields.get("options", {})
        if not isinstance(options, dict):
            raise InvalidOptions("options must be a JSON object such as {}.")
    try:
        return msgspec.convert(fields, Submission, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The submission cannot be read: {error}", status=422) from None


def _what(submission: Submission, parts: Parts) -> tuple[KindInfo, dict[str, Any]]:
    """The kind and its options with the defaults filled in; UnknownKind, InvalidOptions."""
    info = parts.kinds.get(submission.kind)
    if info is None:
        raise UnknownKind(
            f"There is no kind of work {submission.kind[:80]!r} here, only {', '.join(parts.kinds)}."
        )
    try:
        return info, check_options(info, submission.options)
    except OptionsRefused as error:
        raise InvalidOptions(str(error)) from None


def _job(
    job_id: str,
    submission: Submission,
    info: KindInfo,
    options: dict[str, Any],
    items: list[Item],
    files: list[Stored],
    parts: Parts,
) -> Job:
    name = submission.name
    if name is None:
        name = items[0].name if len(items) == 1 else f"{len(items):,} {'files' if files else 'items'}"
    longest = parts.settings.max_name_length
    if len(name) > longest:
        raise TooLarge(f"A job's name has {longest:,} characters at most.", code="name_too_long", status=422)
    return Job(
        id=job_id,
        kind=info.name,
        name=names.label(name),
        total=len(items),
        waiting=len(items),
        created_at=time.time(),
        options=options,
        priority=submission.priority,
        max_attempts=submission.max_attempts or parts.settings.max_attempts,
        max_errors=submission.max_errors,
    )


async def _drain(request: Request) -> None:
    """Read on for a while, since a sender that is cut off never sees why."""
    try:
        with anyio.move_on_after(DRAIN_S):
            rest = 0
            async for chunk in request.stream():
                rest += len(chunk)
                if rest > DRAIN_BYTES:
                    return
    except (ClientDisconnect, RuntimeError):
        return  # gone, or read to its end already
