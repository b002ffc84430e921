"""`thumbnail`: a small version of a picture.

It decides which formats are read, how large a picture may be, and how the thumbnail is made and named. It must not
trust the sender: pictures are a classic way to attack a server. So the size is checked before anything is decoded,
and only plain formats are read (not EPS, for example, for which Pillow starts a PostScript interpreter).
See also: colours.py (depth, transparency and colour profiles), file_types.py (what else a file may be).
"""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from msgspec import Meta

from unstuck.jobs.labels import stem
from unstuck.kinds.declare import kind
from unstuck.kinds.extras import missing, needed
from unstuck.kinds.file_types import HEAD_BYTES, recognize
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# The largest pictures of phones have 200 million; decoded, that is at most 800 MB.
PIXEL_LIMIT = 200_000_000

_ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_QUALITY = 85  # of 100, for JPEG and WebP: no visible loss at this size
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = (5, 6, 7, 8)
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# Pillow raises these for damaged pictures, and for other files that begin like a picture.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)

Side = Annotated[int, Meta(ge=1, le=4096)]


@kind(
    "thumbnail",
    title="Thumbnails",
    description="Makes a thumbnail of each picture.",
    accept="image/avif,image/bmp,image/gif,image/jpeg,image/png,image/tiff,image/webp",
    unavailable=missing("PIL", "Pillow", "thumbnail"),
)
def thumbnail(
    file: Path,
    report: Report,
    *,
    width: Annotated[Side, Meta(description="Maximum width, in pixels")] = 320,
    height: Annotated[Side, Meta(description="Maximum height, in pixels")] = 320,
    format: Literal["jpeg", "png", "webp"] = "jpeg",
) -> Path:
    """Return the thumbnail: upright, within width × height, in proportion, never enlarged, in sRGB.

    Of an animation or of several pages, the first picture is taken. No metadata is kept, such as the location.
    """
    pillow = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage that Pillow tolerates
        small = _small(pillow, file, report, (width, height))
    report(0.9, message="saving")
    result = report.output / f"{stem(report.name)}-thumb.{_ENDINGS[format]}"
    plain = _on_white(pillow, small) if format == "jpeg" else small
    plain.info = {}
    plain.save(result, format=format, quality=_QUALITY)
    return result


def _small(pillow: ModuleType, file: Path, report: Report, box: tuple[int, int]) -> Image.Image:
    from unstuck.kinds import colours  # it imports Pillow

    with file.open("rb") as stream, _open(pillow, stream) as picture:
        report(0.1, message="decoding")
        try:
            # A JPEG is decoded at a fraction of its size, still twice as large as requested.
            picture.draft(None, (2 * max(box), 2 * max(box)))
            with _quiet(picture.format == "TIFF"):
                picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)  # after load(), which turns a TIFF upright
        except _DAMAGED as error:
            raise Failed(f"the picture is damaged: {error}", code="damaged_image") from error
        plain = colours.averageable(picture)
        plain.thumbnail(box[::-1] if orientation in _SIDEWAYS else box)
        upright = plain.transpose(pillow.Transpose[_TURNS[orientation]]) if orientation in _TURNS else plain
        return colours.to_srgb(upright, picture.info.get("icc_profile"))


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise Failed(needed("Pillow", "thumbnail"), code="extra_missing") from error
    Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT // 2  # Pillow warns above this, and refuses above twice this
    Image.init()
    return Image


def _open(pillow: ModuleType, stream: BinaryIO) -> Image.Image:
    """Return the picture, of which only the header has been read."""
    readable = [name for name in FORMATS if name in pillow.OPEN]  # Pillow may have been built without some
    try:
        picture: Image.Image = pillow.open(stream, formats=readable)
    except pillow.DecompressionBombError as error:
        message = f"the picture has more than {PIXEL_LIMIT // 1_000_000} million pixels: {error}"
        raise Failed(message, code="image_too_large") from error
    except _DAMAGED as error:
        raise Failed(_advice(stream, readable), code="not_an_image") from error
    return picture


def _advice(stream: BinaryIO, readable: list[str]) -> str:
    stream.seek(0)
    message = f"this is not a picture in a supported format ({', '.join(readable)})"
    found = recognize(stream.read(HEAD_BYTES))
    if found is None:
        return message
    cure = {"archive": "unpack it, and submit the pictures inside", "picture": "save it as JPEG or PNG"}
    return f"{message}: it is {found.name}; {cure.get(found.group, 'submit a picture')}"


@contextmanager
def _quiet(noisy: bool) -> Iterator[None]:
    """Keep what libtiff prints out of the log; what is wrong with a picture is its item's error."""
    if not noisy:
        yield
        return
    log = os.dup(2)
    try:
        with tempfile.TemporaryFile() as unwanted:
            os.dup2(unwanted.fileno(), 2)
            yield
    finally:
        os.dup2(log, 2)
        os.close(log)


def _on_white(pillow: ModuleType, picture: Image.Image) -> Image.Image:
    """Return the picture without transparency."""
    if picture.mode not in ("LA", "RGBA"):
        return picture
    opaque: Image.Image = pillow.new(picture.mode[:-1], picture.size, "white")
    opaque.paste(picture.convert(opaque.mode), mask=picture.getchannel("A"))
    return opaque
