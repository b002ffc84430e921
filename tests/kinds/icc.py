"""Small ICC profiles made by hand: grey with a gamma, and CMYK with a table of its own."""

from __future__ import annotations

import struct


def grey_profile(gamma: float) -> bytes:
    """Return a profile for grey whose curve is a power."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _white(), b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Return a profile for four inks that are duller than plain subtractive colours."""
    corners = []
    for number in range(16):
        c, m, y, k = (number >> 3 & 1, number >> 2 & 1, number >> 1 & 1, number & 1)
        lightness = (100 - 35 * c - 45 * m - 10 * y) * (1 - 0.85 * k)
        a, b = (-30 * c + 65 * m - 5 * y) * (1 - k), (-45 * c - 5 * m + 85 * y) * (1 - k)
        corners.append((max(lightness, 3) * 2.55, a + 128, b + 128))
    # lut8Type: matrix, input tables, the corners of the cube, output tables.
    identity = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4
    table += bytes(max(0, min(255, round(value))) for corner in corners for value in corner)
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _white(), b"A2B0": table + bytes(range(256)) * 3})


def _white() -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))


def _profile(device: bytes, space: bytes, connection: bytes, more: dict[bytes, bytes]) -> bytes:
    text = b"by hand\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", **more}
    start, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"none", 0x02400000, device, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + bytes(4)
    head += struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data
