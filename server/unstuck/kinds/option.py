"""The description of a kind (`KindInfo`), and whether given options fit it (`check_options`).

It decides which option types there are, and the sentence that a person reads when an option does not fit.
It must not know the kinds' code: the server holds only these descriptions, as the workers sent them, and checks
submissions with them without loading user code.
"""

from __future__ import annotations

import math
from typing import Any

from unstuck import wire
from unstuck.errors import InvalidOptions

#: A kind as clients see it. In this room, a `Kind` also has its function.
KindInfo = wire.Kind
Option = wire.Option

# Enough for a prompt or a filter expression; anything longer belongs in a file.
TEXT_OPTION_LIMIT = 10_000  # characters

_SHOWN_VALUE_LIMIT = 40  # characters of a wrong value that an error message repeats


def check_options(info: KindInfo, options: object) -> dict[str, Any]:
    """Return all options of the kind, in its order, with the defaults filled in.

    Raise InvalidOptions for the first option that is unknown, missing or not allowed.
    """
    if not isinstance(options, dict):
        raise InvalidOptions(f"options must be a JSON object such as {{}}, not {_shown(options)}")
    known = {option.name for option in info.options}
    for name in options:
        if name not in known:
            raise InvalidOptions(_unknown(info, name))
    return {option.name: _value_of(option, options) for option in info.options}


def check_value(option: Option, value: object) -> Any:
    """Return the value as the kind gets it: an integer becomes a float for a number. Raise InvalidOptions."""
    if value is None:
        fits = option.nullable
    else:
        value, fits = _CHECKS[option.type](option, value)
    if not fits:
        raise InvalidOptions(f"{option.name} must be {allowed(option)}, not {_shown(value)}")
    return value


def allowed(option: Option) -> str:
    """Describe what the option accepts: "an integer between 1 and 8192"."""
    words = {
        "integer": "an integer",
        "number": "a number",
        "boolean": "true or false",
        "text": f"text of at most {TEXT_OPTION_LIMIT} characters",
        "choice": "one of " + ", ".join(_shown(choice) for choice in option.choices),
    }[option.type]
    match option.minimum, option.maximum:
        case None, None:
            pass
        case low, None:
            words += f" of at least {low}"
        case None, high:
            words += f" of at most {high}"
        case low, high:
            words += f" between {low} and {high}"
    return words + " or null" if option.nullable else words


def _value_of(option: Option, options: dict[object, object]) -> Any:
    if option.name in options:
        return check_value(option, options[option.name])
    if option.required:
        raise InvalidOptions(f"{option.name} is missing: give {allowed(option)}")
    return option.default


def _unknown(info: KindInfo, name: object) -> str:
    if not info.options:
        return f"unknown option {_shown(name)}; {info.name} has no options"
    return f"unknown option {_shown(name)}; {info.name} has {', '.join(o.name for o in info.options)}"


def _integer(option: Option, value: object) -> tuple[object, bool]:
    # To Python, True is the integer 1; to people, it is not.
    return value, isinstance(value, int) and not isinstance(value, bool) and _within(option, value)


def _number(option: Option, value: object) -> tuple[object, bool]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value, False
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return value, False
    return number, math.isfinite(number) and _within(option, number)


def _boolean(option: Option, value: object) -> tuple[object, bool]:
    return value, isinstance(value, bool)


def _text(option: Option, value: object) -> tuple[object, bool]:
    return value, isinstance(value, str) and len(value) <= TEXT_OPTION_LIMIT and _is_unicode(value)


def _choice(option: Option, value: object) -> tuple[object, bool]:
    # The types are compared too, because True == 1.
    return value, any(type(value) is type(choice) and value == choice for choice in option.choices)


_CHECKS = {"integer": _integer, "number": _number, "boolean": _boolean, "text": _text, "choice": _choice}


def _within(option: Option, number: int | float) -> bool:
    above = option.minimum is None or number >= option.minimum
    below = option.maximum is None or number <= option.maximum
    return above and below


def _is_unicode(text: str) -> bool:
    """Return False for half of a surrogate pair, which JSON can express but UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**_SHOWN_VALUE_LIMIT:
        return "a number that long"  # repr() of a very long integer is an error
    shown = ascii(value) if isinstance(value, str) and not _is_unicode(value) else repr(value)
    return shown if len(shown) <= _SHOWN_VALUE_LIMIT else shown[: _SHOWN_VALUE_LIMIT - 1] + "…"
