"""Workers on other machines: who is let in, what they claim, and what the number of the lease keeps out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import Running, serving
from tests.support.waiting import soon
from tests.webhooks.receiver import Receiver
from unstuck.api import work

TOKEN = "secret-of-the-workers"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Running]:
    """A server without workers of its own, whose leases lapse soon."""
    with closing(Receiver()) as receiver:
        async with serving(tmp_path, receiver, own_workers=0, work_token=TOKEN, lease_s=1.0) as running:
            running.http.headers.update(BEARER)
            yield running


async def submit(running: Running, **fields: Any) -> str:
    order = {"kind": "rehearsal", "total": 1, "options": {"seconds": 0}, **fields}
    return str((await running.http.post("/api/jobs", json=order)).json()["id"])


async def submit_file(running: Running, content: bytes) -> str:
    answer = await running.http.post("/api/jobs", data={"kind": "checksum"}, files={"files": ("a.txt", content)})
    return str(answer.json()["id"])


async def claim(running: Running, **fields: Any) -> list[dict[str, Any]]:
    wanted = {"kinds": ["rehearsal", "checksum"], "limit": 10, "worker": "w", **fields}
    answer = await running.http.post("/api/work/claim", json=wanted)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def report(running: Running, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await running.http.post("/api/work/report", json={"commands": commands})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["outcomes"])


def about(item: dict[str, Any], command: str, **fields: Any) -> dict[str, Any]:
    return {"command": command, **{name: item[name] for name in ("job_id", "index", "lease")}, **fields}


async def job(running: Running, job_id: str) -> dict[str, Any]:
    return dict((await running.http.get(f"/api/jobs/{job_id}")).json())


async def test_only_the_token_opens_the_door(door: Running) -> None:
    calls = [
        ("GET", "/api/work"), ("POST", "/api/work/claim"), ("POST", "/api/work/report"),
        ("GET", "/api/work/x/items/0/leases/1/input"), ("PUT", "/api/work/x/items/0/leases/1/output?name=a"),
    ]  # fmt: skip
    for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        for method, path in calls:
            refused = await door.http.request(method, path, headers={"Authorization": given})
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized"), (method, path, given)
            assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert (await door.http.get("/api/work")).json()["lease_s"] == 1.0


async def test_without_the_setting_the_door_is_closed_and_says_how_to_open_it(tmp_path: Path) -> None:
    with closing(Receiver()) as receiver:
        async with serving(tmp_path, receiver) as running:
            refused = await running.http.post("/api/work/claim", json={}, headers={"Authorization": "Bearer x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "work_closed")
    assert "UNSTUCK_WORK_TOKEN" in refused.json()["detail"]


async def test_a_waiting_claim_wakes_at_the_commit_of_work_of_its_kinds(
    door: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LOOK_S", 60.0)
    waiting = asyncio.create_task(claim(door, wait_s=20, kinds=["checksum"]))
    services = door.app.state.services
    await soon(lambda: bool(services.door._waiting))
    await submit(door)
    file = await submit_file(door, b"abc")
    async with asyncio.timeout(15):
        (item,) = await waiting
    assert (item["job_id"], item["name"], item["attempt"], item["lease"]) == (file, "a.txt", 1, 1)


async def test_a_claim_whose_sender_is_gone_holds_nothing(door: Running) -> None:
    waiting = asyncio.create_task(claim(door, wait_s=20))
    services = door.app.state.services
    await soon(lambda: bool(services.door._waiting))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    job_id = await submit(door)
    (item,) = await claim(door, wait_s=20)
    assert (item["job_id"], item["attempt"]) == (job_id, 1)


async def test_a_claim_whose_answer_is_lost_lapses_without_using_an_attempt(door: Running) -> None:
    await submit(door)
    (lost,) = await claim(door)
    (item,) = await claim(door, wait_s=20)  # its answer is the first sign that the lease has lapsed
    assert (item["attempt"], item["lease"]) == (1, lost["lease"] + 1)
    late, now = await report(door, about(lost, "finish", state="succeeded"), about(item, "progress", fraction=0.5))
    assert (late["code"], now["ok"]) == ("lease_lost", True)
    (done,) = await report(door, about(item, "finish", state="succeeded", result={"a": 1}))
    assert done["ok"]
    assert (await job(door, item["job_id"]))["state"] == "completed"


async def test_files_come_and_go_under_the_lease_alone(door: Running, tmp_path: Path) -> None:
    job_id = await submit_file(door, b"0123456789")
    (old,) = await claim(door)
    part = await door.http.get(old["input"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert (await door.http.put(old["output"], params={"name": "old.txt"}, content=b"old")).status_code == 204
    (item,) = await claim(door, wait_s=20)
    outputs = tmp_path / "files" / job_id / "out"
    for answer in (
        await door.http.get(old["input"]),
        await door.http.put(old["output"], params={"name": "late.txt"}, content=b"late"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost")
    await soon(lambda: not (outputs / f"0-{old['lease']}").exists())
    for name in ("", "..", "../b", "a/b", "a\0b", "ä" * 200):
        assert (await door.http.put(item["output"], params={"name": name}, content=b"x")).status_code == 422, name
    (refused,) = await report(door, about(item, "finish", state="succeeded", result_file="never.txt"))
    assert refused["code"] == "not_found"
    assert (await door.http.put(item["output"], params={"name": "new.txt"}, content=b"new")).status_code == 204
    end = about(item, "finish", state="succeeded", result_file="new.txt")
    assert [one["ok"] for one in await report(door, end)] == [True]
    assert [one["code"] for one in await report(door, end)] == ["job_finished"]  # the first answer may be lost
    again = await door.http.put(item["output"], params={"name": "new.txt"}, content=b"other")
    assert again.status_code == 409
    result = await door.http.get(f"/api/jobs/{job_id}/items/0/result")
    assert (result.content, [path.name for path in outputs.iterdir()]) == (b"new", [f"0-{item['lease']}"])


async def test_a_lease_lost_while_its_file_comes_keeps_nothing(door: Running, tmp_path: Path) -> None:
    job_id = await submit_file(door, b"abc")
    (old,) = await claim(door)
    half = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        await half.wait()
        yield b"rest"

    upload = asyncio.create_task(door.http.put(old["output"], params={"name": "a.txt"}, content=slow()))
    (item,) = await claim(door, wait_s=20)
    half.set()
    answer = await upload
    assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost")
    outputs = tmp_path / "files" / job_id / "out"
    await soon(lambda: not (outputs / f"0-{old['lease']}").exists())
    assert (await report(door, about(item, "finish", state="succeeded")))[0]["ok"]


async def test_a_renewal_keeps_the_item_and_tells_of_a_cancel(door: Running) -> None:
    job_id = await submit(door)
    (item,) = await claim(door)
    for _ in range(6):  # longer than the lease
        (kept,) = await report(door, about(item, "renew"))
        assert (kept["ok"], kept["stopping"]) == (True, False)
        await asyncio.sleep(0.25)
    await door.http.post(f"/api/jobs/{job_id}/cancel")
    assert (await report(door, about(item, "renew")))[0]["stopping"]
    foreign = {**item, "lease": item["lease"] + 1}
    wrong = [about(foreign, "renew"), about({**item, "job_id": "../x"}, "renew"), about(item, "release")]
    assert [one["code"] for one in await report(door, *wrong)] == ["lease_lost", "invalid_job_id", None]
    assert (await job(door, job_id))["state"] == "cancelled"


async def test_what_cannot_be_read_is_refused_whole(door: Running) -> None:
    job_id = await submit(door)
    for path, body in (
        ("claim", {"kinds": []}), ("claim", {"kinds": ["rehearsal"], "wait_s": 3_600}), ("claim", {"kind": "x"}),
        ("report", {"commands": [{"command": "cancel", "job_id": job_id}]}),
    ):  # fmt: skip
        answer = await door.http.post(f"/api/work/{path}", json=body)
        assert answer.status_code == 422, body
    assert await claim(door, kinds=["unknown"]) == []
    assert len(await claim(door)) == 1


async def test_health_says_that_work_waits_for_workers_elsewhere(door: Running) -> None:
    assert (await door.ready())[0] == 200
    await submit(door)
    health = await door.health()
    assert (health["status"], health["workers"]["elsewhere"]) == ("ok", 0)
    assert "unstuck work" in health["troubles"][0]
    await claim(door, kinds=["unknown"])
    health = await door.health()
    assert (health["troubles"], health["workers"]["elsewhere"]) == ([], 1)


async def test_a_waiting_claim_does_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    with closing(Receiver()) as receiver:
        async with serving(tmp_path, receiver, own_workers=0, work_token=TOKEN) as running:
            wanted = {"kinds": ["rehearsal"], "wait_s": 20}
            waiting = asyncio.create_task(running.http.post("/api/work/claim", json=wanted, headers=BEARER))
            await soon(lambda: bool(running.app.state.services.door._waiting))
            running.app.state.services.hub.announce_leaving("test")
            async with asyncio.timeout(15):
                assert (await waiting).json() == {"items": []}
