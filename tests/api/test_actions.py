"""What the server accepts in each situation of a job: what pages offer is compared with it.

See also: tests/frontend/actions.json, the table; tests/frontend/actions.test.js, which asks the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from tests.support.jobs import finish, submitted
from unstuck.api.bodies import Bodies
from unstuck.api.context import Services
from unstuck.app import create_app
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import Cancel, Fail, ItemState, JobError
from unstuck.kinds import load
from unstuck.settings import Settings
from unstuck.store.protocol import JobFilter
from unstuck.store.sqlite import SQLiteStore

CASES = json.loads((Path(__file__).parents[1] / "frontend/actions.json").read_text())["cases"]
ENDS = {"completed": "sss", "completed_with_errors": "ssf", "failed": "fff", "cancelled": ""}
REQUESTS = {
    "cancel": ("POST", "/cancel", None),
    "rescue": ("POST", "/rescue", None),
    "give_up": ("POST", "/fail", {"why": "no use"}),
    "retry": ("POST", "/retry", None),
    "download": ("GET", "/results", None),
}


def app_on(store: SQLiteStore, folder: Path) -> Starlette:
    """Return an app on this store, without workers: a job stays as the test made it."""
    settings = Settings(data=str(folder))
    app = create_app(settings)
    unused = cast(Any, SimpleNamespace())
    app.state.services = Services(
        settings=settings,
        store=store,
        files=LocalFiles(DataFolder(folder)),
        hub=cast(Any, SimpleNamespace(poll_ms=0)),
        flush=unused,
        bodies=Bodies(10),
        kinds={name: kind.info for name, kind in load(None, ()).items()},
        troubles=list,
        polls={},
        check_webhook=lambda url: None,
        supervisor=unused,
        door=unused,
    )
    return app


async def reach(store: SQLiteStore, case: str, *, external: bool) -> str:
    """Create a job in this situation, and return its id."""
    job_id = await submitted(store, 3, external=external)
    if case == "queued":
        return job_id
    ends = ENDS.get(case, "sss" if case == "removed" else "")
    states = [ItemState.SUCCEEDED if end == "s" else ItemState.FAILED for end in ends]
    if external:
        items = tuple(ItemReport(index, state) for index, state in enumerate(states))
        await store.report(job_id, [ExternalReport(items=items or (ItemReport(0, ItemState.RUNNING),))])
    else:
        claimed = await store.claim(3, 30.0)
        error = JobError("exception", "no")
        await store.apply(
            [
                finish(one, state, error if state == "failed" else None)
                for one, state in zip(claimed, states, strict=False)
            ]
        )
    if case in ("cancelling", "cancelled"):
        await store.apply([Cancel(job_id)])
    if case == "cancelled" and external:
        await store.report(job_id, [ExternalReport(state=cast(Any, "cancelled"))])
    elif case == "cancelled":
        await store.apply([finish(one, "cancelled") for one in claimed])
    if case == "removed":
        await store.remove(job_id)
    return job_id


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['case']}{' external' * case['external']}")
async def test_the_server_accepts_what_the_table_says(
    store: SQLiteStore, tmp_path: Path, case: dict[str, Any]
) -> None:
    transport = httpx.ASGITransport(app_on(store, tmp_path))
    accepted = []
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for name, (method, path, body) in REQUESTS.items():
            job_id = await reach(store, case["case"], external=case["external"])
            answer = await http.request(method, f"/api/jobs/{job_id}{path}", json=body)
            if answer.status_code == 202 or (answer.status_code == 200 and name == "download"):
                accepted.append(name)
            else:
                assert answer.status_code == 200 or answer.json()["code"], answer.text
            for one in await store.jobs(JobFilter(), before=2**53, limit=10):  # the next one starts afresh
                await store.apply([Fail(one[1].job.id, JobError("failed_by_operator", "the end"))])
    assert accepted == case["accepts"]
