"""Decides what a submission may say, in a form's fields or in JSON, and builds the job from it.

Must not know: how it arrived, or where it is stored.
See also: submit.py (the caller), wire/requests.py (its fields), PROTOCOL.md section 3.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from unstuck.api.context import JSON_ERRORS, Services
from unstuck.errors import InvalidOptions, InvalidRequest, KindUnavailable, TooLarge, UnknownKind
from unstuck.jobs import labels
from unstuck.jobs.job import Item, Job
from unstuck.kinds.declare import app_of
from unstuck.kinds.option import KindInfo, check_options
from unstuck.wire import Submission
from unstuck.wire.requests import LEAST_LOST_S, LONGEST_S

#: Most characters of the kind of an external job.
KIND_LENGTH = 80


def read_form(form: dict[str, str]) -> Submission:
    """Read a submission from a form's fields, with `options` as JSON; an empty field was not filled in."""
    fields: dict[str, Any] = {name: text for name, text in form.items() if text != ""}
    if "options" in fields:
        try:
            fields["options"] = msgspec.json.decode(fields["options"].removeprefix("\ufeff"))
        except JSON_ERRORS as error:
            raise InvalidOptions(f"options must be a JSON object such as {{}}: {error}") from None
    return read(fields)


def read(fields: object) -> Submission:
    """Read a submission from decoded JSON or a form. Raises InvalidRequest, InvalidOptions."""
    if isinstance(fields, dict) and not isinstance(fields.get("options", {}), dict):
        raise InvalidOptions("options must be a JSON object such as {}.")
    try:
        return msgspec.convert(fields, Submission, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The submission cannot be read: {error}", status=422) from None


def check(submission: Submission, services: Services) -> tuple[KindInfo | None, dict[str, Any]]:
    """Check all but the files, and return the kind and its options with the defaults filled in.

    The kind of external work is None: which kinds and options there are, only its reporters know.
    """
    check_webhook(submission.webhook_url, services)
    _check_lost_after(submission)
    if submission.external:
        if not 1 <= len(submission.kind.strip()) <= KIND_LENGTH:
            raise InvalidRequest(f"kind must have 1 to {KIND_LENGTH} characters.", status=422)
        return None, submission.options
    return check_kind(submission.kind, submission.options, services)


def _check_lost_after(submission: Submission) -> None:
    limit_s = submission.lost_after_s
    if limit_s is None:
        return
    if not submission.external:
        raise InvalidRequest(
            "lost_after_s is for external work; a worker of this server that is lost is noticed by its lease.",
            status=422,
        )
    if not LEAST_LOST_S <= limit_s <= LONGEST_S:
        raise InvalidRequest(
            f"lost_after_s must be between {LEAST_LOST_S:g} and {LONGEST_S:,.0f} seconds, not {limit_s:g}.",
            status=422,
        )


def check_kind(kind: str, options: object, services: Services) -> tuple[KindInfo, dict[str, Any]]:
    """Return the kind and its options with the defaults filled in.

    Raises UnknownKind, KindUnavailable, InvalidOptions.
    """
    info = services.kinds.get(kind)
    if info is None and (app := app_of(kind)) is not None:
        raise UnknownKind(
            f"The kind of work {kind!r} is declared in the server's process, but its workers do not know it: set "
            f"UNSTUCK_APP={app}, or import that module in the one that UNSTUCK_APP names."
        )
    if info is None:
        raise UnknownKind(
            f"There is no kind of work {kind[:80]!r} here, only {', '.join(services.kinds)}. External work, which "
            'runs elsewhere and is reported here, may be of any kind: submit it with "external": true.'
        )
    if info.unavailable is not None:
        raise KindUnavailable(f"{info.title} cannot be used here: {info.unavailable}")
    return info, check_options(info, options)


def check_webhook(url: str | None, services: Services) -> None:
    """Raise InvalidRequest if webhooks cannot be delivered to this URL."""
    if url is not None:
        services.check_webhook(url)


def named_items(submission: Submission, info: KindInfo | None, services: Services) -> list[Item]:
    """Return items that are only names, for kinds that need no files; external work may have none."""
    if info is None and submission.items is None and submission.total is None:
        return []
    if info is not None and info.needs_file:
        raise InvalidRequest(
            f"{info.name} works on files, and none was sent. Send them as multipart/form-data in the field "
            "'files' (curl: -F files=@NAME).",
            code="no_files",
            status=422,
        )
    if submission.items is None and submission.total is None:
        raise InvalidRequest("Give the items: either items (their names) or total (their number).", status=422)
    most = services.settings.max_files
    count = len(submission.items) if submission.items is not None else submission.total or 0
    if count > most:
        more = "leave total out and report how many are processed" if info is None else "submit several jobs"
        raise TooLarge(f"A job may have at most {most:,} items; {more}.", code="too_many_files")
    if count == 0:
        raise InvalidRequest("A job needs at least one item.", code="no_files", status=422)
    item_names = submission.items if submission.items is not None else [f"item {n + 1}" for n in range(count)]
    longest = services.settings.max_name_length
    for one in item_names:
        if len(one) > longest:
            detail = f"An item's name may have at most {longest:,} characters."
            raise TooLarge(detail, code="name_too_long", status=422)
    return [Item(index=index, name=labels.label(one)) for index, one in enumerate(item_names)]


def build_job(
    job_id: str,
    submission: Submission,
    info: KindInfo | None,
    options: dict[str, Any],
    items: list[Item],
    services: Services,
) -> Job:
    """Build the job that was submitted, of items that were checked."""
    unit, units = _units(submission, info, items)
    name = submission.name
    if name is None and not items:
        name = submission.kind
    elif name is None:
        name = items[0].name if len(items) == 1 else labels.counted(len(items), unit, units)
    longest = services.settings.max_name_length
    if len(name) > longest:
        raise TooLarge(f"A job's name may have at most {longest:,} characters.", code="name_too_long", status=422)
    now, span_s = time.time(), submission.deadline_seconds
    return Job(
        id=job_id,
        kind=labels.label(submission.kind),
        name=labels.label(name),
        total=len(items),
        waiting=len(items),
        created_at=now,
        options=options,
        priority=submission.priority,
        max_attempts=submission.max_attempts or services.settings.max_attempts,
        max_errors=submission.max_errors,
        item_limit_s=submission.item_limit_seconds,
        deadline_at=None if span_s is None else now + span_s,
        webhook_url=submission.webhook_url,
        external=submission.external,
        lost_after_s=submission.lost_after_s,
        counted=not items,
        open_end=not items,
        percent=0.0 if items else None,
        unit=labels.label(unit),
        units=labels.label(units),
    )


def _units(submission: Submission, info: KindInfo | None, items: list[Item]) -> tuple[str, str]:
    """Return what one item is called, and what several are: as submitted, as the kind says, or file or item."""
    if submission.unit is None and submission.units is not None:
        raise InvalidRequest("units needs unit: what one item is called.", status=422)
    if submission.unit is not None:
        return submission.unit, submission.units or labels.plural(submission.unit)
    if info is not None and info.unit:
        return info.unit, info.units
    unit = "file" if items and items[0].file is not None else "item"
    return unit, labels.plural(unit)


def fingerprint_of(submission: Submission, job: Job, items: list[Item], digests: list[str]) -> object:
    """Return the values that an Idempotency-Key covers. A deadline is compared as a duration."""
    fields: tuple[object, ...] = (
        job.kind, job.name, job.options, job.priority, job.max_attempts, job.max_errors
    )  # fmt: skip
    if job.external:  # only here, so that fingerprints stored before there was external work stay the same
        fields += ("external",)
    if submission.unit is not None:  # only here, for the same reason
        fields += (job.unit, job.units)
    if job.lost_after_s is not None:
        fields += (job.lost_after_s,)
    limits = (submission.deadline_seconds, submission.item_limit_seconds, submission.webhook_url)
    return fields, limits, [item.name for item in items], digests
