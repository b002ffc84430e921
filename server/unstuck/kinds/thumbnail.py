"""`thumbnail`: a small version of a picture.

It decides which formats are read, how large a picture may be, and how the thumbnail is made and named. It must not
trust the sender: pictures are a classic way to attack a server. So the size is checked before anything is decoded,
and only plain formats are read (not EPS, for example, for which Pillow starts a PostScript interpreter).
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
from unstuck.kinds.extras import missing, needed
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
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
    accept="image/bmp,image/gif,image/jpeg,image/png,image/tiff,image/webp",
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
    """Return the thumbnail: upright, within width × height, in proportion, never enlarged, without metadata."""
    pillow = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage that Pillow tolerates
        small = _small(pillow, file, report, (width, height))
    report(0.9, message="saving")
    result = report.output / f"{stem(report.name)}-thumb.{_ENDINGS[format]}"
    # Keep the colour profile, or the colours would change; drop all other metadata, such as the location.
    profile = None if small.mode == "CMYK" else small.info.get("icc_profile")
    plain = _plain(pillow, small, opaque=format == "jpeg")
    plain.info = {}
    plain.save(result, format=format, quality=_QUALITY, icc_profile=profile)
    return result


def _small(pillow: ModuleType, file: Path, report: Report, box: tuple[int, int]) -> Image.Image:
    with file.open("rb") as stream, _open(pillow, stream) as picture:
        report(0.1, message="decoding")
        try:
            # A JPEG is decoded at a fraction of its size, still twice as large as requested.
            picture.draft(None, (2 * max(box), 2 * max(box)))
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)  # after load(), which turns a TIFF upright
        except _DAMAGED as error:
            raise Failed(f"the picture is damaged: {error}", code="damaged_image") from error
        return _upright(pillow, picture, orientation, box)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise Failed(needed("Pillow", "thumbnail"), code="extra_missing") from error
    Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT // 2  # Pillow warns above this, and refuses above twice this
    return Image


def _open(pillow: ModuleType, stream: BinaryIO) -> Image.Image:
    """Return the picture, of which only the header has been read."""
    try:
        picture: Image.Image = pillow.open(stream, formats=FORMATS)
    except pillow.DecompressionBombError as error:
        message = f"the picture has more than {PIXEL_LIMIT // 1_000_000} million pixels: {error}"
        raise Failed(message, code="image_too_large") from error
    except _DAMAGED as error:
        message = f"this is not a picture in a supported format ({', '.join(FORMATS)})"
        raise Failed(message, code="not_an_image") from error
    return picture


def _upright(pillow: ModuleType, picture: Image.Image, orientation: int, box: tuple[int, int]) -> Image.Image:
    """Return the decoded picture, upright and scaled to fit the box."""
    if picture.mode in ("1", "P", "PA"):
        picture = picture.convert("RGBA")  # palette indexes cannot be averaged
    elif picture.mode.startswith("I"):  # 16-bit grey
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    picture.thumbnail(box[::-1] if orientation in _SIDEWAYS else box)
    turn = _TURNS.get(orientation)
    return picture.transpose(pillow.Transpose[turn]) if turn else picture


def _plain(pillow: ModuleType, picture: Image.Image, opaque: bool) -> Image.Image:
    """Return the picture in grey, RGB or, unless it must be opaque, RGBA."""
    if picture.has_transparency_data:
        transparent = picture.convert("RGBA")
        if not opaque:
            return transparent
        picture = pillow.new("RGB", picture.size, "white")
        picture.paste(transparent, mask=transparent)
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
