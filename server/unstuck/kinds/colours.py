"""The colours of a picture: from any depth, palette, transparency and colour profile to 8 bits of sRGB.

It decides how each of Pillow's modes is read. The result is grey or RGB, with or without alpha, and needs no
profile: a profile belongs to one colour space, and is often larger than the thumbnail. It must not know sizes,
files or formats of output.
See also: thumbnail.py (calls `averageable`, scales, and calls `to_srgb`).
"""

from __future__ import annotations

import io
import math

from PIL import Image, ImageCms, ImageOps

_PHOTOMETRIC, _MAX_SAMPLE = 262, 281  # TIFF tags
_WHITE_IS_ZERO = 0
#: The colour space of a profile that fits a mode.
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


def averageable(picture: Image.Image) -> Image.Image:
    """Return the decoded picture with pixels that can be averaged: 8 bits a channel, no palette, no colour key."""
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture)
    transparent = picture.has_transparency_data
    if picture.mode in ("1", "L", "LA"):
        wanted = "LA" if transparent else "L"
    elif picture.mode in ("CMYK", "LAB"):
        wanted = picture.mode
    else:
        wanted = "RGBA" if transparent else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in sRGB, through its profile if there is one that fits."""
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture.convert(picture.mode[:-1]) if alpha else picture
    converted = _through(colours, profile) if profile else None
    if converted is None:
        # As browsers do: grey and RGB are taken for sRGB, CMYK for plain subtractive colours.
        converted = colours if colours.mode in ("L", "RGB") else colours.convert("RGB")
    if alpha:
        converted.putalpha(alpha)
    return converted


def _through(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """Return the picture converted through the profile; None if the profile is broken or of another space."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[picture.mode]:
            return None
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of 16 or 32 bits, or of floating-point numbers, in 8 bits of grey."""
    low, high = _range(picture)
    wide = picture if picture.mode == "F" else picture.convert("I")
    scale = 255 / (high - low)
    small = wide.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
    tags = getattr(picture, "tag_v2", {})
    return ImageOps.invert(small) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else small


def _range(picture: Image.Image) -> tuple[float, float]:
    """Return the values of black and of white.

    In a PNG, white is 65535. A TIFF may have 10, 12 or 14 bits in 16, or floating-point numbers up to 1, and
    seldom says so; then its largest value tells.
    """
    if picture.format == "PNG":
        return 0, 65535
    low, high = map(float, picture.getextrema())  # type: ignore[arg-type]
    declared = getattr(picture, "tag_v2", {}).get(_MAX_SAMPLE)
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, 1
    if low < 0:
        return low, max(high, low + 1)
    if isinstance(declared, tuple):
        declared = declared[0] if declared else None
    if isinstance(declared, int | float) and declared >= high > 0:
        return 0, float(declared)
    if picture.mode == "F":
        return 0, max(high, 1)
    return 0, float(2 ** max(8, math.ceil(math.log2(high + 1))) - 1)
