"""Signs webhooks after the Standard Webhooks convention (standardwebhooks.com), with symmetric keys. Pure.

See also: dispatcher.py (the headers of a webhook), PROTOCOL.md section 8 (how a receiver verifies it).

The signed content is `id.timestamp.body`. Each key gives one signature, so a receiver can be moved from an old key
to a new one without losing a message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

#: Least and most bytes of a key: fewer can be guessed, and the convention allows no more.
KEY_BYTES = (24, 64)
PREFIX = "whsec_"
#: The command that makes a secret.
RECIPE = 'echo "whsec_$(openssl rand -base64 32)"'


def keys(secrets: str) -> tuple[bytes, ...]:
    """Return the keys of one or more secrets, separated by spaces. Raises ValueError, which says what is wrong."""
    found = []
    for number, secret in enumerate(secrets.split(), start=1):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith(PREFIX) or not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
            raise ValueError(
                f"Secret {number} is not {PREFIX} followed by {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes in base64. "
                f"This makes one: {RECIPE}"
            )
        found.append(key)
    return tuple(found)


def sign(signing: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in signing)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
