"""`unstuck serve` in its own process, with the requests that tests make of it most."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.waiting import PATIENCE_S, eventually

#: For all requests to servers. `httpx.get` reads the certificates of the world for each, which costs twenty times
#: the CPU of the request itself, and tests ask often. No connection is kept, since a server may close one just as
#: it is used again.
HTTP = httpx.Client(timeout=60, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


class Server:
    """`unstuck serve` in its own process, on a free port."""

    #: The module to run; a subclass may name another that takes the same arguments.
    program = "unstuck"
    #: A command to run the server under, such as prlimit.
    under: tuple[str, ...] = ()

    def __init__(self, data: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self._arguments = arguments
        self._environ = environ or {}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> Server:
        environ = {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}
        command = [sys.executable, "-m", self.program, "serve", "--port", "0", "--data", str(self.data)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.under, *command, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environ, **self._environ, "COLUMNS": "200"},
            )
        assert self.process.stdout is not None
        output = ""
        for line in self.process.stdout:
            output += line
            if found := re.search(r"serves (https?://\S+)", line):
                self.url = found.group(1)
            if "curl" in line:
                return self
        raise AssertionError(f"the server did not start:\n{output}\n{self.log.read_text()}")

    def stop(self, sig: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    # -- requests

    def submit(self, kind: str, files: dict[str, bytes] | None = None, **fields: Any) -> dict[str, Any]:
        """Submit a job, as a form if there are `files` and as JSON otherwise; return the answer."""
        if files is None:
            answer = HTTP.post(f"{self.url}/api/jobs", json={"kind": kind, **fields})
        else:
            form = {name: json.dumps(v) if isinstance(v, dict) else str(v) for name, v in fields.items()}
            parts = [("files", (name, content)) for name, content in files.items()]
            answer = HTTP.post(f"{self.url}/api/jobs", data={"kind": kind, **form}, files=parts)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def get(self, path: str) -> Any:
        answer = HTTP.get(f"{self.url}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/api/jobs/{job_id}"))

    def until(self, job_id: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if check(job) else None

        return eventually(look)

    def until_done(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: bool(job["done"]))

    def items(self, job_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/jobs/{job_id}/items?limit=1000")["items"])


#: The type of the fixture `start_server`: takes arguments of the command, and settings as keywords.
StartServer = Callable[..., Server]
