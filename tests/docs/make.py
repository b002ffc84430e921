"""Generates the parts of documents that follow from code; scripts/docs runs `python -m tests.docs.make`.

The state diagrams come from the tables of decide.py, the types of the JavaScript client from unstuck.wire, and
the pictures from a real browser on a real server.
Next: typescript.py, which writes the types; test_docs.py, which fails if any of it is out of date.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.docs.typescript import interfaces
from unstuck.jobs.decide import ITEM_NEXT, NEXT

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
#: Markers in frontend/wire.d.ts; the types between them are generated.
TYPES_BEGIN = "// --- from the server: made by scripts/docs from unstuck.wire"
TYPES_END = "// --- the watching policy"


def diagram() -> str:
    """Return the state diagrams of jobs and items in Mermaid."""
    return f"{_states('job', NEXT)}\n\n{_states('item', ITEM_NEXT)}"


def _states(what: str, table: Mapping[Any, frozenset[Any]]) -> str:
    first = next(iter(table))
    lines = [f"    [*] --> {first}"]
    for state in type(first):  # in the order of declaration; the tables hold sets
        following = table[state]
        lines += [f"    {state} --> {one}" for one in sorted(following)]
        if not following:
            lines.append(f"    {state} --> [*]")
    article = "an" if what[0] in "aeiou" else "a"
    body = "\n".join(lines)
    return f"The states of {article} {what}:\n```mermaid\nstateDiagram-v2\n{body}\n```"


def write_diagram() -> None:
    path = ROOT / "ARCHITECTURE.md"
    marked = re.compile(r"(<!-- states -->\n).*(<!-- /states -->)", re.DOTALL)
    path.write_text(marked.sub(lambda found: f"{found[1]}{diagram()}\n{found[2]}", path.read_text()))


def write_types() -> None:
    path = ROOT / "frontend" / "wire.d.ts"
    marked = re.compile(rf"({TYPES_BEGIN}\n\n).*(\n\n{TYPES_END})", re.DOTALL)
    path.write_text(marked.sub(lambda found: f"{found[1]}{interfaces()}{found[2]}", path.read_text()))


def take_pictures() -> None:
    """Take pictures of the dialog in the middle of a job with an error, light and dark."""
    from tests.browser.chromium import browser
    from tests.support.server import Server

    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        server = Server(Path(folder) / "data", "--workers", "2").start()
        try:
            job = server.submit(
                "rehearsal",
                items=[f"measurements-{n:02d}.csv" for n in range(1, 26)],
                name="25 measurements",
                options={"seconds": 1.2, "failures": 0.1, "seed": 3},
            )
            server.until(job["id"], lambda job: job["progress"]["processed"] >= 11)
            for scheme in ("light", "dark"):
                page = chromium.new_page(
                    viewport={"width": 720, "height": 760}, color_scheme=scheme, device_scale_factor=2
                )
                page.goto(f"{server.url}/#job={job['id']}")
                page.wait_for_timeout(700)
                page.screenshot(path=HERE / f"dialog-{scheme}.png")
                page.close()
        finally:
            server.stop()


if __name__ == "__main__":
    write_diagram()
    write_types()
    take_pictures()
    print(
        "made: the diagrams in ARCHITECTURE.md, frontend/wire.d.ts, and both pictures of the dialog in tests/docs"
    )
