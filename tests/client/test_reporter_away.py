"""A reporter never fails the work: servers that are away, refuse or hang, and attempts that are repeated."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import pytest

from unstuck.client import reporter as module
from unstuck.client import watch_state as w
from unstuck.client.reporter import Reporter
from unstuck.errors import JobFinished, JobNotFound, NoAnswer, ServerRefused, UnstuckError
from unstuck.wire import Job

AWAY = NoAnswer("http://a", "nothing accepts connections there", "Check it.")


class Server:
    """A server whose answers a test decides: an exception to raise, or None to keep what was sent."""

    def __init__(self, *answers: Exception | None, job: Job | None = None) -> None:
        self.answers = list(answers)
        self.otherwise: Exception | None = None
        self.job = job or Job(id="j", seq=1, done=False, state="running")
        self.kept: list[dict[str, Any]] = []
        self.requests = 0
        self.hangs = False

    async def answer(self, body: bytes = b"") -> Job:
        self.requests += 1
        if self.hangs:
            await asyncio.Event().wait()
        error = self.answers.pop(0) if self.answers else self.otherwise
        reports = [json.loads(line) for line in body.splitlines() if line.strip()]
        if any("refuse" in str(report) for report in reports):
            raise ServerRefused("That cannot be.", code="more_than_total", status=422)
        if error is not None:
            raise error
        self.kept += reports
        for report in reports:
            if "state" in report:
                self.job = Job(id="j", seq=2, done=True, state=report["state"])
        return self.job

    def report(self, **more: Any) -> Reporter:
        return Reporter("j", self.answer, self.answer, **more)


@pytest.fixture(autouse=True)
def quick_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "BACKOFF_MIN_MS", 1)
    monkeypatch.setattr(w, "BACKOFF_MAX_MS", 1)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


def levels(logged: pytest.LogCaptureFixture) -> list[str]:
    return [one.levelname for one in logged.records if one.name.startswith("unstuck")]


async def test_leaving_waits_for_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 3_600)
    monkeypatch.setattr(module, "BEAT_S", 3_600)
    server = Server()
    async with asyncio.timeout(30):
        async with server.report(ends=False):
            await asyncio.sleep(0)
        assert server.requests == 2  # its start, and one sign of life at most
        async with server.report() as report:
            report.progress(1)
            await report.flush()
            report.progress(2)
    assert server.kept == [{"processed": 1}, {"processed": 2, "state": "completed"}]


async def test_leaving_does_not_wait_for_the_pause_after_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "BACKOFF_MIN_MS", 3_600_000)
    monkeypatch.setattr(w, "BACKOFF_MAX_MS", 3_600_000)
    server = Server(None, AWAY)
    async with asyncio.timeout(30), server.report() as report:
        report.progress(1)
        while server.requests < 2:
            await asyncio.sleep(0.01)
    assert server.job.done


async def test_work_begins_and_ends_without_a_server(logged: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.otherwise = AWAY
    async with server.report(patience_s=0.05) as report:
        assert (report.job.id, report.over) == ("j", False)
        report.progress(1)
        report.item("a", "succeeded")
    assert levels(logged) == ["WARNING", "ERROR"]
    assert "j" in logged.records[-1].getMessage()


async def test_a_server_that_hangs_does_not_hold_the_work(
    logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTER_S", 0.01)
    server = Server()
    server.hangs = True
    async with asyncio.timeout(30), server.report(patience_s=0.05) as report:
        report.progress(1)
    assert levels(logged) == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    "answer", [AWAY, *(ServerRefused("x", status=status) for status in (429, 500, 502, 503, 504)),
               ServerRefused("x", code="not_our_answer", status=404)],
)  # fmt: skip
async def test_what_was_reported_during_an_outage_is_kept(
    answer: UnstuckError, logged: pytest.LogCaptureFixture
) -> None:
    server = Server(answer, answer, answer)
    async with server.report() as report:
        report.item("a", "succeeded")
        report.progress(2)
    assert {"items": [{"name": "a", "state": "succeeded"}]} in server.kept
    assert server.kept[-1]["state"] == "completed"
    assert levels(logged) == ["WARNING"]  # once for an outage


async def test_strict_raises_what_the_server_does() -> None:
    with pytest.raises(NoAnswer):
        await Server(AWAY).report(strict=True).__aenter__()
    server = Server(None)
    server.otherwise = AWAY
    with pytest.raises(NoAnswer):
        async with server.report(strict=True, patience_s=0.02):
            pass
    report = Server().report(strict=True)
    await report.__aenter__()
    report.progress(message="refuse")
    with pytest.raises(ServerRefused):
        await report.flush()
    with pytest.raises(ServerRefused):
        report.progress(1)
    with pytest.raises(ServerRefused):
        await report.__aexit__(None, None, None)


async def test_an_exception_of_the_work_is_not_replaced() -> None:
    server = Server(None)
    server.otherwise = AWAY
    for strict in (False, True):
        with pytest.raises(ZeroDivisionError):
            async with server.report(strict=strict, patience_s=0.01):
                raise ZeroDivisionError
        server.answers = [None]


async def test_a_refused_report_costs_only_itself(logged: pytest.LogCaptureFixture) -> None:
    server = Server()
    async with server.report() as report:
        report.item("a", "succeeded")
        report.item("b", "failed", error="refuse")
        report.item("c", "succeeded")
        report.progress(3)
        with pytest.raises(ServerRefused, match="cannot be"):
            await report.flush()
        report.progress(4)
    names = {item["name"] for one in server.kept for item in one.get("items", [])}
    assert names == {"a", "c"}
    assert server.kept[-1] == {"processed": 4, "state": "completed"}
    assert levels(logged) == ["ERROR"]


async def test_a_server_that_lost_the_job_ends_the_reports_and_not_the_work(
    logged: pytest.LogCaptureFixture,
) -> None:
    server = Server(None)
    server.otherwise = JobNotFound("j")
    async with server.report() as report:
        report.progress(1)
        with pytest.raises(JobNotFound):
            await report.flush()
        report.progress(2)
    assert levels(logged) == ["ERROR"]
    with pytest.raises(JobNotFound):
        await server.report().__aenter__()


class Retry(Exception):
    pass


Retry.__module__ = "celery.exceptions"


@pytest.mark.parametrize(("error", "retry_on"), [(Retry, ()), (ConnectionResetError, (OSError,))])
async def test_the_next_attempt_continues_the_job(
    error: type[Exception], retry_on: tuple[type[Exception], ...]
) -> None:
    server = Server()

    async def attempt() -> None:
        async with server.report(retry_on=retry_on) as report:
            report.progress(20, 50)
            raise error

    with pytest.raises(error):
        await attempt()
    assert server.kept == [{"processed": 20, "total": 50}]
    assert not server.job.done
    async with server.report(retry_on=retry_on) as report:
        assert not report.over
        report.progress(50, 50)
    assert server.kept[-1]["state"] == "completed"


@pytest.mark.parametrize("state", ["failed", "completed", "completed_with_errors"])
async def test_a_job_that_is_over_is_not_worked_on_in_silence(state: str) -> None:
    server = Server(job=Job(id="j", seq=9, done=True, state=state))
    with pytest.raises(JobFinished, match=f"already {state}"):
        await server.report().__aenter__()


async def test_a_job_that_was_cancelled_is_skipped() -> None:
    server = Server(job=Job(id="j", seq=9, done=True, state="cancelled"))
    async with server.report() as report:
        assert report.over
    assert server.kept == []


async def test_calls_come_from_any_thread() -> None:
    server = Server()
    async with server.report() as report:
        await asyncio.gather(*(asyncio.to_thread(report.item, n, "succeeded") for n in range(200)))
        await report.flush()
        assert len(server.kept) == 200
    with pytest.raises(RuntimeError, match="was left"):
        report.progress(1)


async def test_a_forked_child_is_told_that_it_does_not_report() -> None:
    server = Server()
    async with server.report() as report:
        child = os.fork()
        if child == 0:
            try:
                report.progress(1)
            except RuntimeError as error:
                os._exit(7 if "a Client of its own" in str(error) else 8)
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert server.kept == [{"state": "completed"}]


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, GeneratorExit, SystemExit])
async def test_a_block_that_is_stopped_cancels_the_job(stopped: type[BaseException]) -> None:
    server = Server()
    report = server.report()
    await report.__aenter__()
    await report.__aexit__(stopped, stopped(), None)
    assert server.job.state == "cancelled"
