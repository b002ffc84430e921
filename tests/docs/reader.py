"""Follow a document as a reader would: run its snippets in order, in one shell, in a fresh checkout.

It must not know what a document says. See also: test_snippets.py, which names the documents.

`sh` blocks run in one bash, so variables persist. One that ends in a server is left running, as in a second
terminal, until the next one starts a server. Blocks whose first line names a file are saved under that name. Other
languages (`nginx`, `ini`, `text`) are not run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.support.documents import ROOT
from tests.support.waiting import eventually

#: Installing the server into a fresh environment takes most of it.
PATIENCE_S = 300.0

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"(?:#|//|<!--) ([\w-]+\.\w+)(?: -->)?$")
_SERVER = re.compile(r"(?:^|[\s/])(?:scripts/serve|unstuck serve|uvicorn)\b[^&|]*$")
_PORT = re.compile(r"--port (\d+)")
_RUN = ("sh", "python", "html")


@dataclass(frozen=True)
class Snippet:
    document: str
    line: int  # of its first line, from 1
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        match = _FILE_NAME.match(self.text.partition("\n")[0])
        return match.group(1) if match else None

    @property
    def server_port(self) -> int | None:
        """The port on which its last command serves, or None if it ends by itself."""
        last = self.text.rstrip().rpartition("\n")[2]
        if not _SERVER.search(last):
            return None
        match = _PORT.search(last)
        return int(match.group(1)) if match else 8765

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(document: str) -> Iterator[Snippet]:
    text = (ROOT / document).read_text()
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        yield Snippet(document, line, block.group(1), block.group(2))


def fresh_checkout(folder: Path) -> Path:
    """Copy what the version control knows, or would add, into `folder`."""
    listed = subprocess.check_output(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


class Reader:
    """A reader with a terminal of their own, in a checkout, with an empty home folder."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self._checkout, self._home = checkout, home
        self._blocks = home / "blocks"
        self._log = home / "output.txt"
        self._serving = False
        self._count = 0

    def __enter__(self) -> Reader:
        self._blocks.mkdir(parents=True)
        keep = {"PATH", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
        environ = {name: value for name, value in os.environ.items() if name in keep or "proxy" in name.lower()}
        with self._log.open("w") as log:
            self._shell = subprocess.Popen(
                ["bash", "--norc"], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, cwd=self._checkout,
                env={**environ, "HOME": str(self._home)}, start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        os.killpg(self._shell.pid, signal.SIGKILL)  # the shell and the servers that it started
        self._shell.wait()

    def follow(self, document: str) -> int:
        """Run all snippets of the document; return how many ran. Fail at the first that fails."""
        ran = 0
        for snippet in snippets(document):
            if snippet.language not in _RUN:
                continue
            if snippet.file_name is not None:
                (self._checkout / snippet.file_name).write_text(snippet.text)
            else:
                assert snippet.language == "sh", f"{snippet}: its first line must name a file"
                self._run(snippet)
            ran += 1
        return ran

    def _run(self, snippet: Snippet) -> None:
        self._count += 1
        script, done = self._blocks / f"{self._count}.sh", self._blocks / f"{self._count}.done"
        port = snippet.server_port
        if port is None:
            script.write_text(snippet.text)
            self._send(f'set -euo pipefail; . "{script}" </dev/null; set +eu; touch "{done}"')
            eventually(lambda: self._ended(snippet, done), PATIENCE_S)
            return
        if self._serving:
            self._send('kill "$server_pid"; wait "$server_pid"')
        # Its last line is the server: the lines before it set the shell's variables, as typed.
        before, _, last = snippet.text.rstrip().rpartition("\n")
        script.write_text(f"{before}\n{last} </dev/null &\nserver_pid=$!\n")
        self._send(f'. "{script}"; touch "{done}"')
        eventually(lambda: self._ended(snippet, done), PATIENCE_S)
        eventually(lambda: self._serves(snippet, port), PATIENCE_S)
        self._serving = True

    def _send(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(line + "\n")
        self._shell.stdin.flush()

    def _ended(self, snippet: Snippet, done: Path) -> bool:
        assert self._shell.poll() is None, f"{snippet} failed:\n{self.output()[-4_000:]}"
        return done.exists()

    def _serves(self, snippet: Snippet, port: int) -> bool:
        assert self._shell.poll() is None, f"{snippet} failed:\n{self.output()[-4_000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def output(self) -> str:
        """Everything that the terminal showed so far."""
        return self._log.read_text(errors="replace")
