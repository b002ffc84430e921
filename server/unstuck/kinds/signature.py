"""`check_work(work)`: refuses what cannot be a kind of work, with the declaration that would be right.

It decides which callables are accepted, and whether their first two parameters can take a file and a report. It
must not know options.
See also: declare.py (the caller).
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from unstuck.kinds.report import Report

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY = inspect.Parameter.empty


def check_work(work: Any) -> list[inspect.Parameter]:
    """Return the parameters of the function. Raise TypeError if it is not one of (file, report, …)."""
    if isinstance(work, staticmethod | classmethod):
        raise TypeError(
            f"{place_of(work)} is a {type(work).__name__}: put @kind(…) on a function outside of a class"
        )
    if not inspect.isfunction(work):
        raise TypeError(f"{work!r} is not a function: put @kind(…) above a plain def (file, report, *, options)")
    if work.__name__ == "<lambda>":
        raise TypeError(f"{place_of(work)} is a lambda: give it a name, with def name(file, report)")
    if inspect.iscoroutinefunction(work) or inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        raise TypeError(
            f"{place_of(work)}: a kind must be a plain function; call asyncio.run(…) or the generator inside it"
        )
    parameters = list(inspect.signature(work).parameters.values())
    if len(parameters) < 2 or any(one.kind not in _BY_POSITION for one in parameters[:2]):
        _refuse(work, parameters)
    if parameters[0].name in ("self", "cls"):
        raise TypeError(f"{place_of(work)} is a method: put @kind(…) on a function outside a class")
    hints = hints_of(work)
    for parameter, given in zip(parameters, (Path, Report), strict=False):
        if not _takes(parameter, hints.get(parameter.name, Any), given):
            _refuse(work, parameters)
    return parameters


def hints_of(work: Callable[..., object]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(work, include_extras=True)
    except NameError as error:
        raise TypeError(f"{place_of(work)}: an annotation cannot be resolved: {error}") from error


def place_of(work: Any) -> str:
    return f"{getattr(work, '__module__', '?')}.{getattr(work, '__qualname__', '?')}"


def _takes(parameter: inspect.Parameter, hint: Any, given: type) -> bool:
    """Return whether the parameter can take an object of this type, as far as its hint or its default says."""
    if parameter.annotation is _EMPTY:
        return parameter.default in (_EMPTY, None)
    if get_origin(hint) is Annotated:
        hint = hint.__origin__
    arms = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return any(_is_for(arm, given) for arm in arms)


def _is_for(hint: Any, given: type) -> bool:
    if hint is Any or hint is None or isinstance(hint, TypeVar):
        return True
    if hint is type(None):
        return given is Path  # of a kind that works without files
    try:
        return issubclass(given, get_origin(hint) or hint)
    except TypeError:  # a protocol that cannot be checked, for example
        return True


def _refuse(work: Any, parameters: list[inspect.Parameter]) -> NoReturn:
    taken, by_name = {"file", "report", "self", "cls"}, (*_BY_POSITION, inspect.Parameter.KEYWORD_ONLY)
    options = [str(one) for one in parameters if one.name not in taken and one.kind in by_name]
    right = ", ".join(["file: Path", "report: unstuck.Report", *(["*", *options] if options else [])])
    raise TypeError(
        f"{place_of(work)}: a kind takes (file, report), and then its options by name: "
        f"def {work.__name__}({right})"
    )
