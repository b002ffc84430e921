"""Run nginx in front of a server, misconfigured or well configured.

Misconfigured, it buffers and compresses event streams and ignores `X-Accel-Buffering`; well configured, it serves
TLS, so that browsers speak HTTP/2 with it. It must not know dialogs or jobs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.stage import free_port
from tests.faults.wire import HOST
from tests.support.certificate import make_certificate

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  {everywhere}
  server {{
    listen {host}:{port} {listens};
    location / {{
      proxy_pass http://{host}:{target};
      proxy_set_header Host $http_host;
      proxy_http_version 1.1;
      {here}
    }}
  }}
}}
"""
_BUFFERING = {
    "everywhere": "gzip on; gzip_proxied any; gzip_types text/event-stream application/json;",
    "listens": "",
    "here": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
}


def executable() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def buffering(target: int) -> AsyncIterator[int]:
    """Run an nginx that buffers and compresses what `target` sends, and yield its port."""
    with tempfile.TemporaryDirectory() as name:
        async with _runs(Path(name), target, **_BUFFERING) as port:
            yield port


@asynccontextmanager
async def over_http2(target: int) -> AsyncIterator[int]:
    """Run an nginx that speaks HTTP/2 over TLS, with a self-signed certificate, and yield its port."""
    with tempfile.TemporaryDirectory() as name:
        certificate, key = make_certificate(Path(name))
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        async with _runs(Path(name), target, everywhere=tls, listens="ssl http2", here="") as port:
            yield port


@asynccontextmanager
async def _runs(folder: Path, target: int, **lines: str) -> AsyncIterator[int]:
    path, port = executable(), free_port()
    assert path, "Install nginx (Debian: nginx-light)."
    folder.chmod(0o755)  # its worker process drops root
    user = "user root;" if os.geteuid() == 0 else ""
    text = _CONFIGURATION.format(folder=folder, host=HOST, port=port, target=target, user=user, **lines)
    (folder / "nginx.conf").write_text(text)
    process = await asyncio.create_subprocess_exec(path, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    try:
        await _until_it_listens(port, process, folder)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_it_listens(port: int, process: asyncio.subprocess.Process, folder: Path) -> None:
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except ConnectionError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise AssertionError(f"nginx did not start:\n{(folder / 'error.log').read_text()}")
