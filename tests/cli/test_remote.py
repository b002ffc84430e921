"""Short ids, UNSTUCK_URL and --json, and the commands `show`, `cancel`, `kinds` and `download`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.support.command import unstuck, unstuck_on_a_terminal
from tests.support.server import Server
from unstuck.cli.commands import cli


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the server, which is in the environment, too."""
    monkeypatch.setenv("UNSTUCK_URL", server.url)
    return server.url


def run(*words: str, code: int = 0) -> str:
    """Run a command in this process, and return what it prints to stdout, or to stderr if it fails."""
    done = CliRunner().invoke(cli, words, prog_name="unstuck")
    assert done.exit_code == code, (words, done.output)
    return done.stdout if code in (0, 1) else done.stderr


def finished(server: Server, **more: Any) -> dict[str, Any]:
    order: dict[str, Any] = {"total": 3, "options": {"seconds": 0}, **more}
    return server.until_done(server.submit("rehearsal", **order)["id"])


def test_every_command_takes_the_beginning_of_an_id(server: Server, url: str) -> None:
    job = finished(server, options={"seconds": 0, "failures": 1}, name="night run")
    short = job["id"][:8]
    assert job["id"] in run("show", short)
    assert run("watch", short, code=1).startswith("failed: 3 failed of 3 items")
    assert json.loads(run("cancel", short.upper(), "--json"))["id"] == job["id"]
    again = run("retry", short).strip()
    assert server.job(again)["retry_of"] == job["id"]
    assert "is already failed" in " ".join(run("fail", short, "--why", "x", code=2).split())


def test_the_beginning_of_several_ids_names_none(
    monkeypatch: pytest.MonkeyPatch, server: Server, url: str
) -> None:
    one, other = finished(server), finished(server)

    async def both(*_: Any, **__: Any) -> Any:
        from unstuck.client import Job, Jobs

        return Jobs(jobs=[Job(id=job["id"], seq=1, done=True) for job in (one, other)])

    monkeypatch.setattr("unstuck.client.Client.jobs", both)
    said = " ".join(run("show", "abcd", code=2).split())
    assert f"abcd begins the ids of several jobs, such as {one['id']} and {other['id']}" in said


def test_the_server_finds_ids_by_their_beginning(server: Server) -> None:
    job = finished(server)
    for prefix in (job["id"][:4], job["id"][:9], job["id"].upper(), job["id"]):
        assert job["id"] in [one["id"] for one in server.get(f"/api/jobs?id_prefix={prefix}")["jobs"]]
    assert server.get(f"/api/jobs?id_prefix={job['id']}&state=failed")["jobs"] == []
    assert server.get(f"/api/jobs?id_prefix={job['id']}&kind=checksum")["jobs"] == []
    for wrong in ("abc", "xyzw", "%", job["id"] + "0"):
        assert httpx.get(f"{server.url}/api/jobs", params={"id_prefix": wrong}).status_code == 400


def test_show_gives_facts_and_failures(server: Server, url: str) -> None:
    job = finished(server, total=30, options={"seconds": 0, "failures": 1}, name="night \x1b[2J run")
    text = run("show", job["id"])
    assert text.startswith("night \\x1b[2J run\n")
    for fact in ("kind      rehearsal", "state     failed", "100 % · 30 of 30 · 30 failed", "all_items_failed"):
        assert fact in text
    assert text.count("✗ item ") == 10
    assert f"and 20 more: unstuck show {job['id'][:8]} --failed" in text
    lines = run("show", job["id"], "--failed").splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"item {number}" for number in range(1, 31)]
    assert {line.split("\t")[1] for line in lines} == {"rehearsed"}
    items = [json.loads(line) for line in run("show", job["id"], "--failed", "--json").splitlines()]
    assert [item["state"] for item in items] == ["failed"] * 30


def test_cancel_says_what_became_of_the_job(server: Server, url: str) -> None:
    job = server.submit("rehearsal", total=2, options={"seconds": 60}, name="long")
    said = run("cancel", job["id"])
    assert said.startswith(f"long ({job['id'][:8]}): cancel")
    assert server.until_done(job["id"])["state"] == "cancelled"
    assert "is already completed; nothing was changed." in run("cancel", finished(server)["id"])


def test_kinds_lists_kinds_and_options(server: Server, url: str) -> None:
    names = [line.split("\t")[0] for line in run("kinds").splitlines()]
    assert {"checksum", "rehearsal"} <= set(names)
    assert [kind["name"] for kind in json.loads(run("kinds", "--json"))["kinds"]] == names
    text = unstuck_on_a_terminal("kinds", "--url", url, columns=80)
    assert "--option seconds=" in text
    assert max(map(len, text.splitlines())) <= 80


def test_download_writes_the_whole_zip_or_nothing(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = server.until_done(server.submit("checksum", {"a.txt": b"a"})["id"])
    name = f"results-{job['id'][:8]}.zip"
    assert run("download", job["id"][:8]).startswith(name)
    assert "results.json" in zipfile.ZipFile(tmp_path / name).namelist()
    assert "exists; name another file, or overwrite it with --force" in run("download", job["id"], code=2)
    told = json.loads(run("download", job["id"], "--force", "--json"))
    assert told == {"path": name, "bytes": (tmp_path / name).stat().st_size}
    (tmp_path / "folder").mkdir()
    assert run("download", job["id"], "folder").startswith(f"folder/{name}")
    failing = server.until_done(server.submit("rehearsal", total=2, options={"seconds": 0, "failures": 1})["id"])
    listed = f"errors-{failing['id'][:8]}.csv"
    assert run("download", failing["id"], "--errors").startswith(listed)
    assert len((tmp_path / listed).read_text().splitlines()) == 3
    going = server.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    assert "is not finished yet" in run("download", going, "other.zip", code=2)
    assert "No such file or directory" in run("download", job["id"], "no/such/folder.zip", code=2)
    assert {path.name for path in tmp_path.iterdir()} == {name, listed, "folder"}


def test_json_of_every_command(server: Server, url: str, tmp_path: Path) -> None:
    submitted = json.loads(run("submit", "rehearsal", "--total", "1", "--option", "seconds=0", "--json"))
    states = [json.loads(line) for line in run("watch", submitted["id"], "--json").splitlines()]
    assert states[-1]["state"] == "completed"
    assert [state["seq"] for state in states] == sorted({state["seq"] for state in states})
    assert json.loads(run("show", submitted["id"], "--json"))["seq"] == states[-1]["seq"]
    assert submitted["id"] in [job["id"] for job in json.loads(run("jobs", "--json"))["jobs"]]
    assert json.loads(run("retry", submitted["id"], "--all", "--json"))["retry_of"] == submitted["id"]
    going = server.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    assert json.loads(run("fail", going, "--why", "enough", "--json"))["id"] == going
    listed = json.loads(run("prune", "--older-than", "0s", "--dry-run", "--json"))
    assert submitted["id"] in listed["would_remove"]
    copied = json.loads(run("backup", str(tmp_path / "copy"), "--data", str(server.data), "--json"))
    assert copied["to"] == str(tmp_path / "copy")
    restored = json.loads(run("restore", str(tmp_path / "copy"), "--data", str(tmp_path / "new"), "--json"))
    assert restored["jobs"] == copied["jobs"] > 0
    orphans = json.loads(run("prune", "--orphans", "--data", str(tmp_path / "new"), "--json"))
    assert orphans == {"orphans": [], "removed": 0, "young": 0, "unmarked": 0}


def test_settings_as_json() -> None:
    told = json.loads(unstuck("settings", "--json", UNSTUCK_WEBHOOK_SECRET="whsec_c2VjcmV0").stdout)
    assert told["UNSTUCK_PORT"]["value"] == 8765
    assert told["UNSTUCK_WEBHOOK_SECRET"]["value"] == "(set)"
    assert told["UNSTUCK_WEBHOOK_SECRET"]["source"] == "environment"
