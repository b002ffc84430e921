"""Serves reports of external work: one report, or a stream of them.

Must not know: what a report does to a job.
See also: jobs/external.py (what it does), wire/requests.py (its fields), PROTOCOL.md section 9.

A stream (NDJSON, one report per line) is written while it is read: the reports that collect during one commit are
the next one, and while the store is slow, nothing more is read. The answer is sent when everything is durable. A
line that is refused ends the stream: the reports before it are kept, and the answer says how many they are.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from unstuck.api import problems
from unstuck.api.bodies import Body
from unstuck.api.context import JSON_ERRORS, Services, job_id_of, json_response, services_of, shown
from unstuck.errors import BodyTooSlow, InvalidRequest, TooLarge, UnstuckError
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import ItemState, JobError, State
from unstuck.store.protocol import Store
from unstuck.wire import Error, Report, ReportedItem

#: Most bytes of one report, whether it is the body or a line.
REPORT_BYTES = 1024 * 1024
#: Most bytes of an item's result as JSON, as for work that the server does itself.
RESULT_BYTES = 64 * 1024
#: Most reports that wait for the store; nothing more is read until they are written.
MOST_WAITING = 4096
STREAMS = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_DECODER = msgspec.json.Decoder(Report)
_KEEP_ALIVE = Report()


async def report_progress(request: Request) -> Response:
    """Serve POST /api/jobs/{id}/progress."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in STREAMS:
        return await _stream(request, services, job_id)
    names = _Names(services.store, job_id)
    with Body(request, services.bodies) as body:
        if body.awaited:
            await services.store.snapshot(job_id)  # raises JobNotFound before the body is sent in vain
        report = _read(await body.read(REPORT_BYTES, _too_large()))
    await names.look_up([report])
    result = await services.store.report(job_id, [names.to_report(report)])
    if result.refusal is not None:
        raise result.refusal
    return await _job(request, services, job_id)


async def _stream(request: Request, services: Services, job_id: str) -> Response:
    await services.store.snapshot(job_id)  # raises JobNotFound before the reporter sends anything in vain
    intake = _Intake(services.store, job_id)
    refusal: UnstuckError | None = None
    with Body(request, services.bodies) as body:
        try:
            async for lines in _lines(body, services.settings.reporter_silence_s):
                await intake.take(lines)
        except ClientDisconnect:
            await intake.close()  # the reporter is gone; its reports are kept
            return Response(status_code=400)
        except UnstuckError as error:
            refusal = error
        # A report that the store refused came before the line that could not be read.
        refusal = await intake.close() or refusal
        if refusal is None:
            return await _job(request, services, job_id)
        await body.drain()
    headers = {"Connection": "close", **problems.headers_of(refusal)}
    return problems.problem(
        refusal.status,
        refusal.code,
        refusal.title,
        refusal.detail,
        headers,
        accepted=intake.accepted,
        line=intake.line,
    )


async def _lines(body: Body, silence_s: float) -> AsyncIterator[list[bytes]]:
    """Yield the body's lines as they come; a line that is too long is the last, and cut off.

    Raises InvalidRequest if for `silence_s` seconds no line ends, and hardly anything comes.
    """
    rest = b""
    try:
        async for piece in body.pieces(silence_s):
            *lines, rest = (rest + piece).split(b"\n")
            body.hold(len(rest))
            if lines:
                body.begin_window(silence_s)
                yield lines
            if len(rest) > REPORT_BYTES:
                break
    except BodyTooSlow:
        raise InvalidRequest(
            f"Nothing was received for {silence_s:g} s. Send an empty line now and then as a sign of life, or "
            "send each batch of reports in a separate request.",
            code="reporter_silent",
            status=408,
        ) from None
    if rest:
        yield [rest]


class _Intake:
    """The lines of a stream on their way into the store.

    `accepted` of them are durable; `line` is the number of the one after these, which may have been refused.
    """

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
        """Queue the reports of these lines, and wait while too many are queued.

        Raises the refusal of a line; the reports before it are queued.
        """
        reports: list[Report] = []
        wrong: UnstuckError | None = None
        try:
            for line in lines:
                reports.append(_read(line) if line.strip() else _KEEP_ALIVE)
        except UnstuckError as error:
            wrong = error
        await self._names.look_up(reports)
        try:
            for report in reports:
                self._waiting.append(self._names.to_report(report))
        except UnstuckError as error:
            wrong = error
        self._write_on()
        while len(self._waiting) > MOST_WAITING and self._writing is not None:
            await self._writing
        if refusal := self._refusal or wrong:
            raise refusal

    async def close(self) -> UnstuckError | None:
        """Wait until all queued reports are durable. Return the refusal of one, or None."""
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
    """The indexes of items by their names; each name is looked up once."""

    def __init__(self, store: Store, job_id: str) -> None:
        self._store = store
        self._job_id = job_id
        self._known: dict[str, list[int]] = {}

    async def look_up(self, reports: Iterable[Report]) -> None:
        """Look up the names in these reports that were not looked up before."""
        names = {
            item.name
            for report in reports
            for item in report.items
            if item.index is None and item.name is not None
        }
        if unknown := names - self._known.keys():
            found = await self._store.indexes_of(self._job_id, list(unknown))
            self._known.update({name: [] for name in unknown})
            for name, index in found:
                self._known[name].append(index)

    def to_report(self, report: Report) -> ExternalReport:
        """Convert a report into the store's form. Raises InvalidRequest if it makes no sense."""
        if report.error is not None and report.state != "failed":
            raise InvalidRequest(
                'error says why the whole job failed, and needs "state": "failed"; the error of an item belongs '
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
            raise InvalidRequest(f'Only an item in state "failed" may have an error, not "{state}".', status=422)
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
            why = "Each item needs its index or its name."
        else:
            why = f"{'Several items have' if found else 'No item has'} the name {one.name[:80]!r}; give its index."
        raise InvalidRequest(why, code="which_item", status=422)


def _read(raw: bytes) -> Report:
    if len(raw) > REPORT_BYTES:
        raise _too_large()
    try:
        return _DECODER.decode(raw.removeprefix(codecs.BOM_UTF8))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The report cannot be read: {error}", status=422) from None
    except JSON_ERRORS as error:
        raise InvalidRequest(f"The report is not valid JSON: {error}", code="invalid_json") from None


def _result(raw: msgspec.Raw) -> Any:
    if len(raw) == 0:
        return None
    if len(raw) > RESULT_BYTES:
        raise TooLarge(f"An item's result may have at most {RESULT_BYTES:,} bytes.", code="result_too_large")
    try:
        return msgspec.json.decode(raw)
    except JSON_ERRORS as error:
        raise InvalidRequest(f"An item's result is not valid JSON: {error}", code="invalid_json") from None


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
    return TooLarge(f"A report may have at most {REPORT_BYTES:,} bytes; send several.", code="body_too_large")


async def _job(request: Request, services: Services, job_id: str) -> Response:
    snapshot = await services.store.snapshot(job_id)
    return json_response(shown(request, snapshot))
