"""`@kind(…)`: turns a function into a kind of work, and its parameters into options.

It decides which functions and annotations are accepted, and explains the mistakes in others. A mistake is an error
at the definition, where the author sees it, not at the first job.
It must not know where the function comes from or what runs it.
See also: signature.py (whether a function takes a file and a report).
"""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, overload

import msgspec

from unstuck.errors import InvalidOptions
from unstuck.jobs.labels import plural
from unstuck.kinds.option import KindInfo, Option, check_value
from unstuck.kinds.signature import check_work, hints_of, place_of
from unstuck.wire import OptionType

Work = Callable[..., object]
_Work = TypeVar("_Work", bound=Work)

UNIT_LENGTH = 40  # characters
NAME = re.compile(r"[a-z0-9-]{1,40}")

_TYPES: dict[object, OptionType] = {int: "integer", float: "number", bool: "boolean", str: "text"}
_SUPPORTED = "int, float, bool, str, Literal[…], and any of these | None"
_UNSUPPORTED_META = ("gt", "lt", "multiple_of", "pattern", "min_length", "max_length")

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work: its description, its function, and its transient exceptions.

    The function is called as `work(file, report, **options)`. After one of the `transient` exceptions, another
    attempt may succeed.
    """

    info: KindInfo
    work: Work
    transient: tuple[type[Exception], ...] = ()


declared: dict[str, Kind] = {}  # by name, in the order of definition


@overload
def kind(name: _Work, /) -> _Work: ...


@overload
def kind(
    name: str | None = None,
    *,
    title: str = "",
    description: str | None = None,
    accept: str = "",
    needs_file: bool = True,
    limit_s: float | None = None,
    unit: str = "",
    units: str = "",
    unavailable: str | None = None,
    transient: type[Exception] | tuple[type[Exception], ...] = (),
) -> Callable[[_Work], _Work]: ...


def kind(
    name: str | _Work | None = None,
    *,
    title: str = "",
    description: str | None = None,
    accept: str = "",
    needs_file: bool = True,
    limit_s: float | None = None,
    unit: str = "",
    units: str = "",
    unavailable: str | None = None,
    transient: type[Exception] | tuple[type[Exception], ...] = (),
) -> _Work | Callable[[_Work], _Work]:
    """Declare a function `(file, report, *, options…)` as a kind of work; the function itself is not changed.

    `name`         the name that jobs use: 1 to 40 characters from a-z, 0-9 and - (default: made from the name of
                   the function, also for `@kind` without parentheses)
    `title`        the name that people read (default: made from `name`)
    `description`  one sentence (default: the first line of the docstring)
    `accept`       the files that a file chooser offers, such as "image/*" or ".csv,text/csv" (default: all)
    `needs_file`   False if the function also works without a file, in which case `file` is None
    `limit_s`      the time limit for one item (seconds); after it, the item is stopped, by force if necessary, and
                   has failed (default: none)
    `unit`         what one item is called, such as "row" (default: "file", or "item" for jobs without files)
    `units`        what several are called (default: the English plural of `unit`)
    `unavailable`  why the kind cannot be used on this machine, and what to do about it: it is listed with this
                   reason, and submissions of it are refused (default: None, it can be used)
    `transient`    the exceptions after which an item is tried again, such as (ConnectionError, TimeoutError);
                   after others, except `Transient`, the item has failed permanently

    Raise TypeError or ValueError if the declaration is wrong.
    """

    def declare(work: _Work) -> _Work:
        check_work(work)
        chosen = name if isinstance(name, str) else work.__name__.replace("_", "-").strip("-").lower()
        info = describe(chosen, work, title, description, accept, needs_file, limit_s)
        one, several = _units(work, unit, units)
        reason = _reason(work, unavailable)
        whole = msgspec.structs.replace(info, unit=one, units=several, unavailable=reason)
        add(Kind(whole, work, _transient(work, transient)))
        return work

    return declare if name is None or isinstance(name, str) else declare(name)


def add(new: Kind) -> None:
    """Register the kind under its name. Raise ValueError if the name is taken."""
    name = new.info.name
    if name in declared:
        where = declared[name].work
        raise ValueError(f"there is already a kind {name!r} ({place_of(where)}): choose another name")
    declared[name] = new


def app_of(name: str) -> str | None:
    """Return what `--app` must be so that workers know a kind that this process declares; None for other kinds."""
    if name not in declared:
        return None
    module = declared[name].work.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    return os.path.basename(file) if module == "__main__" and file else module


def describe(
    name: str,
    work: Work,
    title: str,
    description: str | None,
    accept: str,
    needs_file: bool,
    limit_s: float | None = None,
) -> KindInfo:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"the kind's name {name!r} must be 1 to 40 characters from a-z, 0-9 and -")
    if description is None:
        description = (inspect.getdoc(work) or "").partition("\n")[0]
    return KindInfo(
        name=name,
        title=title or name.replace("-", " ").capitalize(),
        description=description,
        accept=accept,
        needs_file=needs_file,
        limit_s=_limit(work, limit_s),
        options=tuple(_options(work)),
    )


def _limit(work: Work, limit_s: object) -> float | None:
    if limit_s is None:
        return None
    if isinstance(limit_s, int | float) and not isinstance(limit_s, bool) and 0 < limit_s < math.inf:
        return float(limit_s)
    raise TypeError(f"{place_of(work)}: limit_s must be a number of seconds above 0, or None, not {limit_s!r}")


def _units(work: Work, unit: object, units: object) -> tuple[str, str]:
    for one in (unit, units):
        if not (isinstance(one, str) and len(one) <= UNIT_LENGTH and one.isprintable()):
            raise TypeError(
                f"{place_of(work)}: unit and units must be nouns of at most {UNIT_LENGTH} characters, not {one!r}"
            )
    if units and not unit:
        raise TypeError(f"{place_of(work)}: units needs unit: what one item is called")
    return str(unit), str(units or (unit and plural(str(unit))))


def _reason(work: Work, unavailable: object) -> str | None:
    if unavailable is None or (isinstance(unavailable, str) and unavailable):
        return unavailable
    raise TypeError(f"{place_of(work)}: unavailable must be None or the reason in words, not {unavailable!r}")


def _transient(work: Work, given: object) -> tuple[type[Exception], ...]:
    found = given if isinstance(given, tuple) else (given,)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise TypeError(
                f"{place_of(work)}: transient must be exceptions such as (ConnectionError,), not {one!r}"
            )
    return found


def _options(work: Work) -> Iterator[Option]:
    parameters = _parameters(work)
    hints = hints_of(work)
    for parameter in parameters:
        if parameter.name not in hints:
            raise TypeError(
                f"{place_of(work)}: the option {parameter.name!r} needs a type, for example {parameter.name}: int"
            )
        yield _option(work, parameter, hints[parameter.name])


def _parameters(work: Work) -> list[inspect.Parameter]:
    """Return the parameters after file and report."""
    parameters = check_work(work)
    for parameter in parameters[2:]:
        if parameter.kind not in _BY_NAME:
            raise TypeError(f"{place_of(work)}: name each option instead of taking {parameter}")
    return parameters[2:]


def _option(work: Work, parameter: inspect.Parameter, hint: Any) -> Option:
    place = f"{place_of(work)}: option {parameter.name!r}"
    hint, outer = _without_meta(hint, place)
    hint, nullable = _without_none(hint, place)
    hint, inner = _without_meta(hint, place)
    type_, choices = _type(hint, place)
    required = parameter.default is inspect.Parameter.empty
    option = Option(
        name=parameter.name, type=type_, required=required, nullable=nullable, choices=choices, **inner | outer
    )
    if type_ not in ("integer", "number") and (option.minimum, option.maximum) != (None, None):
        raise TypeError(f"{place}: only numbers can have bounds")
    if required:
        return option
    try:
        return msgspec.structs.replace(option, default=check_value(option, parameter.default))
    except InvalidOptions as error:
        raise TypeError(f"{place}: its default is not allowed: {error}") from error


def _without_meta(hint: Any, place: str) -> tuple[Any, dict[str, Any]]:
    """Split the bounds off a hint: `Annotated[int, Meta(ge=1)]` → `int`, `{"minimum": 1}`."""
    if get_origin(hint) is not Annotated:
        return hint, {}
    bounds: dict[str, Any] = {}
    for meta in hint.__metadata__:
        if not isinstance(meta, msgspec.Meta):
            raise TypeError(f"{place}: Annotated[…] takes a msgspec.Meta(ge=…, le=…, description=…), not {meta!r}")
        for name in _UNSUPPORTED_META:
            if getattr(meta, name) is not None:
                raise TypeError(f"{place}: of msgspec.Meta, only ge, le and description can be used, not {name}")
        given = {"minimum": meta.ge, "maximum": meta.le, "description": meta.description}
        bounds |= {name: value for name, value in given.items() if value is not None}
    return hint.__origin__, bounds


def _without_none(hint: Any, place: str) -> tuple[Any, bool]:
    """Split None off a hint: `int | None` → `int`, True."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    rest = [arm for arm in get_args(hint) if arm is not type(None)]
    if len(rest) != 1 or len(rest) == len(get_args(hint)):
        raise TypeError(f"{place}: {hint} is not supported; use {_SUPPORTED}")
    return rest[0], True


def _type(hint: Any, place: str) -> tuple[OptionType, tuple[str | int, ...]]:
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if all(type(choice) in (str, int) for choice in choices):
            return "choice", choices
        raise TypeError(f"{place}: the choices of Literal[…] must be strings or integers")
    if hint not in _TYPES:
        raise TypeError(f"{place}: {getattr(hint, '__name__', hint)} is not supported; use {_SUPPORTED}")
    return _TYPES[hint], ()
