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
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from unstuck.kinds.declare import kind
from unstuck.kinds.filename import stem
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# A telephone's largest pictures have 200 million; decoded, that is 800 MB at worst.
PIXEL_LIMIT = 200_000_000

_ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_QUALITY = 85  # of 100, for JPEG and WebP: no visible loss at this size
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 are pictures that lie on their side
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
    width: Annotated[Side, Meta(description="At most, in pixels")] = 320,
    height: Annotated[Side, Meta(description="At most, in pixels")] = 320,
    format: Literal["jpeg", "png", "webp"] = "jpeg",
) -> Path:
    """The picture, upright, within width × height, in its own proportions, never enlarged, without metadata."""
    with _open(file) as picture:
        report(0.1, message="decoding")
        try:
            small = _shrunk(picture, (width, height))
        except _DAMAGED as error:
            raise Failed(f"the picture is damaged: {error}", code="damaged_image") from error
    report(0.9, message="saving")
    result = report.output / f"{stem(report.name)}-thumb.{_ENDINGS[format]}"
    _on_white(small, format).save(result, format=format, quality=_QUALITY)
    return result


def _open(file: Path) -> Image.Image:
    """The picture, of which nothing but the header was read."""
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the limit below is ours
            picture = pillow.open(file, formats=FORMATS)
    except pillow.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except _DAMAGED as error:
        ...
