"""The wheel, installed into an empty environment outside the checkout, as a user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("unstuck-*.whl")
    return built


def test_the_wheel_holds_the_browser_files_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"unstuck/frontend/index.html", "unstuck/frontend/define.js", "unstuck/py.typed"} <= set(names)
    assert not [name for name in names if "test" in name]
    browser = {Path(name).suffix for name in names if name.startswith("unstuck/frontend/")}
    assert browser == {".js", ".css", ".html"}


def loaded(url: str, page: str) -> set[str]:
    """Load all files that the page names and its modules import; return their addresses."""
    waiting = [f"{url}/{name}" for name in re.findall(r"static-[\w./-]+", page)]
    found: set[str] = set()
    while waiting:
        address = waiting.pop()
        if address in found:
            continue
        found.add(address)
        answer = httpx.get(address)
        assert answer.status_code == 200, address
        imported = re.findall(r'^import .*?from "(.+?)"', answer.text, re.MULTILINE | re.DOTALL)
        waiting += [urljoin(address, name) for name in imported]
    return found


def test_the_wheel_serves_the_page_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    subprocess.run([bin_ / "pip", "install", "--quiet", str(wheel)], check=True, cwd=tmp_path)
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("UNSTUCK_", "PYTHON"))}
    server = subprocess.Popen(
        [bin_ / "unstuck", "serve", "--port", "0", "--data", str(tmp_path / "data"), "--workers", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env={**clean, "COLUMNS": "200"},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = next(found.group(1) for line in server.stdout if (found := re.search(r"serves (\S+)", line)))
        page = httpx.get(f"{url}/")
        assert page.status_code == 200
        assert len(loaded(url, page.text)) > 20
        kinds = {kind["name"] for kind in httpx.get(f"{url}/api/kinds").json()["kinds"]}
        assert "checksum" in kinds
        # Without its extra, a kind is refused, with what to install.
        answer = httpx.post(f"{url}/api/jobs", data={"kind": "thumbnail"}, files={"files": ("a.png", b"x")})
        assert (answer.status_code, answer.json()["code"]) == (422, "kind_unavailable")
        assert "unstuck[thumbnail]" in answer.json()["detail"]
    finally:
        server.terminate()
        assert server.wait(30) == 0
        assert server.stdout is not None
        server.stdout.close()
