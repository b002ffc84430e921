"""Thumbnails of real images, and of files that only look like images."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from unstuck import Failed, Report
from unstuck.kinds.thumbnail import thumbnail

Format = Literal["jpeg", "png", "webp"]


def picture(mode: str = "RGB", size: tuple[int, int] = (400, 200), color: Any = None, **saving: Any) -> bytes:
    saving.setdefault("format", "PNG")
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, **saving)
    return buffer.getvalue()


@pytest.fixture
def shrink(tmp_path: Path) -> Any:
    def shrink(content: bytes, name: str = "my picture.png", **options: Any) -> Image.Image:
        file, output = tmp_path / "input", tmp_path / "output"
        file.write_bytes(content)
        output.mkdir(exist_ok=True)
        made = thumbnail(file, Report(name, output), **options)
        assert made.parent == output
        with Image.open(made) as opened:
            opened.load()
            opened.filename = made.name
            return opened

    return shrink


@pytest.mark.parametrize(("format", "ending"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_formats(shrink: Any, format: Format, ending: str) -> None:
    small = shrink(picture(), width=100, height=100, format=format)
    assert (small.format, small.size, small.filename) == (format.upper(), (100, 50), f"my_picture-thumb.{ending}")


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"])
def test_colour_modes(shrink: Any, mode: str, format: Format) -> None:
    file_format = "TIFF" if mode in ("CMYK", "F", "YCbCr", "LAB", "I") else "PNG"
    small = shrink(picture(mode, format=file_format), width=40, height=40, format=format)
    assert small.size == (40, 20)


@pytest.mark.parametrize("source", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_sources(shrink: Any, source: str) -> None:
    small = shrink(picture(color="red", format=source))
    assert small.size == (320, 160)
    red, green, blue = small.convert("RGB").getpixel((10, 10))
    assert red > 240
    assert max(green, blue) < 20


def test_sixteen_bits_of_grey_keep_their_brightness(shrink: Any) -> None:
    small = shrink(picture("I;16", color=32768), format="png")
    assert abs(small.convert("L").getpixel((5, 5)) - 128) <= 1


def test_never_larger_than_the_picture(shrink: Any) -> None:
    assert shrink(picture(size=(10, 5)), width=4096, height=4096).size == (10, 5)


def test_a_side_of_one_pixel_is_kept(shrink: Any) -> None:
    assert shrink(picture(size=(10_000, 1)), width=10, height=10).size == (10, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pictures_stand_upright(shrink: Any, orientation: int, source: str) -> None:
    """A red top left quarter, stored in any of the eight orientations, ends up at the top left."""
    scene = Image.new("RGB", (80, 40), "white")
    scene.paste("red", (0, 0, 40, 20))
    stored_by = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that a viewer undoes
    stored = scene.transpose(Image.Transpose(stored_by[orientation])) if orientation > 1 else scene
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, format=source, exif=exif)
    small = shrink(buffer.getvalue(), width=40, height=40, format="png").convert("RGB")
    assert small.size == (40, 20)
    assert small.getpixel((5, 5))[1] < 60
    for corner in ((35, 5), (5, 15), (35, 15)):
        assert small.getpixel(corner)[1] > 200


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_metadata_is_removed(shrink: Any, format: Format) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    small = shrink(picture(format="JPEG", exif=exif, comment=b"secret"), format=format)
    assert not small.getexif()
    assert "comment" not in small.info


def test_transparency_becomes_white_or_is_kept(shrink: Any) -> None:
    transparent = picture("RGBA", color=(255, 0, 0, 0))
    assert shrink(transparent, format="jpeg").getpixel((5, 5)) == (255, 255, 255)
    assert shrink(transparent, format="png").getpixel((5, 5))[3] == 0
    assert shrink(transparent, format="webp").getpixel((5, 5))[3] == 0


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that claims to be this large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (200_000_001, 1)])
def test_bombs_are_refused_before_decoding(shrink: Any, size: tuple[int, int]) -> None:
    with pytest.raises(Failed, match="more than 200 million pixels") as failed:
        shrink(bomb(*size))
    assert failed.value.code == "image_too_large"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(pwned) print\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", EPS, b"%PDF-1.7", bytes(100), b"GIF89a", b"BM"],
    ids=["empty", "text", "svg", "eps", "pdf", "zeros", "gif head", "bmp head"],
)
def test_files_that_are_not_images(shrink: Any, content: bytes) -> None:
    with pytest.raises(Failed, match="not a picture in a supported format") as failed:
        shrink(content)
    assert failed.value.code == "not_an_image"


@pytest.mark.parametrize("source", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_and_scrambled_images_fail_cleanly(shrink: Any, source: str) -> None:
    """Each truncated or scrambled image is still readable, or raises Failed and nothing else."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, format=source)
    whole = buffer.getvalue()
    for cut in range(0, len(whole), max(1, len(whole) // 150)):
        scrambled = whole[:cut] + bytes([whole[cut] ^ 0xFF]) + whole[cut + 1 :]
        for content in (whole[:cut], scrambled):
            with contextlib.suppress(Failed):
                shrink(content)


def test_without_pillow_the_error_says_what_to_install(shrink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = picture()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(Failed, match=r"pip install 'unstuck\[thumbnail\]'"):
        shrink(content)


def test_names_of_results_are_harmless(shrink: Any) -> None:
    assert shrink(picture(), name="../../etc/pass wd.png").filename == "pass_wd-thumb.jpg"
    assert shrink(picture(), name="").filename == "file-thumb.jpg"
