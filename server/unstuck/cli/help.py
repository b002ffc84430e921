"""Decides how `--help` reads: from the docstring, in words instead of Python types, whole at 80 columns.

It must not know what any command does.
See also: commands.py, which registers every command with these classes.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose docstring is its help: a summary, prose, and the sections `Examples:` and `Exit codes:`.

    Every argument, and every option that takes a value, must have a metavar.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments: list[Any] = [one for one in self.params if one.param_type_name == "argument"]
        return ["[OPTIONS]", *(one.metavar if one.required else f"[{one.metavar}]" for one in arguments)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(self, ctx, formatter)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the summary, whole: the base class cuts it at the limit."""
        return _split(self.help)[0].partition("\n")[0]


class Group(TyperGroup):
    """The program, whose help lists its commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(self, ctx, formatter)


def _write_help(command: Any, ctx: Any, formatter: Any) -> None:
    prose, sections = _split(command.help)
    parameters = command.get_params(ctx)
    lists = {
        "Arguments": [(one.metavar, one.help) for one in parameters if one.param_type_name == "argument"],
        "Options": [(_flag(one), _meaning(one)) for one in parameters if one.param_type_name == "option"],
        "Commands": [(name, one.get_short_help_str()) for name, one in getattr(command, "commands", {}).items()],
    }
    command.format_usage(ctx, formatter)
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(prose)
    for heading, rows in lists.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)
    formatter.write(f"\n{sections}\n")


def _split(docstring: str | None) -> tuple[str, str]:
    """Split a docstring into its prose, to be wrapped, and its sections, to be shown as they are written."""
    prose, heading, sections = inspect.cleandoc(docstring or "").partition("Examples:\n")
    return prose.rstrip(), heading + sections


def _flag(option: Any) -> str:
    """Return the option's name and metavar; of a flag with a negative form only the positive one."""
    name = ", ".join(option.opts)
    return name if option.is_flag else f"{name} {option.metavar}"


def _meaning(option: Any) -> str:
    if option.required:
        return f"{option.help}  [required]"
    if option.is_flag or option.default is None or not option.show_default:
        return str(option.help)
    default = f"{option.default:g}" if isinstance(option.default, float) else option.default
    return f"{option.help}  [default: {default}]"
