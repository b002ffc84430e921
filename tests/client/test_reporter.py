"""The Python reporter: with and without asyncio, through an outage, and after the job has ended."""

from __future__ import annotations

import signal

import pytest

from tests.support.server import Server, StartServer
from tests.support.waiting import soon
from unstuck.client import plain
from unstuck.client.client import Client
from unstuck.errors import JobNotFound, ServerRefused


async def test_leaving_the_block_completes_the_job(server: Server) -> None:
    async with Client(server.url) as client:
        job = await client.submit("import", external=True, items=["a", "b", "c"])
        async with client.report(job["id"]) as report:
            report.item("a", progress=0.3)
            report.item("a", progress=0.7, message="nearly")
            await report.flush()
            assert report.job["progress"]["percent"] == 23.3
            report.item("a", "succeeded", result={"rows": 1})
            report.item(1, "failed", error="no")
            report.progress(stage="last")
        done = await client.job(job["id"])
        assert (done["state"], done["progress"]["succeeded"]) == ("completed_with_errors", 2)
        job = await client.submit("import", external=True)
        async with client.report(job["id"], ends=False) as report:
            report.progress(3, 10)
        assert (await client.job(job["id"]))["progress"]["percent"] == 30.0


def test_without_asyncio(server: Server) -> None:
    job = plain.submit("import", url=server.url, external=True)
    with plain.report(job["id"], url=server.url) as reporter:
        for count in range(1, 1001):
            assert not reporter.over
            reporter.progress(count, message=f"row {count}")
    done = server.job(job["id"])
    assert (done["state"], done["progress"]["processed"]) == ("completed", 1000)
    with pytest.raises(JobNotFound), plain.report("00000000-0000-4000-8000-000000000000", url=server.url):
        pass


def test_an_exception_fails_the_job_and_propagates(server: Server) -> None:
    job = plain.submit("import", url=server.url, external=True, total=2)

    def work() -> None:
        with plain.report(job["id"], url=server.url) as reporter:
            reporter.progress(1)
            raise ZeroDivisionError("no rows")

    with pytest.raises(ZeroDivisionError):
        work()
    done = server.job(job["id"])
    assert (done["state"], done["error"]["message"]) == ("failed", "ZeroDivisionError: no rows")
    assert done["progress"]["processed"] == 1


async def test_the_reporter_learns_that_the_job_is_over(server: Server) -> None:
    async with Client(server.url) as client:
        for how in ("cancel", "fail"):
            job = await client.submit("import", external=True, total=5)
            async with client.report(job["id"]) as report:
                report.progress(1)
                await report.flush()
                await (client.cancel(job["id"]) if how == "cancel" else client.fail(job["id"], "enough"))
                report.progress(2)
                await report.flush()
                assert report.over
            assert (await client.job(job["id"]))["state"] == ("cancelled" if how == "cancel" else "failed")


async def test_a_refused_report_raises(server: Server) -> None:
    async with Client(server.url) as client:
        job = await client.submit("import", external=True, total=5)

        async def work() -> None:
            async with client.report(job["id"]) as report:
                report.progress(6)
                await report.flush()

        with pytest.raises(ServerRefused, match="processed"):
            await work()


async def test_reports_survive_an_outage(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    port = server.url.rpartition(":")[2]
    async with Client(server.url) as client:
        job = await client.submit("import", external=True, total=300)
        async with client.report(job["id"]) as report:
            report.item(0, "succeeded")
            await report.flush()
            server.stop(signal.SIGKILL)
            for index in range(1, 300):
                report.item(index, "succeeded")
            start_server("--workers", "1", "--port", port)
            await soon(lambda: report.job["done"])
        assert (await client.job(job["id"]))["state"] == "completed"
