"""Clients and commands find the server by `url`, else by UNSTUCK_URL, else on this machine."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from unstuck.address import DEFAULT_URL
from unstuck.cli import jobs as jobs_command
from unstuck.cli.commands import cli
from unstuck.client import Client, Jobs
from unstuck.settings import load

COMMANDS: dict[str, Any] = typer.main.get_command(cli).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [
        ("http://a/x/", "http://b", "http://a/x"),
        (None, "https://b/progress/", "https://b/progress"),
        (None, "", DEFAULT_URL),
        (None, None, DEFAULT_URL),
    ],
)
async def test_the_client_finds_the_server(
    given: str | None, variable: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is None:
        monkeypatch.delenv("UNSTUCK_URL", raising=False)
    else:
        monkeypatch.setenv("UNSTUCK_URL", variable)
    assert Client(given).url == found


def test_every_command_with_a_url_reads_the_variable() -> None:
    urls = {name: option for name, one in COMMANDS.items() for option in one.params if option.name == "url"}
    variables = {name: option.envvar for name, option in urls.items() if option.param_type_name == "option"}
    assert set(variables) >= {"submit", "watch", "retry", "jobs", "rescue", "fail", "prune"}
    assert set(variables.values()) == {"UNSTUCK_URL"}


def test_a_command_asks_the_server_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(url: str, _: object) -> tuple[Jobs, list[object]]:
        asked.append(url)
        return Jobs(jobs=[]), []

    monkeypatch.setattr(jobs_command, "ask", ask)
    for words in ([], ["--url", "http://c"]):
        CliRunner(env={"UNSTUCK_URL": "http://b"}).invoke(cli, ["jobs", *words], catch_exceptions=False)
    assert asked == ["http://b", "http://c"]


def test_the_variable_is_no_mistake_for_the_server() -> None:
    assert load(environ={"UNSTUCK_URL": "http://b"}) == load(environ={})
