"""What a suite that looks for flaws finds: sentences, each with a kind that a table counts.

See also: tests/faults/judge.py and tests/crash/witness.py, which name their kinds.
"""

from __future__ import annotations

from enum import StrEnum


class Violation(str):
    """A sentence about what was wrong, and its kind."""

    kind: StrEnum

    def __new__(cls, kind: StrEnum, text: str) -> Violation:
        violation = super().__new__(cls, text)
        violation.kind = kind
        return violation
