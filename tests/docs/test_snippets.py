"""Every snippet of the documents runs as it stands, in order, in a fresh checkout and a fresh environment.

The documents name port 8765, which no other test may take.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import browser
from tests.docs.reader import Reader, fresh_checkout, snippets


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def reader(checkout: Path, tmp_path: Path) -> Iterator[Reader]:
    with Reader(checkout, tmp_path / "home") as reader:
        yield reader


def test_the_readme(reader: Reader, checkout: Path) -> None:
    assert reader.follow("README.md") == 11
    output = reader.output()
    assert "event: job" in output
    assert "completed 100.0" in output  # batch.py
    # The page of one's own, with the element and the kind of one's own.
    with browser() as chromium:
        page = chromium.new_page()
        page.goto("http://127.0.0.1:8765/")
        page.locator("input").set_input_files([checkout / "README.md", checkout / "LICENSE"])
        expect(page.locator("job-progress .sentence")).to_contain_text("All 2 files are done", timeout=60_000)


@pytest.mark.parametrize("document", ["GUIDE.md", "OPERATING.md"])
def test_the_other_documents(reader: Reader, document: str) -> None:
    assert reader.follow(document) >= 1


def configuration(language: str) -> str:
    (text,) = [snippet.text for snippet in snippets("OPERATING.md") if snippet.language == language]
    return text


def test_nginx_takes_its_lines(tmp_path: Path) -> None:
    server = f"server {{ listen unix:{tmp_path}/socket;\n{configuration('nginx')} }}"
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ {server} }}\n")
    checked = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_caddy_takes_its_lines(tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(configuration("caddy"))
    checked = subprocess.run(
        ["caddy", "adapt", "--validate", "--config", str(tmp_path / "Caddyfile")],
        capture_output=True, text=True, env={"PATH": "/usr/bin:/usr/local/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
