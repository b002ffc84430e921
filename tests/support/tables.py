"""Tables of measurements, and the places in the documents where measuring programs write them.

A block of a document starts with `<!-- name -->` and ends with `<!-- /name -->`; everything in between is
generated. It must not know what is measured.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELIABILITY = ROOT / "RELIABILITY.md"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least `share` (0 to 1) of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose other columns are numbers."""
    lines = [header, ("---",) + ("---:",) * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_block(text: str, name: str, content: str) -> str:
    """Return `text` with this content in the block of this name; raise SystemExit if it has no such block."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"The document needs the lines {begin} and {end} where the table belongs.")
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL)


def write_block(path: Path, name: str, content: str) -> None:
    """Put this content into the block of this name in a document."""
    path.write_text(replace_block(path.read_text(), name, content))


def machine() -> str:
    """Return the system, cores and memory of this machine, such as `Linux, 2 cores, 24 GiB`."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.uname().sysname}, {os.cpu_count()} cores, {memory:.0f} GiB"
