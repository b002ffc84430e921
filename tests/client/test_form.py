"""What a submission sends: exactly the size told beforehand, whatever kind of file it is; or one clear error."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from unstuck.client import form as form_module
from unstuck.client.client import Client
from unstuck.client.form import PIECE_BYTES, Form, json_body, uploads
from unstuck.errors import FileMissing, FileUnusable, InvalidOptions, UnstuckError


async def body_of(form: Form) -> bytes:
    return b"".join([piece async for piece in form])


async def contents(path: Path | str, change: Callable[[], object] = lambda: None) -> bytes:
    """Return what is sent of a file that changes after its size was told; check the size of the body."""
    (upload,) = uploads([path])
    change()
    form = Form({"kind": "k"}, [upload])
    for _ in range(2):  # a submission may be sent again
        body = await body_of(form)
        assert str(len(body)) == form.headers["Content-Length"]
    upload.close()
    return body.partition(b"octet-stream\r\n\r\n")[2].rpartition(b"\r\n--")[0]


async def test_a_file_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (PIECE_BYTES + 7))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"y" * PIECE_BYTES)

    assert await contents(path, grow) == b"x" * (PIECE_BYTES + 7)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda path: path.write_bytes(b"x"), FileUnusable, "became shorter while it was sent: 1 of 3 bytes"),
        (lambda path: path.unlink(), FileMissing, "does not exist, or no longer"),
        (lambda path: (path.unlink(), path.mkdir()), FileUnusable, "cannot be read: Is a directory"),
    ],
)
async def test_a_file_that_changes_while_it_is_sent(
    change: Callable[[Path], object], kind: type[Exception], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"xyz")
    with pytest.raises(FileUnusable, match=said) as caught:
        await contents(path, lambda: change(path))
    assert type(caught.value) is kind


async def test_files_without_a_size_are_sent_whole(tmp_path: Path) -> None:
    assert await contents("/proc/version") == Path("/proc/version").read_bytes()
    assert await contents("/dev/null") == b""
    (tmp_path / "empty").touch()
    assert await contents(tmp_path / "empty") == b""

    data = os.urandom(3 * PIECE_BYTES + 1)
    reading, writing = os.pipe()
    os.mkfifo(tmp_path / "fifo")
    ours, theirs = socket.socketpair()

    def write_all(file: int | Path) -> None:
        with open(file, "wb") as target:
            target.write(data)

    for source, path in (
        (writing, f"/dev/fd/{reading}"),
        (tmp_path / "fifo", tmp_path / "fifo"),
        (os.dup(theirs.fileno()), f"/dev/fd/{ours.fileno()}"),
    ):
        theirs.close()
        writer = threading.Thread(target=write_all, args=(source,))
        writer.start()
        assert await contents(path) == data
        writer.join()
    os.close(reading)
    ours.close()


async def test_a_file_that_begins_while_it_is_read_is_sent_as_long_as_it_was_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.touch()
    fstat = os.fstat

    def write_and_look(descriptor: int) -> os.stat_result:
        path.write_bytes(b"first")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", write_and_look)
    assert await contents(path, lambda: path.write_bytes(b"first and second")) == b"first"


def test_what_cannot_be_sent_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, said in (
            (tmp_path, "is a folder"), (tmp_path / "none", "does not exist"), ("/dev/zero", "is a device"),
            (tmp_path / "socket", "is a socket"), ("\0", "cannot be read"), ("x" * 300, "cannot be read"),
        ):  # fmt: skip
            with pytest.raises(FileUnusable, match=said) as caught:
                uploads([ready := form_module.Upload("a", 0, content=BytesIO()), path])
            assert ready.content is not None
            assert ready.content.closed
            assert isinstance(caught.value, UnstuckError)
            assert isinstance(caught.value, FileNotFoundError) == (said == "does not exist")


async def test_names_are_sent_so_that_the_server_can_read_them(tmp_path: Path) -> None:
    async def sent(*names: str) -> tuple[list[bytes], str | None]:
        form = Form({"kind": "k"}, uploads([(name, b"") for name in names]))
        body = await body_of(form)
        names_sent = [line.split(b"filename=")[1] for line in body.split(b"\r\n") if b"filename=" in line]
        return names_sent, form.headers.get("X-Unstuck-Names")

    assert await sent("ünï.txt", "-a", "100%.csv", "") == (
        ['"ünï.txt"'.encode(), b'"-a"', b'"100%.csv"', b'"unnamed"'],
        None,
    )
    assert await sent('a"b', "ü%22") == ([b'"a%22b"', b'"%C3%BC%2522"'], "percent-encoded")
    for name in ("a\nb", "a\rb", "a\\b", "a%0Ab", "a\0b"):
        ((encoded,), header) = await sent(name)
        assert header == "percent-encoded"
        assert not {*b'\r\n\\"\0'} & {*encoded[1:-1]}
    assert await sent(os.fsdecode(b"a\xff.txt")) == (['"a\ufffd.txt"'.encode()], None)


def test_json_says_what_it_does_not_have() -> None:
    assert json_body({"name": "ü\udcff"}) == '{"name": "ü\ufffd"}'.encode()
    for value in (float("nan"), object(), {("a", 1): 2}):
        with pytest.raises(InvalidOptions, match="option cannot be sent"):
            json_body({"options": value})


async def test_a_client_leaves_no_copy_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(UnstuckError):
            await client.submit("checksum", files=["/proc/version"], patience_s=0)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert list(tmp_path.iterdir()) == []
