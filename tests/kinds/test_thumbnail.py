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
from PIL import Image, ImageCms

from tests.kinds.icc import cmyk_profile, grey_profile
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


@pytest.mark.parametrize("source", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_sources(shrink: Any, source: str) -> None:
    if source not in Image.SAVE and source == "AVIF":
        pytest.skip("this Pillow is built without AVIF")
    small = shrink(picture(color="red", format=source))
    assert small.size == (320, 160)
    red, green, blue = small.convert("RGB").getpixel((10, 10))
    assert red > 240
    assert max(green, blue) < 20


def test_sixteen_bits_of_grey_keep_their_brightness(shrink: Any) -> None:
    small = shrink(picture("I;16", color=32768), format="png")
    assert abs(small.convert("L").getpixel((5, 5)) - 128) <= 1


def encoded(image: Image.Image, format: str, **saving: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **saving)
    return buffer.getvalue()


def ramp(mode: str, white: float, format: str = "TIFF", **saving: Any) -> bytes:
    """Return a picture whose left half is black, and whose right half has this value."""
    image = Image.new(mode, (80, 40), 0)
    image.paste(Image.new(mode, (40, 40), white), (40, 0))  # a plain value is cut to 8 bits in some modes
    return encoded(image, format, **saving)


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (ramp("I;16", 65535), 255),
        (ramp("I;16", 32768), 128),
        (ramp("I;16", 4095), 255),
        (ramp("I;16", 1023), 255),
        (ramp("I;16", 100), 100),
        (ramp("I;16", 2048, tiffinfo={281: 4095}), 128),
        (ramp("I;16", 4095, "PNG"), 16),
        (ramp("I", 65535), 255),
        (ramp("I", 2**30 - 1), 255),
        (ramp("F", 1.0), 255),
        (ramp("F", 0.5), 128),
        (ramp("F", 1000.0), 255),
        (ramp("F", float("inf")), 255),
        (ramp("1", 1), 255),
        (ramp("L", 200), 200),
    ],
)
@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_any_depth_keeps_its_brightness(shrink: Any, content: bytes, right: int, format: Format) -> None:
    small = shrink(content, format=format).convert("L")
    assert abs(small.getpixel((60, 20)) - right) <= 2
    assert small.getpixel((20, 20)) <= 2


def test_values_below_zero_are_black(shrink: Any) -> None:
    image = Image.new("F", (80, 40), -5.0)
    image.paste(5.0, (40, 0, 80, 40))
    small = shrink(encoded(image, "TIFF"), format="png")
    assert (small.getpixel((20, 20)), small.getpixel((60, 20))) == (0, 255)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = grey_profile(1.0)
#: What a browser shows of a few values in linear grey: the sRGB curve.
SHOWN = {0: 0, 32: 99, 64: 137, 128: 188, 255: 255}


def tagged_grey(mode: str) -> Image.Image:
    """Return one stripe for each value of SHOWN, the last 10 rows transparent if the mode can be."""
    image = Image.new("L", (20 * len(SHOWN), 40))
    for place, value in enumerate(SHOWN):
        image.paste(value, (20 * place, 0, 20 * place + 20, 40))
    if mode == "LA":
        alpha = Image.new("L", image.size, 255)
        alpha.paste(0, (0, 30, image.width, 40))
        image.putalpha(alpha)
    return image


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(
    "content",
    [
        encoded(tagged_grey("L"), "PNG", icc_profile=GREY),
        encoded(tagged_grey("L"), "JPEG", icc_profile=GREY, quality=100),
        encoded(tagged_grey("L"), "TIFF", icc_profile=GREY),
        encoded(tagged_grey("LA"), "PNG", icc_profile=GREY),
        encoded(tagged_grey("L"), "PNG", icc_profile=GREY, transparency=200),
        encoded(tagged_grey("L").convert("I;16").point(lambda value: value * 257), "PNG", icc_profile=GREY),
    ],
    ids=["L png", "L jpeg", "L tiff", "LA", "key", "16 bit"],
)
def test_grey_with_a_profile_looks_the_same(shrink: Any, content: bytes, format: Format) -> None:
    """The profile is applied, and none is written that a reader would apply again, or to another space."""
    small = shrink(content, format=format)
    assert "icc_profile" not in small.info
    shown = [small.convert("RGB").getpixel((20 * place + 10, 10)) for place in range(len(SHOWN))]
    for seen, right in zip(shown, SHOWN.values(), strict=True):
        assert max(abs(channel - right) for channel in seen) <= 3, shown


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "P with a key"])
def test_colours_with_a_profile_look_the_same(shrink: Any, mode: str, format: Format) -> None:
    """A profile with swapped primaries: red is shown as green, and green as red."""
    swapped = swap_primaries(SRGB)
    image = Image.new("RGB", (80, 40), (255, 0, 0))
    image.paste((0, 0, 255), (40, 0, 80, 40))
    saving = {"transparency": 77} if mode == "P with a key" else {}
    content = encoded(image.convert(mode[:1] if mode[0] == "P" else mode), "PNG", icc_profile=swapped, **saving)
    small = shrink(content, format=format).convert("RGB")
    for place, right in (((20, 20), (0, 255, 0)), ((60, 20), (0, 0, 255))):
        assert max(abs(a - b) for a, b in zip(small.getpixel(place), right, strict=True)) <= 6, small.getpixel(
            place
        )


def swap_primaries(profile: bytes) -> bytes:
    """Return the profile with the names of its red and green tags exchanged."""
    for old, new in ((b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ")):
        profile = profile.replace(old, new, 1)
    return profile


@pytest.mark.parametrize("source", ["JPEG", "TIFF"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_cmyk_goes_through_its_profile(shrink: Any, source: str, format: Format) -> None:
    """Compare with littlecms; without a profile, inks are plain subtractive colours, as in browsers."""
    profile = cmyk_profile()
    inks = [(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (40, 90, 160, 30), (0, 0, 0, 0)]
    image = Image.new("CMYK", (20 * len(inks), 40))
    for place, ink in enumerate(inks):
        image.paste(ink, (20 * place, 0, 20 * place + 20, 40))
    saving: dict[str, Any] = {"quality": 100, "subsampling": 0} if source == "JPEG" else {}
    tagged = shrink(encoded(image, source, icc_profile=profile, **saving), format=format).convert("RGB")
    right = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    plain = shrink(encoded(image, source, **saving), format=format).convert("RGB")
    for place, (c, m, y, k) in enumerate(inks):
        spot = (20 * place + 10, 20)
        assert right is not None
        meant: Any = right.getpixel(spot)
        assert max(abs(a - b) for a, b in zip(tagged.getpixel(spot), meant, strict=True)) <= 8
        expected = [(255 - ink) * (255 - k) / 255 for ink in (c, m, y)]
        assert max(abs(a - b) for a, b in zip(plain.getpixel(spot), expected, strict=True)) <= 8
    assert tagged.getpixel((10, 20)) != plain.getpixel((10, 20))


@pytest.mark.parametrize("profile", [SRGB, GREY, b"broken", GREY[:200], SRGB + bytes(3_000_000)], ids=len)
def test_a_profile_that_does_not_fit_is_ignored(shrink: Any, profile: bytes) -> None:
    """Browsers ignore the profile of another colour space too. None makes a thumbnail large."""
    for mode, color in (("L", 100), ("RGB", (100, 100, 100))):
        if (mode, profile) != ("L", GREY):
            small = shrink(picture(mode, color=color, format="JPEG", icc_profile=profile), format="png")
            assert small.convert("L").getpixel((5, 5)) in range(98, 103)
            assert small.info.get("icc_profile") is None


def test_a_colour_key_does_not_bleed(shrink: Any) -> None:
    """The transparent colour is no part of the averages at its edge."""
    image = Image.new("RGB", (400, 200), (255, 0, 0))
    for x in range(0, 400, 2):
        image.paste((0, 255, 0), (x, 0, x + 1, 200))
    small = shrink(encoded(image, "PNG", transparency=(0, 255, 0)), format="png", width=40, height=40)
    red, green, _, alpha = small.convert("RGBA").getpixel((20, 10))
    assert red > 240
    assert green < 15
    assert 100 < alpha < 155


def test_the_first_picture_of_an_animation(shrink: Any) -> None:
    frames = [Image.new("RGB", (40, 20), color) for color in ("red", "lime", "blue")]
    for source in ("GIF", "WEBP", "PNG", "TIFF"):
        small = shrink(encoded(frames[0], source, save_all=True, append_images=frames[1:]), format="png")
        red, green, blue = small.convert("RGB").getpixel((5, 5))
        assert (red > 240, green < 20, blue < 20) == (True, True, True)


def test_what_libtiff_says_stays_out_of_the_log(shrink: Any, capfd: pytest.CaptureFixture[str]) -> None:
    noise = encoded(Image.effect_noise((200, 100), 80), "TIFF", compression="tiff_lzw")
    damaged = noise.replace(noise[2000:4000], b"\xff" * 2000)
    with contextlib.suppress(Failed):
        shrink(damaged)
    assert capfd.readouterr().err == ""
    with Image.open(io.BytesIO(damaged)) as opened, contextlib.suppress(OSError):
        opened.load()
    assert capfd.readouterr().err != "", "the picture shows nothing"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC picture; save it as JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "it is a JPEG XL picture; save it as JPEG or PNG"),
        (b"8BPS\0\1", "it is a Photoshop picture; save it as JPEG or PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing"),
        (b"%PDF-1.7", "it is a PDF document; submit a picture"),
        (b"PK\x03\x04" + bytes(40), "it is a ZIP archive; unpack it"),
        (b"\0\0\0\x18ftypmp42", "it is a video or sound"),
    ],
)
def test_other_files_are_named(shrink: Any, content: bytes, advice: str) -> None:
    with pytest.raises(Failed) as failed:
        shrink(content)
    assert advice in str(failed.value)


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
