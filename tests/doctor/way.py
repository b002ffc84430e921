"""Proxies between the doctor and a server that spoil a stream: our own, a real nginx, a real Caddy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.machine import needs
from tests.support.waiting import eventually

needs_nginx = needs("nginx", "nginx-light")
needs_caddy = needs("caddy", "caddy")


@asynccontextmanager
async def spoiled(
    server_url: str, *, hold_s: float | None = None, cut_after_s: float | None = None
) -> AsyncIterator[str]:
    """Run a proxy that forwards a stream in bursts, or cuts it when it is idle; yield its URL."""
    target = urlsplit(server_url)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        streams = asyncio.Event()  # set while this connection carries a stream
        above, upstream = await asyncio.open_connection(target.hostname, target.port)
        up = asyncio.create_task(pass_up(reader, upstream, streams))
        try:
            await pass_down(above, writer, streams)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the test ended, or the client disconnected
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            upstream.close()
            writer.close()
            tasks.discard(task)

    async def pass_up(source: asyncio.StreamReader, sink: asyncio.StreamWriter, streams: asyncio.Event) -> None:
        while some := await source.read(65536):
            if b"/api/events/" in some:
                streams.set()
            sink.write(some)
            await sink.drain()

    async def pass_down(source: asyncio.StreamReader, sink: asyncio.StreamWriter, streams: asyncio.Event) -> None:
        while True:
            try:
                some = await asyncio.wait_for(source.read(65536), cut_after_s)
            except TimeoutError:
                if streams.is_set():
                    return
                continue
            if not some:
                return
            if streams.is_set() and hold_s is not None:
                await asyncio.sleep(hold_s)  # the fault itself: bytes wait in the socket meanwhile
            sink.write(some)
            await sink.drain()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def nginx(folder: Path, server_url: str, directives: str) -> Iterator[str]:
    """Run nginx in front of the server, with these directives in its location; yield its URL."""
    port = _free_port()
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
            uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
            server {{
                listen 127.0.0.1:{port};
                proxy_http_version 1.1;
                location / {{
                    proxy_pass {server_url};
                    {directives}
                }}
            }}
        }}""")
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with _runs(command, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def caddy(folder: Path, site: str, options: str = "") -> Iterator[str]:
    """Run Caddy with these lines in its site and these global options; yield its URL."""
    port = _free_port()
    (folder / "Caddyfile").write_text(
        f"{{\nadmin off\nauto_https off\nlog {{\nlevel ERROR\n}}\n{options}\n}}\n"
        f"http://127.0.0.1:{port} {{\n{site}\n}}\n"
    )
    with _runs(["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _runs(command: list[str], port: int, home: Path | None = None) -> Iterator[None]:
    """Run the program for the length of the block, which starts once it listens."""
    environ = {**os.environ, **({"HOME": str(home), "XDG_DATA_HOME": str(home)} if home else {})}
    process = subprocess.Popen(command, env=environ)
    try:
        eventually(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} did not start"
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
