"""POST /api/jobs/{id}/progress: what is reported of work that runs elsewhere, one report, or a stream of them.

A stream (NDJSON, one report a line) is read while it comes, and written while it is read: what gathers during one
commit makes the next, and where the store is slow, nothing more is read. The answer is given when all is durable.
What is wrong with a line ends it: what came before is kept, and the answer says how far that is.

Knows how a report is written, not what it makes of a job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from unstuck.api import problems
from unstuck.api.context import Services, base_of, job_id_of, json_response, read_body, services_of
from unstuck.api.submit import drain
from unstuck.errors import InvalidRequest, TooLarge, UnstuckError
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import ItemState, JobError, State
from unstuck.jobs.snapshot import public
from unstuck.store.protocol import Store
from unstuck.wire import Error, Report, ReportedItem

#: Bytes of one report, be it the body or a line.
REPORT_BYTES = 1024 * 1024
#: Bytes of an item's result as JSON, as for work that the server does itself.
RESULT_BYTES = 64 * 1024
#: Reports that wait for the store at most; then nothing more is read until they are written.
MOST_WAITING = 4096
STREAMS = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_DECODER = msgspec.json.Decoder(Report)
_SIGN_OF_LIFE = Report()


async def report_progress(request: Request) -> Response:
    """POST /api/jobs/{id}/progress"""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in STREAMS:
        return await _stream(request, services, job_id)
    names = _Names(services.store, job_id)
    one = _read(await read_body(request, REPORT_BYTES, _too_large()))
    await names.look_up([one])
    result = await services.store.report(job_id, [names.to_report(one)])
    if result.refusal is not None:
        raise result.refusal
    return await _job(request, services, job_id)


async def _stream(request: Request, services: Services, job_id: str) -> Response:
    await services.store.snapshot(job_id)  # before anything is sent for nothing
    intake = _Intake(services.store, job_id)
    refusal: UnstuckError | None = None
    try:
        async for lines in _lines(request, services.settings.reporter_silence_s):
            await intake.take(lines)
    except ClientDisconnect:
        await intake.close()  # he is gone; what he said stays
        return Response(status_code=400)
    except UnstuckError as error:
        refusal = error
    # What the store refused came before what cannot be read.
    refusal = await intake.close() or refusal
    if refusal is None:
        return await _job(request, services, job_id)
    await drain(request)
    headers = {"Connection": "close", **problems.retry_after(refusal)}
    return problems.problem(
        refusal.status,
        refusal.code,
        refusal.title,
        refusal.detail,
        headers,
        accepted=intake.accepted,
        line=intake.line,
    )


async def _lines(request: Request, silence_s: float) -> AsyncIterator[list[bytes]]:
    """The body's lines as they come. InvalidRequest when nothing comes for long, TooLarge for a line."""
    body = request.stream()
    rest = b""
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await anext(body, None)
        except TimeoutError:
            raise InvalidRequest(
                f"Nothing came for {silence_s:g} s. Send an empty line now and then as a sign of life, or each "
                "handful of reports in a request of its own.",
                code="reporter_silent",
                status=408,
            ) from None
        if chunk is None:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
        if len(rest) > REPORT_BYTES:
            break
    if rest:
        yield [rest]


class _Intake:
    """Lines on their way into the store. `accepted` lines are durable; `line` is the number of the refused one."""

    def __init__(self, store: Store, job_id: str) -> None:
        self.accepted = 0
        self._store = store
        self._job_id = job_id
        self._names = _Names(store, job_id)
        self._waiting: list[ExternalReport] = []
        self._refusal: UnstuckError | None = None
        self._writing: asyncio.Task[None] | None = None

    @property
    def line(self) -> int:
        return self.accepted + 1

    async def take(self, lines: list[bytes]) -> None:
        """Raises what is wrong with one of them, those before it taken; waits while too many are under way."""
        reports: list[Report] = []
        wrong: UnstuckError | None = None
        try:
            for line in lines:
                reports.append(_read(line) if line.strip() else _SIGN_OF_LIFE)
        except UnstuckError as error:
            wrong = error
        await self._names.look_up(reports)
        try:
            for one in reports:
                self._waiting.append(self._names.to_report(one))
        except UnstuckError as error:
            wrong = error
        self._write_on()
        while len(self._waiting) > MOST_WAITING and self._writing is not None:
            await self._writing
        if refusal := self._refusal or wrong:
            raise refusal

    async def close(self) -> UnstuckError | None:
        """Everything that was taken is durable, or why it is not."""
        while self._writing is not None:
            await self._writing
        return self._refusal

    def _write_on(self) -> None:
        if self._writing is None and self._waiting and self._refusal is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        batch, self._waiting = self._waiting, []
        try:
            result = await self._store.report(self._job_id, batch)
        except UnstuckError as error:
            self._refusal = error
        else:
            self.accepted += result.accepted
            self._refusal = result.refusal
        self._writing = None
        self._write_on()


class _Names:
    """Which item has which name; asked for once for each name."""

    def __init__(self, store: Store, job_id: str) -> None:
        self._store = store
        self._job_id = job_id
        self._known: dict[str, list[int]] = {}

    async def look_up(self, reports: Iterable[Report]) -> None:
        """Look up the names in them that are new."""
        wanted = {
            item.name for one in reports for item in one.items if item.index is None and item.name is not None
        }
        if unknown := wanted - self._known.keys():
            found = await self._store.indexes_of(self._job_id, list(unknown))
            self._known.update({name: [] for name in unknown})
            for name, index in found:
                self._known[name].append(index)

    def to_report(self, report: Report) -> ExternalReport:
        """The report as the store takes it; InvalidRequest for what it cannot mean."""
        if report.error is not None and report.state != "failed":
            raise InvalidRequest(
                'error says why the whole job failed, together with "state": "failed"; that of an item stands '
                "beside the item's state.",
                status=422,
            )
        return ExternalReport(
            items=tuple(self._item(one) for one in report.items),
            processed=report.processed,
            failed=report.failed,
            skipped=report.skipped,
            total=report.total,
            stage=report.stage,
            message=report.message,
            state=None if report.state is None else State(_normalize_state(report.state)),
            error=_error(report.error),
        )

    def _item(self, one: ReportedItem) -> ItemReport:
        state = ItemState(_normalize_state(one.state))
        if one.error is not None and state is not ItemState.FAILED:
            raise InvalidRequest(f'An item has an error where its state is "failed", not "{state}".', status=422)
        return ItemReport(
            self._index(one), state, one.progress, one.message, _error(one.error), _result(one.result)
        )

    def _index(self, one: ReportedItem) -> int:
        if one.index is not None:
            return one.index
        found = self._known.get(one.name, []) if one.name is not None else []
        if len(found) == 1:
            return found[0]
        if one.name is None:
            why = "An item is told by its index or its name."
        else:
            why = f"{'Several items have' if found else 'No item has'} the name {one.name[:80]!r}; say its index."
        raise InvalidRequest(why, code="which_item", status=422)


def _read(raw: bytes) -> Report:
    if len(raw) > REPORT_BYTES:
        raise _too_large()
    try:
        return _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The report cannot be read: {error}", status=422) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The report is no JSON: {error}", code="invalid_json") from None


def _result(raw: msgspec.Raw) -> dict[str, Any] | None:
    if len(raw) == 0:
        return None
    if len(raw) > RESULT_BYTES:
        raise TooLarge(f"An item's result has {RESULT_BYTES:,} bytes at most.", code="result_too_large")
    try:
        return msgspec.json.decode(raw, type=dict[str, Any] | None)
    except msgspec.ValidationError:
        raise InvalidRequest("An item's result is a JSON object.", status=422) from None


def _error(error: Error | str | None) -> JobError | None:
    if error is None:
        return None
    return (
        JobError("failed", error)
        if isinstance(error, str)
        else JobError(error.code, error.message, error.transient)
    )


def _normalize_state(state: str) -> str:
    return "cancelled" if state == "canceled" else state


def _too_large() -> TooLarge:
    return TooLarge(f"A report has {REPORT_BYTES:,} bytes at most; send several.", code="body_too_large")


async def _job(request: Request, services: Services, job_id: str) -> Response:
    snapshot = await services.store.snapshot(job_id)
    return json_response(public(snapshot, time.time(), base_of(request), services.settings.keep_s))
