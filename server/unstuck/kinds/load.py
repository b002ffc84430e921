"""`load(app, commands)`: every kind that a worker knows, by name.

It decides where kinds come from (built in, the user's module, command lines), and says in one sentence why one of
them cannot be loaded. It must not know what happens to the kinds.
See also: declare.py (`@kind`), command.py (`--command`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unstuck.kinds.declare import Kind, add, declared

BUILT_IN = ("checksum", "csv_profile", "thumbnail", "rehearsal")


class LoadError(Exception):
    """A kind could not be loaded. The message is one sentence; the cause, if any, is chained."""


def load(app: str | None, commands: Sequence[str]) -> dict[str, Kind]:
    """Return the built-in kinds, those that `app` declares, and one for each NAME=command line, by name.

    `app` is a file (mywork.py) or a module (package.module). Raise LoadError. Imported modules stay imported, so a
    process can load only once.
    """
    for module in BUILT_IN:
        importlib.import_module(f"unstuck.kinds.{module}")
    if app:
        before = len(declared)
        _import(app)
        if len(declared) == before:
            raise LoadError(f"{app} declares no kind of work: put @unstuck.kind(…) above a function in it")
    for command in commands:
        _add_command(command)
    return dict(declared)


def _import(app: str) -> None:
    by_path = app.endswith(".py") or os.sep in app
    import_app: Callable[[str], None] = _import_file if by_path else _import_module
    try:
        import_app(app)
    except LoadError:
        raise
    except BaseException as error:  # sys.exit() in a module must not look like a clean exit of the worker
        raise LoadError(f"{app} cannot be imported: {_last_line(error)}") from error


def _import_module(name: str) -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.import_module(name)


def _import_file(path: str) -> None:
    file = Path(path).resolve()
    if not file.is_file():
        raise LoadError(f"{path} does not exist or is not a file")
    if file.stem in sys.modules or file.stem in sys.stdlib_module_names:
        raise LoadError(f"{path} has the name of the Python module {file.stem!r}: rename it")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses and pickle look up their module
    sys.path.insert(0, str(file.parent))  # as for a script, so that files beside it can be imported
    spec.loader.exec_module(module)


def _add_command(text: str) -> None:
    from unstuck.kinds.command import MalformedCommand, command_kind  # imports subprocess

    try:
        add(command_kind(text))
    except MalformedCommand as error:
        raise LoadError(str(error)) from None
    except ValueError as error:  # the name is taken
        raise LoadError(f"--command {text.partition('=')[0]}: {error}") from None


def _last_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
