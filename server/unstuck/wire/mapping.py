"""The base class of everything that the server sends: each field is an attribute and a key.

A reader copes with other versions of the server: unknown fields are dropped, and missing ones have defaults. The
server always sends every field, except those that are UNSET.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

#: The largest whole number that every reader of JSON keeps exactly, JavaScript too.
MOST = 2**53
Count = Annotated[int, Meta(ge=0)]
#: A time as text: RFC 3339, UTC.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object of the server: `job.state` is also `job["state"]`, and `{**job}` works too."""

    def __getitem__(self, name: str) -> Any:
        value = getattr(self, name, UNSET) if name in self.__struct_fields__ else UNSET
        if value is UNSET:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """Return the names of the fields that are sent."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and values, which `json.dumps` accepts."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field, or the default if the field is not sent."""
        try:
            return self[name]
        except KeyError:
            return default
