"""A store that does not know what its listeners missed: each looks at everything it holds, without its timers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.streaming.live_jobs import MemoryJobs
from tests.streaming.readers import QUICK, reading
from tests.support.deaf import DeafStore
from tests.support.files import finished
from tests.support.jobs import submitted, until_done
from tests.support.waiting import soon
from tests.webhooks.receiver import SECRET, Receiver
from unstuck.errors import StoreUnavailable
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.files.retention import Retention
from unstuck.jobs.job import Cancel
from unstuck.runner import prefetch
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.store.protocol import WorkItem
from unstuck.streaming.hub import Hub
from unstuck.supervision.supervisor import supervising
from unstuck.webhooks import dispatcher
from unstuck.webhooks.dispatcher import Dispatcher, WebhookConfig
from unstuck.webhooks.signature import keys
from unstuck.webhooks.targets import AllowedTargets

KINDS = """
import time
from pathlib import Path
import unstuck

@unstuck.kind("hang", needs_file=False)
def hang(file: Path | None, report: unstuck.Report) -> None:
    while True:
        report(0.5)
        time.sleep(0.01)
"""


@pytest.fixture
async def deaf(tmp_path: Path) -> AsyncIterator[DeafStore]:
    store = DeafStore(tmp_path / "unstuck.db")
    await store.open()
    yield store
    await store.close()


class SlowJobs(MemoryJobs):
    """Jobs that count the queries for seqs, the first of which fails."""

    queries = 0

    async def seqs(self, job_ids: Any) -> dict[str, int]:
        self.queries += 1
        if self.queries == 1:
            raise StoreUnavailable("not yet")
        return await super().seqs(job_ids)


async def test_viewers_are_sent_what_was_missed_and_nothing_else() -> None:
    store = SlowJobs(*(f"job {n}" for n in range(500)))
    hub = Hub(store, QUICK)
    async with reading(hub, all_jobs=True) as all_jobs, reading(hub, "job 7", ends=False) as one:
        await soon(lambda: len(all_jobs.of("job")) == 500 and one.events)
        store.cached.clear()  # so that reads are counted
        store.change("job 7", "job 450")
        store.jobs["new"] = MemoryJobs("new").jobs["new"]
        del store.jobs["job 9"]
        async with supervising() as supervisor:
            supervisor.run("catch-up", hub.catch_up.run)
            store.publish(None)
            await soon(lambda: all_jobs.of("gone") and len(all_jobs.of("job")) == 503 and one.has_seen(2))
    assert sorted(store.reads) == ["job 450", "job 7", "job 9", "new"]
    assert store.queries == 4, "one that failed, and one for each 200 jobs"
    assert hub.stats.rescues == 0
    await hub.close()


async def test_a_cancel_stops_items_whose_runner_heard_nothing(deaf: DeafStore, tmp_path: Path) -> None:
    app = tmp_path / "mywork.py"
    app.write_text(KINDS)
    runner = Runner(deaf, LocalFiles(DataFolder(tmp_path)), RunnerConfig(app=str(app)))
    async with supervising() as supervisor:
        await runner.start(supervisor)
        job_id = await submitted(deaf, 3, kind="hang")
        await soon(lambda: any(item.run_id for item in runner._items.held()))
        deaf.deaf = True
        await deaf.apply([Cancel(job_id)])
        job = await until_done(deaf, job_id)
    await runner.stop()
    assert (job.state, job.cancelled) == ("cancelled", 3)


async def test_new_work_is_claimed_at_once(
    deaf: DeafStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "LOOK_S", 600.0)
    claims: list[list[WorkItem]] = []
    claim = deaf.claim

    async def recorded(*arguments: Any) -> list[WorkItem]:
        claims.append(await claim(*arguments))
        return claims[-1]

    monkeypatch.setattr(deaf, "claim", recorded)
    runner = Runner(deaf, LocalFiles(DataFolder(tmp_path)), RunnerConfig())
    async with supervising() as supervisor:
        await runner.start(supervisor)
        await soon(lambda: claims)  # it found nothing, and rests
        deaf.deaf = True
        job_id = await submitted(deaf, 3, kind="rehearsal", options={"seconds": 0.0, "failures": 0.0})
        await asyncio.sleep(0)
        assert claims == [[]]
        deaf.listen_again()
        assert (await until_done(deaf, job_id)).state == "completed"
    await runner.stop()


async def test_webhooks_of_jobs_that_ended_unheard_are_delivered(
    deaf: DeafStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "LOOK_S", 600.0)
    receiver = Receiver()
    config = WebhookConfig(keys=keys(SECRET), allowed=AllowedTargets(private=True))
    webhooks = Dispatcher(deaf, config)
    async with supervising() as supervisor:
        await webhooks.start(supervisor)
        deaf.deaf = True
        job_id = await submitted(deaf, 1, webhook_url=receiver.url())
        await deaf.apply([Cancel(job_id)])
        deaf.listen_again()
        await soon(lambda: receiver.received)
    receiver.close()


async def test_inputs_of_jobs_that_ended_unheard_are_removed(deaf: DeafStore, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.open()
    retention = Retention(deaf, LocalFiles(folder), None, keep_inputs=False)
    async with supervising() as supervisor:
        supervisor.run("retention", retention.run)
        deaf.deaf = True
        job_id = await finished(deaf, folder)
        assert folder.input(job_id, "00000.csv").exists()
        deaf.listen_again()
        await soon(lambda: not folder.input(job_id, "00000.csv").exists())
    folder.close()
