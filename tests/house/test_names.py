"""Keeps coined words from coming back as names, and freezes the public names.

The tables list the words that are not used for modules, classes, functions, methods or attributes, and the names
that an application may import. Sources are read from server/unstuck and frontend.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unstuck
import unstuck.client
import unstuck.kinds

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server" / "unstuck"

#: Names of modules, in Python and JavaScript.
MODULES = {
    "addresses", "alarms", "attention", "beats", "card", "child", "choose", "elsewhere", "follow", "frame",
    "guard", "hand", "keeper", "known", "lists", "look", "notice", "once", "one_stream", "opening", "operate",
    "outlet", "pace", "pen", "pipe", "posting", "reserve", "routes", "share", "shared", "shown", "slot",
    "stores", "turns", "updates", "voice", "watch", "watched", "words",
}  # fmt: skip

#: Names of classes and constants.
CLASSES = {
    "Alarms", "Attempted", "Audience", "Back", "Beats", "Child", "Claimed", "Counts", "Crew", "DUE", "Due",
    "Ear", "Flush", "Follow", "Guard", "Hand", "Heard", "Held", "Keeper", "Known", "Line", "Live", "Look",
    "NoTarget", "ON", "Once", "Outlet", "Pace", "Parts", "Pen", "Poster", "Problem", "Reserve", "Said", "Seat",
    "Shown", "Slot", "Swept", "Terms", "Told", "ToldItem", "Turn", "Turns", "Updates", "Verdict", "Voice",
    "WIRE", "Watch", "Wire", "Wish", "WorkElsewhere",
}  # fmt: skip

#: Rooms in which a word above is the field's own term: the problem document of RFC 9457.
FIELD_TERMS = {"wire": {"Problem"}}

#: Names of functions, methods and attributes, by room; "" stands for every room.
FUNCTIONS = {
    "": {
        "advanced", "deed", "discard", "distrust", "ended_early", "give_back", "hear", "heard", "keep_time",
        "listed", "lively", "mouth", "not_heeded", "of_many", "of_one_job", "of_the_framework", "on_wake",
        "ours", "same_by", "seen", "settle", "settled", "spent", "stumbled", "told", "took", "_attend",
        "_came_back", "_died", "_hand_out", "_heard", "_lacks", "_man", "_ring", "_stand_in_line", "_turn",
        "_whom",
    },
    "api": {"one"},
    "files": {"litter"},
    "runner": {"hold", "more", "wake", "_go"},
    "streaming": {"hold", "part", "something", "wake", "_greet", "_plan", "_words"},
    "webhooks": {"inside"},
}  # fmt: skip

#: Identifiers of the browser's modules.
JAVASCRIPT = ("Ear", "#lay", "#rob", "#noted", "ON", "DUE", "deed", "keepTime", "keep_time", "distrust")


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def definitions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ("class" or "function", name) for each name that the file defines.

    Constants count as classes, attributes and methods as functions.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name):
                yield "class", name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield "function", name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield "function", name
            case ast.Name(id=name, ctx=ast.Store()) if name[:1].isupper():
                yield "class", name


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_definition_has_a_coined_name(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    coined = {
        "class": CLASSES - FIELD_TERMS.get(room, set()),
        "function": FUNCTIONS[""] | FUNCTIONS.get(room, set()),
    }
    assert {name for sort, name in definitions(path) if name in coined[sort]} == set()


def test_no_module_has_a_coined_name() -> None:
    stems = {path.stem.replace("-", "_") for path in (*python_files(), *(ROOT / "frontend").rglob("*.js"))}
    assert stems & MODULES == set()


def test_no_javascript_definition_has_a_coined_name() -> None:
    for path in (ROOT / "frontend").rglob("*.js"):
        text = path.read_text()
        for word in JAVASCRIPT:
            defined = rf"(?:(?:class|function|const|let)\s+|^\s*(?:async\s+)?){re.escape(word)}\b\s*[({{=]"
            assert not re.search(defined, text, re.MULTILINE), f"{path.name}: {word}"


#: What an application may import. Extend these lists, never shorten them.
PUBLIC = {
    "unstuck": {"Cancelled", "Client", "Failed", "Report", "Skip", "Transient", "__version__", "create_app",
                "kind", "running"},
    "unstuck.client": {"Client", "DEFAULT_URL", "Item", "Items", "Job", "Jobs", "Progress", "cancel",
                       "download", "download_errors", "items", "job", "jobs", "kinds", "remove", "report", "retry",
                       "submit", "wait", "watch"},
    "unstuck.kinds": {"Cancelled", "Failed", "InvalidOptions", "Kind", "KindInfo", "LoadError", "Option", "Report",
                      "Skip", "Transient", "check_options", "kind", "load"},
}  # fmt: skip


@pytest.mark.parametrize("module", [unstuck, unstuck.client, unstuck.kinds], ids=lambda module: module.__name__)
def test_the_public_names_are_frozen(module: object) -> None:
    name = module.__name__  # type: ignore[attr-defined]
    assert set(module.__all__) == PUBLIC[name]  # type: ignore[attr-defined]
    for exported in PUBLIC[name]:
        assert getattr(module, exported) is not None


def test_the_app_has_its_public_names() -> None:
    from unstuck import app

    assert unstuck.create_app is app.create_app
    assert unstuck.running is app.running


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Every worker process imports the package."""
    script = "import sys, json, unstuck; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", script], text=True)))
    assert not loaded & {
        "starlette",
        "uvicorn",
        "httpx",
        "sqlite3",
        "sse_starlette",
        "PIL",
        "typer",
        "rich",
    }


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        unstuck.no_such_name  # noqa: B018
