"""`thumbnail`: a small picture of a picture.

Decides: which pictures are read, how large they may be, and how the small one is made and named.
Must not know: whether whoever sent the file is to be trusted: pictures are the classic way to attack a server.
So the size is judged before anything is decoded, and only plain formats are read (not EPS, say, for which
Pillow starts a PostScript interpreter).
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from msgspec import Meta

from unstuck.jobs.labels import stem
from unstuck.kinds.declare import kind
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# A telephone's largest pictures have 200 million; decoded, that is 800 MB at worst.
PIXEL_LIMIT = 200_000_000

_ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_QUALITY = 85  # of 100, for JPEG and WebP: no visible loss at this size
_ORIENTATION = 0x0112  # EXIF tag
_LYING = (5, 6, 7, 8)
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# What Pillow raises for files that begin like a picture and are none, or are damaged.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)

Side = Annotated[int, Meta(ge=1, le=4096)]


@kind(
    "thumbnail",
    title="Thumbnails",
    description="Makes a small picture of each picture.",
    accept="image/bmp,image/gif,image/jpeg,image/png,image/tiff,image/webp",
)
def thumbnail(
    file: Path,
    report: Report,
    *,
    width: Annotated[Side, Meta(description="Maximum, in pixels")] = 320,
    height: Annotated[Side, Meta(description="Maximum, in pixels")] = 320,
    format: Literal["jpeg", "png", "webp"] = "jpeg",
) -> Path:
    """The picture, upright, within width × height, in its own proportions, never enlarged, without metadata."""
    pillow = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage that Pillow can live with
        small = _small(pillow, file, report, (width, height))
    report(0.9, message="saving")
    result = report.output / f"{stem(report.name)}-thumb.{_ENDINGS[format]}"
    # The colour profile stays, or the colours would change; nothing else of the file does, such as its place.
    profile = None if small.mode == "CMYK" else small.info.get("icc_profile")
    plain = _plain(pillow, small, opaque=format == "jpeg")
    plain.info = {}
    plain.save(result, format=format, quality=_QUALITY, icc_profile=profile)
    return result


def _small(pillow: ModuleType, file: Path, report: Report, box: tuple[int, int]) -> Image.Image:
    with file.open("rb") as stream, _open(pillow, stream) as picture:
        report(0.1, message="decoding")
        try:
            # A JPEG is decoded to a fraction of its size, still twice as large as asked for.
            picture.draft(None, (2 * max(box), 2 * max(box)))
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)  # not before: loading turns a TIFF by itself
        except _DAMAGED as error:
            raise Failed(f"the picture is damaged: {error}", code="damaged_image") from error
        return _upright(pillow, picture, orientation, box)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        message = "this kind needs Pillow on the server: pip install 'unstuck[thumbnail]'"
        raise Failed(message, code="extra_missing") from error
    Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT // 2  # it warns from there on, and refuses twice as much
    return Image


def _open(pillow: ModuleType, stream: BinaryIO) -> Image.Image:
    """The picture, of which nothing but the header has been read."""
    try:
        picture: Image.Image = pillow.open(stream, formats=FORMATS)
    except pillow.DecompressionBombError as error:
        message = f"the picture has more than {PIXEL_LIMIT // 1_000_000} million pixels: {error}"
        raise Failed(message, code="image_too_large") from error
    except _DAMAGED as error:
        message = f"this is no picture of a kind that is read here ({', '.join(FORMATS)})"
        raise Failed(message, code="not_an_image") from error
    return picture


def _upright(pillow: ModuleType, picture: Image.Image, orientation: int, box: tuple[int, int]) -> Image.Image:
    """The decoded picture within the box, the right way up."""
    if picture.mode in ("1", "P", "PA"):
        picture = picture.convert("RGBA")  # colour numbers cannot be averaged
    elif picture.mode.startswith("I"):  # 16 bits of grey
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    picture.thumbnail(box[::-1] if orientation in _LYING else box)
    turn = _TURNS.get(orientation)
    return picture.transpose(pillow.Transpose[turn]) if turn else picture


def _plain(pillow: ModuleType, picture: Image.Image, opaque: bool) -> Image.Image:
    """In grey, RGB or, unless it must be opaque, RGBA."""
    if picture.has_transparency_data:
        seen_through = picture.convert("RGBA")
        if not opaque:
            return seen_through
        picture = pillow.new("RGB", picture.size, "white")
        picture.paste(seen_through, mask=seen_through)
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
