"""Writes the structs of unstuck.wire as TypeScript, for the type comments in frontend/*.js.

A later server may send a word that is not listed, so enumerations in answers are open; those in requests are
closed.
It must not know what the fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unstuck import wire
from unstuck.wire.mapping import Answer
from unstuck.wire.schema import schemas

#: Prettier's line length, so that the output passes `scripts/check`.
LONGEST = 115
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def interfaces() -> str:
    """Return all interfaces, separated by blank lines."""
    return "\n\n".join(_interface(name, schema) for name, schema in schemas("{name}").items())


def _interface(name: str, schema: Mapping[str, Any]) -> str:
    sent = issubclass(getattr(wire, name), Answer)
    lines = [f"/** {schema['description']} */", f"export interface {name} {{"]
    for field, of in schema["properties"].items():
        if "description" in of:
            lines.append(f"  /** {of['description']} */")
        optional = "" if field in schema["required"] else "?"
        lines.append(_field(f"  {field}{optional}:", _union(of, sent)))
    return "\n".join([*lines, "}"])


def _field(head: str, arms: list[str]) -> str:
    line = f"{head} {' | '.join(arms)};"
    return line if len(line) <= LONGEST else head + "".join(f"\n    | {arm}" for arm in arms) + ";"


def _union(schema: Mapping[str, Any], sent: bool) -> list[str]:
    """Return the types that a value may have."""
    if "$ref" in schema:
        return [schema["$ref"]]
    if "anyOf" in schema:
        return list(dict.fromkeys(arm for one in schema["anyOf"] for arm in _union(one, sent)))
    if "enum" in schema:
        return [*map(json.dumps, schema["enum"]), *(["(string & {})"] if sent else [])]
    kinds = schema.get("type", [])
    return [_type(kind, schema, sent) for kind in ([kinds] if isinstance(kinds, str) else kinds)] or ["unknown"]


def _type(kind: str, schema: Mapping[str, Any], sent: bool) -> str:
    if kind == "array":
        arms = _union(schema["items"], sent)
        return f"{arms[0]}[]" if len(arms) == 1 else f"({' | '.join(arms)})[]"
    if kind == "object":
        values = _union(schema.get("additionalProperties", {}), sent)
        return f"Record<string, {' | '.join(values)}>"
    return PRIMITIVES[kind]
