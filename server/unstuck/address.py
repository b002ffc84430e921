"""Decides where clients look for the server if they are not told: `UNSTUCK_URL`, else this machine.

It must not know what is asked there; the server itself never reads it.
See also: client/ and cli/, which use it.
"""

from __future__ import annotations

import os

#: The environment variable that has the server's address.
URL_VARIABLE = "UNSTUCK_URL"
DEFAULT_URL = "http://127.0.0.1:8765"


def server_url(given: str | None = None) -> str:
    """Return the address without a slash at its end: `given`, else the environment's, else DEFAULT_URL."""
    return (given or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
