r"""`Column`: the type and the statistics of one column, from batches of its values as they are written.

It decides the types. A type has to fit every value, and must give back what is written:

    boolean    true or false, in any case
    integer    as programs write it: no plus sign, no leading zeros, no spaces, at most 39 digits
    number     the same, with a fraction or an exponent. 1E5 is a code (1e5, 1E+5 and 1.0E5 are numbers)
    date       2024-02-29
    datetime   2024-02-29T23:59:59 or with a space, with or without a fraction and Z
    text       anything else; so the codes 02134 and +49301234 stay as they are

An empty value is missing. So is a marker such as NaN or NA, if the other values are of another type than text: in
a column of countries, NA is a value. Infinite numbers, and those beyond the largest float, are counted apart.
It must not know files or other columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Any

VALUE_LIMIT = 40  # characters of a text value
_DIGITS_LIMIT = 10**39  # longer integers are codes; this many digits and a sign fit into a text value
_JSON_LIMIT = 2**53 - 1  # readers of JSON may round integers beyond

_NANS = frozenset(
    sign + word
    for sign in ("", "-", "+")
    for word in ("nan", "NaN", "NAN", "Nan", "1.#IND", "1.#QNAN", "1.#SNAN", "NaN()")
)
#: How programs (pandas, Polars, R, Excel, SQL, C) write a missing value.
MARKERS = _NANS | {"NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "null", "NULL", "Null", "None"}

_WHOLE, _EXPONENT = r"(?:0|[1-9][0-9]{0,38})", r"[0-9]{1,4}"
_NUMBER = re.compile(
    rf"-?(?:{_WHOLE}(?:(?:e[+-]?|E[+-]){_EXPONENT})?|(?:{_WHOLE}\.[0-9]*|\.[0-9]+)(?:[eE][+-]?{_EXPONENT})?)"
    r"|[+-]?(?i:inf|infinity)"
)
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z?")


class Column:
    """One column; call `add` with each batch of its values, then `profile`."""

    def __init__(self) -> None:
        self._type = ""  # no value so far
        self._empty = 0
        self._marked, self._markers = 0, set[str]()
        self._text = _Extremes()
        self._typed = _Extremes()
        self._count, self._total = 0, Fraction()  # exact, so that no order or size of the values changes the mean
        self._infinite = 0

    def add(self, values: Sequence[str]) -> None:
        filled = [value for value in values if value] if "" in values else list(values)
        self._empty += len(values) - len(filled)
        if not filled:
            return
        self._text.add(filled)
        if self._type == "text" or self._fits(filled):
            return
        certain = [value for value in filled if value not in MARKERS]
        self._marked += len(filled) - len(certain)
        self._markers |= MARKERS.intersection(filled)
        if certain and not self._fits(certain):
            self._type = "text"

    def profile(self) -> dict[str, object]:
        """Return {"type", "nulls", "min", "max", "mean"}, and "infinite" if there are infinite numbers."""
        if self._type in ("", "text") or self._typed.low is None:
            return self._text_profile()
        extremes = [_small(value, self._type) for value in (self._typed.low, self._typed.high)]
        found = {
            "type": self._type,
            "nulls": self._empty + self._marked,
            "min": extremes[0],
            "max": extremes[1],
            "mean": float(self._total / self._count) if self._count else None,
        }
        return found | ({"infinite": self._infinite} if self._infinite else {})

    def _text_profile(self) -> dict[str, object]:
        if not self._type and self._markers <= _NANS:
            return {"type": "empty", "nulls": self._empty + self._marked, "min": None, "max": None, "mean": None}
        low, high = self._text.low, self._text.high
        return {"type": "text", "nulls": self._empty, "min": cut(low), "max": cut(high), "mean": None}

    def _fits(self, values: list[str]) -> bool:
        """Add the values if they are of one type, and of the column's type so far; return whether they are."""
        for type_ in _NEXT[self._type]:
            parsed = _PARSERS[type_](values)
            if parsed is not None:
                self._type = type_
                self._typed.add(self._finite(parsed))
                return True
        return False

    def _finite(self, parsed: list[Any]) -> list[Any]:
        if self._type not in ("integer", "number"):
            return parsed
        finite = [number for number in parsed if math.isfinite(number)] if self._type == "number" else parsed
        self._infinite += len(parsed) - len(finite)
        self._count += len(finite)
        self._total += _sum(finite)
        return finite


class _Extremes:
    def __init__(self) -> None:
        self.low: Any = None
        self.high: Any = None

    def add(self, values: list[Any]) -> None:
        if values:
            low, high = min(values), max(values)
            self.low = low if self.low is None else min(low, self.low)
            self.high = high if self.high is None else max(high, self.high)


def cut(text: str, limit: int = VALUE_LIMIT) -> str:
    """Shorten a text for the profile."""
    text = text.replace("\0", "")  # JSON can hold NUL, but some databases cannot
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _small(value: Any, type_: str) -> object:
    if type_ == "integer":
        return value if abs(value) <= _JSON_LIMIT else str(value)
    if type_ == "number":
        return float(value)  # the column may have begun with integers
    return value.isoformat() if hasattr(value, "isoformat") else value


def _sum(numbers: list[Any]) -> Fraction:
    try:
        return Fraction(math.fsum(numbers) if numbers and isinstance(numbers[0], float) else sum(numbers))
    except OverflowError:
        return sum(map(Fraction, numbers), Fraction())


# Each parser returns the values (of booleans each once), or None if one of them does not fit.


def _booleans(values: list[str]) -> list[bool] | None:
    small = set(map(str.lower, values))
    return [value == "true" for value in small] if small <= {"true", "false"} else None


def _integers(values: list[str]) -> list[int] | None:
    try:
        numbers = list(map(int, values))
    except ValueError:
        return None
    exact = list(map(str, numbers)) == values and min(numbers) > -_DIGITS_LIMIT and max(numbers) < _DIGITS_LIMIT
    return numbers if exact else None


def _numbers(values: list[str]) -> list[float] | None:
    return list(map(float, values)) if all(map(_NUMBER.fullmatch, values)) else None


def _dates(values: list[str]) -> list[date] | None:
    try:
        days = list(map(date.fromisoformat, values))
    except ValueError:
        return None
    return days if list(map(date.isoformat, days)) == values else None


def _datetimes(values: list[str]) -> list[datetime] | None:
    if not all(map(_DATETIME.fullmatch, values)):
        return None
    try:
        return [datetime.fromisoformat(value.removesuffix("Z")) for value in values]
    except ValueError:
        return None


_PARSERS: Mapping[str, Callable[[list[str]], list[Any] | None]] = {
    "boolean": _booleans,
    "integer": _integers,
    "number": _numbers,
    "date": _dates,
    "datetime": _datetimes,
}
#: The types that a column of this type may have after further values; if none fits, it is text.
_NEXT: Mapping[str, tuple[str, ...]] = {
    "": tuple(_PARSERS),
    "integer": ("integer", "number"),
    **{type_: (type_,) for type_ in ("boolean", "number", "date", "datetime")},
}
