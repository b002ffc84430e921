"""Random tables and pictures, judged by readers of other makes.

A table is profiled, and profiled again with decimal numbers, value by value. A picture of one colour goes through
littlecms at its full size, and its thumbnail must show the same colour. The same seed gives the same cases.
See also: test_fuzz_kinds.py (a few cases for every run of the tests).
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from tests.kinds.icc import cmyk_profile, grey_profile
from unstuck import Report
from unstuck.kinds.csv_profile import csv_profile
from unstuck.kinds.thumbnail import thumbnail

_MARKERS = ("NaN", "nan", "NA", "null", "None", "#N/A")
_WORDS = ("a", "é", "x,y", 'say "hi"', "two\nlines", "02134", "+49301", "1E5", "-0", "1_0", " 7", "٣", "true")
PROFILES = {"L": grey_profile(1.0), "CMYK": cmyk_profile()}


def check_table(seed: int, folder: Path) -> None:
    """Profile a random table. Raise AssertionError, naming the seed, if a column is not as decimal numbers say."""
    chance = random.Random(seed)
    width, height = chance.randint(1, 5), chance.randint(0, 40)
    columns = [_column(chance, height) for _ in range(width)]
    names = [chance.choice(["a", "a", "", "b_duplicated_0", "é"]) for _ in range(width)]
    text = io.StringIO()
    delimiter = chance.choice([",", ";", "\t", "|"])
    writer = csv.writer(
        text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=chance.choice(["\n", "\r\n"])
    )
    writer.writerows([names, *zip(*columns, strict=True)])
    file = folder / "table.csv"
    file.write_bytes(text.getvalue().encode(chance.choice(["utf-8", "utf-8-sig", "utf-16"])))
    option: Any = {"\t": "tab"}.get(delimiter, delimiter)
    seen: Any = csv_profile(file, Report("table.csv", folder), delimiter=option)
    assert seen["rows"] == height, seed
    for name, values, column in zip(names, columns, seen["columns"], strict=True):
        assert column["name"] == name, seed
        assert {key: column[key] for key in _expected(values)} == _expected(values), (seed, values, column)


def _column(chance: random.Random, height: int) -> list[str]:
    kind = chance.randrange(5)
    makers = [
        lambda: str(chance.randint(-20, 20)),
        lambda: str(chance.randint(-(10**25), 10**25)),
        lambda: repr(chance.choice([1.0, 1e-9, 1e300]) * chance.uniform(-3, 3)),
        lambda: chance.choice(_WORDS),
        lambda: chance.choice(["inf", "-Infinity", "1e999", repr(chance.random())]),
    ]
    values = [makers[kind]() for _ in range(height)]
    for place in range(height):
        draw = chance.random()
        if draw < 0.1:
            values[place] = ""
        elif draw < 0.15:
            values[place] = chance.choice(_MARKERS)
        elif draw < 0.16:
            values[place] = chance.choice(_WORDS)
    return values


def _expected(values: list[str]) -> dict[str, object]:
    """Return what a column of these values must be, as far as decimal numbers can tell."""
    real = [value for value in values if value and value not in _MARKERS]
    numbers = [_decimal(value) for value in real]
    known = [number for number in numbers if number is not None]
    finite = [number for number in known if number.is_finite() and abs(number) < Decimal("1.8e308")]
    if not real or None in numbers or not finite:
        return {"nulls": values.count("")} if real else {}
    whole = all(re.fullmatch(r"-?\d+", value) and value != "-0" for value in real)  # no integer has that sign
    missing = len(values) - len(real)
    low, high = min(finite), max(finite)
    if not whole:
        return {"type": "number", "nulls": missing, "min": float(low), "max": float(high)}
    shown = [int(end) if abs(end) < 2**53 else str(int(end)) for end in (low, high)]
    mean = int(sum(map(int, real))) / len(real)
    return {"type": "integer", "nulls": missing, "min": shown[0], "max": shown[1], "mean": mean}


def _decimal(value: str) -> Decimal | None:
    """Return the number, or None for what is no number or a code."""
    if not re.fullmatch(r"-?(?:(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]?\d+)?|inf|Infinity)", value, re.ASCII):
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def check_picture(seed: int, folder: Path) -> None:
    """Make a thumbnail of a random plain picture. Raise AssertionError if its colour is not that of littlecms."""
    chance = random.Random(seed)
    mode = chance.choice(["L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16"])
    size = (chance.randint(1, 300), chance.randint(1, 300))
    color: Any = tuple(chance.randrange(256) for _ in mode) if mode != "I;16" else chance.randrange(65536)
    if mode in ("LA", "RGBA"):
        color = (*color[:-1], 255)
    picture = Image.new("RGB" if mode == "P" else mode, size, (color * 3) if mode == "P" else color)
    base = mode.removesuffix("A") if mode != "I;16" else "L"
    profile = PROFILES.get(base) if chance.random() < 0.7 else None
    stored = picture.quantize(4) if mode == "P" else picture
    source = "TIFF" if mode == "CMYK" else "PNG"
    file = folder / "picture"
    stored.save(file, source, icc_profile=profile)
    form: Any = chance.choice(["jpeg", "png", "webp"])
    report = Report("picture", folder / f"out{seed}")
    (folder / f"out{seed}").mkdir()
    with Image.open(thumbnail(file, report, width=chance.randint(1, 200), format=form)) as small:
        assert "icc_profile" not in small.info, seed
        seen: Any = small.convert("RGB").getpixel((small.width // 2, small.height // 2))
    right = _through(stored.convert("RGB") if mode == "P" else picture, base, profile)
    assert max(abs(a - b) for a, b in zip(seen, right, strict=True)) <= 12, (seed, mode, form, color, seen, right)


def _through(picture: Image.Image, base: str, profile: bytes | None) -> Any:
    if picture.mode == "I;16":
        value: Any = picture.getpixel((0, 0))
        colour = Image.new("L", (1, 1), round(value / 257))
    else:
        colour = picture.crop((0, 0, 1, 1)).convert(base if base in ("L", "CMYK") else "RGB")
    if profile is not None:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(colour, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert made is not None
        return made.getpixel((0, 0))
    return colour.convert("RGB").getpixel((0, 0))


def play(folder: Path, seed: int, rounds: int) -> Iterator[str]:
    """Check a table and a picture in each round, and yield what is wrong."""
    folder.mkdir()
    for number in range(rounds):
        for check in (check_table, check_picture):
            try:
                check(seed * 1_000 + number, folder)
            except Exception as error:
                yield f"{check.__name__} of seed {seed * 1_000 + number}: {error!r}"
