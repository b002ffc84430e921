"""Every number among the settings has bounds, and within them the server works."""

from __future__ import annotations

import asyncio
import math
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.command import refused_to_start
from tests.support.events import events
from tests.support.server import StartServer
from tests.support.waiting import PATIENCE_S
from unstuck.app import create_app, running
from unstuck.errors import CannotStart
from unstuck.settings import PREFIX, Settings, load

NUMBERS = [one for one in fields(Settings) if isinstance(one.default, int | float)]
#: A thousand workers are a matter of the machine, and a port of who else listens; without workers no job ends.
PINNED = {"workers": 1, "own_workers": 1, "port": 0}
WORK: dict[str, Any] = {"kind": "rehearsal", "total": 1, "options": {"seconds": 0}}


def variable(setting: Field[Any]) -> str:
    return f"{PREFIX}{setting.name.upper()}"


def extremes(setting: Field[Any]) -> list[float]:
    """Return the smallest and the largest value of the setting, and 0 if that is allowed beside them."""
    bounds = setting.metadata
    return [bounds["minimum"], bounds["maximum"], *([0] if bounds["zero"] else [])]


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda one: one.name)
def test_each_number_has_bounds_and_a_message_with_its_unit(setting: Field[Any]) -> None:
    for value in (*extremes(setting), setting.default):
        assert getattr(load({}, {variable(setting): str(value)}), setting.name) == value
    bounds = setting.metadata
    wrong = [bounds["minimum"] - 1, bounds["maximum"] + 1, 10**400, -(10**400)]
    if isinstance(setting.default, float):
        wrong = [bounds["minimum"] - 1e-6, bounds["maximum"] * 1.001, math.inf, -math.inf, math.nan, 1e300]
    for value in wrong:
        if value == 0 and bounds["zero"]:
            continue
        builds = partial(load, {}, {variable(setting): str(value)}), partial(Settings, **{setting.name: value})
        for build in builds:
            with pytest.raises(CannotStart) as refusal:
                build()
            assert variable(setting) in refusal.value.detail
            assert bounds["unit"] in refusal.value.detail
            assert len(refusal.value.detail) < 200


@pytest.mark.parametrize("text", ["", "x", "1.5.2", "1,5", "²", "0x10", "9" * 5_000, "--1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    for setting in NUMBERS:
        with pytest.raises(CannotStart) as refusal:
            load({}, {variable(setting): text})
        assert len(refusal.value.detail) < 200


@pytest.mark.parametrize(
    "path", ["progress", "/progress/", "/a b", "/ü", "/☃", "/a?b", "/a#b", "/a\nb", "/a\x00", "/\\", '/"']
)
def test_a_path_that_cannot_be_part_of_a_link_is_refused(path: str) -> None:
    with pytest.raises(CannotStart):
        Settings(root_path=path)
    assert Settings(root_path="/a/b-c~1").root_path == "/a/b-c~1"


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "a\x00"])
def test_a_name_that_people_cannot_read_is_refused(name: str) -> None:
    with pytest.raises(CannotStart, match="server_name must be"):
        Settings(server_name=name)


def test_addresses_and_folders_that_cannot_exist_are_refused(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    assert "address" in refused_to_start("serve", *data, "--host", "a" * 70)
    assert "data folder" in refused_to_start("serve", "--port", "0", "--data", "~no.such.user/data")


async def end_of_a_job(http: httpx.AsyncClient) -> dict[str, Any]:
    """Submit a job and return it as its stream shows it at its end; a stream that leaves early is opened again."""
    answer = await http.post("/api/jobs", json=WORK)
    assert answer.status_code == 202, answer.text
    while True:
        stream = await http.get(answer.json()["links"]["events"])
        assert stream.status_code == 200, stream.text
        for name, job in events(iter(stream.text.splitlines())):
            if name == "job" and job["done"]:
                return dict(job)


def everything(of: str) -> dict[str, float]:
    return {one.name: one.metadata[of] for one in NUMBERS} | PINNED


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({one.name: st.sampled_from([*extremes(one), one.default]) for one in NUMBERS}))
def test_a_job_ends_and_is_shown_with_any_settings_at_their_bounds(values: dict[str, float]) -> None:
    async def play(data: str) -> None:
        app = create_app(load({**values, **PINNED, "data": data}, {}))
        async with (
            asyncio.timeout(PATIENCE_S),
            running(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
        ):
            job = await end_of_a_job(http)
            assert (job["expires_at"] is None) == (values["retention_s"] == 0)
            for path in ("/api/jobs", "/api/health", "/api/health/ready", "/metrics", "/api/kinds"):
                answer = await http.get(path)
                assert answer.status_code == 200, (path, answer.text)

    with TemporaryDirectory() as data:
        asyncio.run(play(data))


@pytest.mark.parametrize("of", ["minimum", "maximum"])
def test_a_server_with_all_settings_at_a_bound_works(start_server: StartServer, of: str) -> None:
    values = {name: str(value) for name, value in everything(of).items() if name != "port"}
    server = start_server(**values)
    job_id = server.submit(**WORK)["id"]
    with httpx.stream("GET", f"{server.url}/api/jobs/{job_id}/events", timeout=PATIENCE_S) as stream:
        ends = [job for name, job in events(stream.iter_lines()) if name == "job" and job["done"]]
    assert len(ends) == 1
    assert server.get("/api/health/ready")["status"] == "ok"
