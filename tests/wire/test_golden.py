"""The JSON of jobs, items and entries, byte for byte.

golden.json holds what PROTOCOL.md promises, for jobs and items made by hand and at random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from unstuck.api.timeline import public_entry
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, public, public_item
from unstuck.jobs.timeline import Entry
from unstuck.streaming import sse
from unstuck.webhooks.dispatcher import message_body

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "golden.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["jobs"])
def test_a_job(case: dict[str, Any]) -> None:
    failed = msgspec.convert(case["item_errors"], list[Item])
    snapshot = Snapshot(msgspec.convert(case["job"], Job), [(row, name) for row, name in case["running"]], failed)
    seen = public(snapshot, case["now"], case["base"], case["keep_s"])
    assert msgspec.json.encode(seen).decode() == case["json"]
    if not case["json"].isascii():
        assert sse.event("job", seen, snapshot.job.seq).decode("ascii") == case["event"]
    if snapshot.job.done:
        assert message_body(snapshot, case["base"], case["keep_s"]).decode() == case["webhook"]


@pytest.mark.parametrize("case", GOLDEN["items"])
def test_an_item(case: dict[str, Any]) -> None:
    seen = public_item(msgspec.convert(case["item"], Item), "j", case["base"])
    assert msgspec.json.encode(seen).decode() == case["json"]
    assert sse.items("j", 7, [seen], more=case["more"]).decode("ascii") == case["event"]


@pytest.mark.parametrize("case", GOLDEN["entries"])
def test_an_entry(case: dict[str, Any]) -> None:
    assert msgspec.json.encode(public_entry(msgspec.convert(case["entry"], Entry))).decode() == case["json"]
