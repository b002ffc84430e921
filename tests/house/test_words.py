"""The language of code, screens and documents: plain English, as CONTRIBUTING.md asks for.

Decides: the openings that make a docstring a fragment, the words and phrases that stay out, the size of documents.
See also: ruff's D rules in pyproject.toml (imperative, period); test_log_lines.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server" / "unstuck"

#: First words of a docstring that has neither a verb nor a subject.
OPENINGS = (
    "Until While What Who Whom Whose Whoever Where When Whether Why How It They As Some Same So If For From Of On "
    "In At By With Without To Not Never None Nothing False Because Since Once Then There This That These"
)
FRAGMENT = re.compile(rf"({OPENINGS.replace(' ', '|')})\b")

FORBIDDEN = re.compile(r"\b(nobody|somebody|everybody|whoever|anybody)\b", re.IGNORECASE)

#: Phrases that people stumbled over, with what is said instead.
PHRASES = {
    "does not get on": "is stuck, is not making progress",
    "do not get on": "are stuck",
    "gets on again": "making progress again",
    "getting on again": "making progress again",
    "found by asking": "found by a status check",
    "its time is over": "expired",
    "put up with": "allowed",
    "if you like": "optional",
    "was news, shown here": "updated",
    "no sign of life\"": "Not responding",
    "waiting long\"": "Long wait",
    "some work is silent for long": "takes a while without reporting",
    "leave it\"": "Keep waiting",
    "cannot be had": "is not available",
    "wanted to change something here": "Cross-site request refused",
    "from now on; then": "Fail the job if it is not done within this time",
    "ends in the truth": "always ends up showing the truth",
    "lost, doubled or late": "lost, duplicate or late",
    "has what failed": "starts a new job for whatever failed",
    "told when it is over": "Webhooks",
    "how it was tried": "How it was tested",
    "is the way to your users good": "Is the network path to your users healthy?",
    "gone back": "went backwards",
    "alive after the end": "still open after the end",
    "has yet to come": "has not come yet",
    "gives no sign has lost": "has not renewed for this long",
}  # fmt: skip

#: What is shipped and read: code, screens and documents. The names of the tests' own phrases are not.
SOURCES = sorted(
    path
    for pattern in (
        "server/unstuck/**/*.py",
        "frontend/**/*.js",
        "frontend/**/*.ts",
        "frontend/*.html",
        "*.md",
        "scripts/*",
    )
    for path in ROOT.glob(pattern)
    if path.is_file()
)


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield the place and text of each docstring of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


def test_few_docstrings_are_fragments() -> None:
    found = list(docstrings())
    fragments = [f"{place}: {text.splitlines()[0]}" for place, text in found if FRAGMENT.match(text)]
    assert len(found) > 400
    assert len(fragments) <= 0.03 * len(found), "\n".join(fragments)


def occurrences(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_riddle_is_the_subject_of_a_sentence() -> None:
    assert len(SOURCES) > 150
    assert occurrences(FORBIDDEN) == []


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrases_that_people_stumbled_over_stay_away(phrase: str) -> None:
    assert occurrences(re.compile(re.escape(phrase), re.IGNORECASE)) == [], f"say: {PHRASES[phrase]}"


def test_an_ellipsis_follows_its_word() -> None:
    shown = [path for path in SOURCES if path.suffix in {".js", ".py"}]
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in shown
        for text in re.findall(r"[\"'`](?:[A-Z]\w+ )*[A-Z]?\w+ …[\"'`]", path.read_text())
    ]
    assert found == []


def test_the_documents_keep_their_size() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= 1_200
    changelog = (ROOT / "CHANGELOG.md").read_text()
    first = changelog.partition("## 0.1.0")[2].partition("\n## ")[0]
    assert len(re.findall(r"^- ", first, re.MULTILINE)) <= 12
    unreleased = changelog.partition("## Unreleased")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)", unreleased, re.MULTILINE) == ["Added", "Changed", "Fixed"]
