"""The documents agree with the code: endpoints, fields, events, settings, flags."""

from __future__ import annotations

import json
import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import typer
from msgspec.structs import replace
from starlette.routing import Route
from typer.core import TyperGroup

from tests.docs.make import TYPES_BEGIN, TYPES_END, diagram
from tests.docs.typescript import interfaces
from tests.support.documents import PROTOCOL, ROOT, section
from unstuck.address import URL_VARIABLE
from unstuck.api import jobs
from unstuck.app import create_app
from unstuck.cli import commands
from unstuck.cli.settings import readable
from unstuck.jobs.job import FINAL, Item, ItemState, Job, JobError, State
from unstuck.jobs.snapshot import Snapshot, public, public_item
from unstuck.settings import PREFIX, Settings
from unstuck.streaming import sse

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DECISIONS = (ROOT / "DECISIONS.md").read_text()
OPERATING = (ROOT / "OPERATING.md").read_text()
#: What users and operators read.
USERS = "".join((ROOT / name).read_text() for name in ("README.md", "GUIDE.md", "OPERATING.md", "RELIABILITY.md"))
#: Flags of other programs, in the documents' examples.
OTHER_FLAGS = {"--port"}

ITEM = Item(index=0, name="a", state=ItemState.FAILED, error=JobError("exception", "no"), result_file="a.png")
JOB = Job(id="j", kind="k", name="n", total=1, waiting=0, leased=1, created_at=0.0)


def found(pattern: str, text: str) -> str:
    """Return the group of the first match."""
    match = re.search(pattern, text)
    assert match, pattern
    return match.group(1)


def test_the_protocol_lists_exactly_the_served_endpoints() -> None:
    served = set()
    for route in create_app(Settings()).routes:
        if isinstance(route, Route):
            path = route.path.replace("{job_id}", "{id}")
            served |= {f"{method} {path}" for method in (route.methods or set()) - {"HEAD", "OPTIONS"}}
    calls = re.findall(r"^\| (`(?:GET|POST|PUT|DELETE) /.*?) \|", section(3), re.MULTILINE)
    documented = set()
    for call in calls:
        method = call.strip("`").split()[0]
        documented |= {f"{method} {path}" for path in re.findall(r"(/[\w/{}.]*)", call.split("?")[0])}
    assert documented == served


def test_the_protocol_lists_the_fields_of_a_job() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`)(?:)? \|", section(2), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    job = replace(JOB, unit="row", units="rows")
    seen = public(Snapshot(job, [(0, "a")], [ITEM]), 1.0, "")
    assert documented == set(seen)
    example = json.loads(found(r'`(\{"total".*?\})`', section(2)))
    assert set(example) == set(seen["progress"])
    for name in ("self", "events", "items", "cancel", "retry", "results"):
        assert name in seen["links"]
    assert set(seen["item_errors"][0]) == {"index", "name", "code", "message"}


def test_the_protocol_lists_the_fields_of_an_item() -> None:
    documented = found(r"An item: `\{(.*?)\}`", section(2))
    seen = public_item(ITEM, "j", "")
    assert set(re.findall(r'"(\w+)"', documented)) | {"links"} == set(seen)


def test_the_protocol_lists_states_and_poll_reasons() -> None:
    for state in (*State, *ItemState):
        assert f"`{state}`" in PROTOCOL
    assert {"completed", "completed_with_errors", "failed", "cancelled"} == FINAL
    documented = found(r"X-Unstuck-Poll: (.*?)`", PROTOCOL)
    assert set(documented.split(" | ")) == jobs.POLL_REASONS


def test_the_protocol_lists_the_events() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", section(4), re.MULTILINE))
    made = [
        sse.event("job", public(Snapshot(JOB), 1.0, "")), sse.items("j", 1, [], more=False),
        sse.heartbeat(0.0, {}, 15.0), sse.leaving("x", 1), sse.gone("j"),
    ]  # fmt: skip
    assert documented == {found(r"event: (\w+)", one.decode()) for one in made}


def codes() -> set[str]:
    """Return the error codes that the server, its workers and its client give."""
    text = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    found = set(re.findall(r'\bcode="(.*?)"|JobError\(\s*"(.*?)"|code, status, title = "(.*?)"', text))
    return {code for groups in found for code in groups if code}


def test_error_codes_of_the_code_are_words() -> None:
    assert len(codes()) > 40
    assert [code for code in codes() if not re.fullmatch(r"[a-z_]+", code)] == []


def test_every_setting_is_documented() -> None:
    for one in fields(Settings):
        assert one.metadata["help"]
        assert f"{PREFIX}{one.name.upper()}" in OPERATING, one.name


def allowed(setting: Field[Any]) -> str:
    """Return the bounds of a number as OPERATING.md writes them."""
    low, high = (
        readable(setting.name, setting.metadata[bound]) or f"{setting.metadata[bound]:,}"
        for bound in ("minimum", "maximum")
    )
    return f"{'0, ' if setting.metadata['zero'] else ''}{low} to {high}"


def test_the_bounds_of_every_setting_are_documented() -> None:
    known = {f"{PREFIX}{one.name.upper()}": one for one in fields(Settings)}
    rows = re.findall(r"^\| (`UNSTUCK_.*?) \|.*?\| (.*?) \|.*\|$", OPERATING, re.MULTILINE)
    assert len(rows) > 20
    for names, documented in rows:
        settings = [known[name] for name in re.findall(r"UNSTUCK_[A-Z_]+", names)]
        bounds = dict.fromkeys(allowed(one) for one in settings if "minimum" in one.metadata)
        assert documented == (" · ".join(bounds) or "–"), names


def flags() -> set[str]:
    """Return the flags of all commands."""
    command = typer.main.get_command(commands.cli)
    assert isinstance(command, TyperGroup)
    found = set()
    for one in (command, *command.commands.values()):
        for parameter in one.params:
            found |= {flag for flag in parameter.opts if flag.startswith("--")}
    return found


def test_every_flag_stands_in_the_documents() -> None:
    assert {flag for flag in flags() if not re.search(rf"{flag}\b", USERS)} == set()


def test_every_flag_setting_and_route_that_the_documents_name_exists() -> None:
    code = "\n".join(re.findall(r"```sh\n(.*?)```", USERS, re.DOTALL) + re.findall(r"`([^`\n]+)`", USERS))
    scripts = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)) - flags():
        assert flag.startswith("--unstuck-") or f'"{flag}"' in scripts or flag in OTHER_FLAGS, flag
    known = {f"{PREFIX}{one.name.upper()}" for one in fields(Settings)} | {URL_VARIABLE}
    assert set(re.findall(r"UNSTUCK_[A-Z_]+[A-Z]", USERS)) <= known
    served = [route.path for route in create_app(Settings()).routes if isinstance(route, Route)]
    shapes = [re.compile(re.sub(r"\{\w+\}", r"[^/ ]+", path) + "$") for path in served]
    for path in re.findall(r"(/api/[\w./{}]*|/metrics)", USERS):
        bare = path.rstrip("./")
        assert any(shape.match(bare) for shape in shapes) or bare in {"/api"}, path


def test_every_error_code_is_in_the_protocol() -> None:
    assert {code for code in codes() if f"`{code}`" not in PROTOCOL} == set()


def test_every_dependency_is_justified() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    for requirement in wanted:
        name = found(r"^([\w-]+)", requirement)
        if name != "unstuck":
            assert f"`{name}`" in DECISIONS, name


def test_the_version_is_in_the_changelog() -> None:
    from unstuck import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as its viewers make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_are_not_broken() -> None:
    links = [
        (document, *target.partition("#")[::2])
        for document in ROOT.glob("*.md")
        for target in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text())
    ]
    assert any(anchor for _, _, anchor in links)
    for document, name, anchor in links:
        target = ROOT / name if name else document
        assert target.exists(), f"{document.name}: {name}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {name}#{anchor}"


def test_the_tree_names_every_module() -> None:
    package = ROOT / "server" / "unstuck"
    tree = ARCHITECTURE.partition("## The tree")[2].partition("## Three paths")[0]
    for path in [*package.rglob("*.py"), *(ROOT / "frontend").rglob("*.js")]:
        if path.stem not in {"__init__", "__main__"} and path.parent.name != "kinds":
            assert re.search(rf"\b{re.escape(path.stem)}\b", tree), path
    assert len(ARCHITECTURE.split()) <= 1_200


def test_the_types_of_the_javascript_client_are_up_to_date() -> None:
    types = (ROOT / "frontend" / "wire.d.ts").read_text()
    assert f"{TYPES_BEGIN}\n\n{interfaces()}\n\n{TYPES_END}" in types, "run scripts/docs"


def test_the_diagram_is_up_to_date() -> None:
    assert diagram() in ARCHITECTURE, "run scripts/docs"
