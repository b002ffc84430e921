"""The client returns typed objects: a type checker finds misspelt fields, and answers of any version are read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import unstuck
from tests.client.raw import Raw, job_of
from unstuck.client import Client, Item, Job, Progress
from unstuck.client.follower import job_of as read_job
from unstuck.errors import ServerRefused

RIGHT = """
from unstuck.client import Client, Item, Job, report, submit, watch


async def main() -> None:
    async with Client() as client:
        job = await client.submit("checksum", files=["a.csv"])
        async for job in client.watch(job.id):
            print(job.state, job.progress.percent, job["state"], job.get("health"))
        done: Job = await client.wait(job.id)
        if done.error is not None and done.finished_at is not None:
            print(done.error.message.upper(), done.finished_at.rstrip("Z"), done.links.results)
        found: list[Item] = (await client.items(job.id)).items
        print([item.result_link for item in found], (await client.jobs()).next)
        async with client.report(job.id) as reporter:
            print(reporter.job.state, reporter.over)


for one in watch(submit("checksum", total=1).id):
    print(one.progress.processed + 1)
with report(one.id) as plain:
    print(plain.job.done)
"""
WRONG = {
    "job.sate": 'wait("id").sate',
    "job.progress.pecent": 'wait("id").progress.pecent',
    "a time that may be missing": 'wait("id").finished_at.rstrip("Z")',
    "reporter.job.sate": 'report("id").job.sate',
}


def checked(path: Path, code: str) -> tuple[int, str]:
    path.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    found = subprocess.run(
        [*command, f"--cache-dir={path.parent / 'cache'}", path.name],
        cwd=path.parent, env={**os.environ, "MYPYPATH": str(Path(unstuck.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.returncode, found.stdout + found.stderr


def test_a_type_checker_accepts_valid_code_and_finds_misspelt_fields(tmp_path: Path) -> None:
    assert checked(tmp_path / "right.py", RIGHT) == (0, "")
    lines = ["from unstuck.client import report, wait", *WRONG.values()]
    status, output = checked(tmp_path / "wrong.py", "\n".join(lines) + "\n")
    assert status == 1
    assert [int(line.split(":")[1]) for line in output.splitlines()] == [2, 3, 4, 5], output
    for name in ("sate", "pecent"):
        assert f'has no attribute "{name}"' in output


def test_fields_are_keys_as_well() -> None:
    job = Job(id="j", seq=1, done=False, state="running", progress=Progress(total=4, percent=25.0))
    assert (job["state"], job["progress"]["percent"], job.get("health"), job.get("none", 7)) == (
        job.state, job.progress.percent, None, 7
    )  # fmt: skip
    assert {**job} == dict(job)
    assert list(job) == list(job.keys())
    assert "state" in job
    assert "sate" not in job
    for name in ("sate", "keys", "__class__"):
        with pytest.raises(KeyError):
            job[name]


def test_a_missing_field_of_an_item_is_not_a_key() -> None:
    item = Item(index=0, name="a", state="pending")
    assert "links" not in item
    assert item.get("links") is None
    assert "links" not in dict(item)
    assert item.result_link is None


@pytest.mark.parametrize(
    ("sent", "good"),
    [
        (job_of("j", 3), True),
        ({**job_of("j", 3), "state": "dreaming", "mood": {"a": 1}, "health": "fine"}, True),
        ({**job_of("j", 3), "progress": {"percent": 1, "colour": "red"}, "links": {}}, True),
        ({"seq": True, "done": False, "id": "j"}, False),
        ({"seq": 1, "done": "yes", "id": "j"}, False),
        ({"seq": 1, "done": False}, False),
        ({**job_of("j", 3), "poll_after_ms": "soon"}, False),
        ([], False),
        (None, False),
    ],
)
def test_jobs_of_any_version_are_read(sent: Any, good: bool) -> None:
    job = read_job(json.loads(json.dumps(sent)))
    assert (job is not None) == good
    if job is not None and isinstance(sent, dict):
        assert (job.id, job.seq, job.state) == ("j", 3, sent.get("state", ""))


async def test_a_malformed_page_is_refused() -> None:
    async with Raw(poll=Raw.json({"jobs": [{"id": "j"}], "items": 3})) as raw, Client(raw.url) as client:
        for call in (client.jobs(), client.items(raw.job_id)):
            with pytest.raises(ServerRefused, match="not as unstuck does"):
                await call


async def test_a_reporter_has_no_job_before_it_is_entered() -> None:
    async with Client() as client:
        with pytest.raises(RuntimeError, match="Enter the reporter first"):
            client.report("00000000-0000-4000-8000-000000000000").job  # noqa: B018
