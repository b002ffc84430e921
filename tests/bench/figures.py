"""Collects figures by row and column over several rounds, and formats their medians.

A scene returns a table `{row: {column: figure}}`, or `{name: figure}` for a table with one column.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

Table = dict[str, dict[str, float]]


class Samples:
    """The figures of several rounds."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, **columns: float) -> None:
        """Add one round's figures; underscores in column names become spaces."""
        for column, value in columns.items():
            self._samples.setdefault(row, {}).setdefault(column.replace("_", " "), []).append(value)

    def medians(self) -> Table:
        return {
            row: {column: statistics.median(values) for column, values in columns.items()}
            for row, columns in self._samples.items()
        }


def as_table(found: Mapping[str, Any]) -> Table:
    """Return a scene's result as a table."""
    if all(isinstance(value, Mapping) for value in found.values()):
        return {row: dict(columns) for row, columns in found.items()}
    return {what: {"figure": value} for what, value in found.items() if isinstance(value, int | float)}


def shown(value: float | None) -> str:
    """Format a figure with three significant digits."""
    if value is None:
        return "–"
    if value != value:  # nothing was measured
        return "?"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(table: Table, corner: str = "") -> str:
    """Return the table as Markdown."""
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    lines = [f"| {corner} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, row in table.items():
        lines.append(f"| {name} | {' | '.join(shown(row.get(column)) for column in columns)} |")
    return "\n".join(lines)


def log(text: str) -> None:
    """Print progress to the terminal."""
    print(text, file=sys.stderr, flush=True)
