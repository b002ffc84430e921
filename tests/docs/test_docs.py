"""The documents agree with the code: endpoints, fields, events, settings, flags."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from starlette.routing import Route

from tests.docs.make import TYPES_BEGIN, TYPES_END, diagram
from tests.docs.typescript import interfaces
from tests.support.documents import PROTOCOL, ROOT, section
from unstuck.api import jobs
from unstuck.app import create_app
from unstuck.jobs.job import FINAL, Item, ItemState, Job, JobError, State
from unstuck.jobs.snapshot import Snapshot, public, public_item
from unstuck.settings import PREFIX, Settings
from unstuck.streaming import sse

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DECISIONS = (ROOT / "DECISIONS.md").read_text()
OPERATING = (ROOT / "OPERATING.md").read_text()

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
            served |= {f"{method} {path}" for method in route.methods or () if method != "HEAD"}
    calls = re.findall(r"^\| (`(?:GET|POST|DELETE) /.*?) \|", section(3), re.MULTILINE)
    documented = set()
    for call in calls:
        method = call.strip("`").split()[0]
        documented |= {f"{method} {path}" for path in re.findall(r"(/[\w/{}.]*)", call.split("?")[0])}
    assert documented == served


def test_the_protocol_lists_the_fields_of_a_job() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`)(?:)? \|", section(2), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    seen = public(Snapshot(JOB, [(0, "a")], [ITEM]), 1.0, "")
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


def test_error_codes_of_the_code_are_words() -> None:
    text = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    codes = re.findall(r'code="(.*?)"', text)
    assert codes
    assert [code for code in codes if not re.fullmatch(r"[a-z_]+", code)] == []


def test_every_setting_is_documented() -> None:
    for one in fields(Settings):
        assert one.metadata["help"]
        assert f"{PREFIX}{one.name.upper()}" in OPERATING, one.name


def test_every_flag_of_serve_stands_in_the_readme() -> None:
    told = subprocess.check_output(
        [sys.executable, "-m", "unstuck", "serve", "--help"], text=True, env={"COLUMNS": "200", "TERM": "dumb"}
    )
    flags = set(re.findall(r"(--[a-z-]+)", told)) - {"--help"}
    assert "--port" in flags
    assert {flag for flag in flags if flag not in README} == set()


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


def test_what_the_readme_shows_as_a_kind_of_ones_own_works(tmp_path: Path) -> None:
    from unstuck.kinds import load

    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "unstuck.kind" in block
    )
    (tmp_path / "mywork_of_readme.py").write_text(code)
    assert "resize" in load(str(tmp_path / "mywork_of_readme.py"), [])


def test_links_between_documents_are_not_broken() -> None:
    links = [
        (document.name, target)
        for document in ROOT.glob("*.md")
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
    ]
    assert links
    assert [link for link in links if not (ROOT / link[1]).exists()] == []


def test_the_tree_names_every_module() -> None:
    package = ROOT / "server" / "unstuck"
    tree = ARCHITECTURE.partition("## The tree")[2].partition("## Three ways")[0]
    for path in [*package.rglob("*.py"), *(ROOT / "frontend").rglob("*.js")]:
        if path.stem not in {"__init__", "__main__"} and path.parent.name != "kinds":
            assert re.search(rf"\b{re.escape(path.stem)}\b", tree), path
    assert len(ARCHITECTURE.split()) <= 1_200


def test_the_types_of_the_javascript_client_are_up_to_date() -> None:
    types = (ROOT / "frontend" / "wire.d.ts").read_text()
    assert f"{TYPES_BEGIN}\n\n{interfaces()}\n\n{TYPES_END}" in types, "run scripts/docs"


def test_the_diagram_is_up_to_date() -> None:
    assert diagram() in ARCHITECTURE, "run scripts/docs"
