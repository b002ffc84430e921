"""Decides where a webhook may go: what its URL must look like, and which addresses are private. Pure.

Must not know: which addresses a name has; it looks nothing up.
See also: sender.py, which looks a name up and has its addresses checked here.

A name is judged only by its text. The addresses behind it are checked for each attempt, since a name may point
elsewhere tomorrow.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

#: Most characters of a webhook's URL.
URL_LENGTH = 2_000

#: IPv4 networks that are not part of the public internet, from IANA's registry of special-purpose addresses.
_PRIVATE_4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the metadata of a cloud machine
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: The public IPv6 addresses, except for those in the networks below.
_PUBLIC_6 = ip_network("2000::/3")
_PRIVATE_6 = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments; Teredo, which hides an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which hides an IPv4 address
        "3fff::/20",  # documentation
    )
)
#: NAT64: the last 32 bits are the IPv4 address behind it.
_NAT64 = ip_network("64:ff9b::/96")


class ForbiddenTarget(ValueError):
    """A webhook must not go there; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class AllowedTargets:
    """The hosts that may have private addresses: those in `hosts`, or with `private` all."""

    private: bool = False
    hosts: Collection[str] = ()

    def allows_private(self, host: str) -> bool:
        """Return whether this host may have a private address."""
        return self.private or host in self.hosts


@dataclass(frozen=True, slots=True)
class Target:
    """The receiver that a URL names; `host` is in lower case, without brackets and without a trailing dot."""

    host: str
    port: int
    tls: bool


def target(url: str, allowed: AllowedTargets) -> Target:
    """Return the receiver that the URL names. Raises ForbiddenTarget if the URL itself rules it out."""
    if len(url) > URL_LENGTH:
        raise ForbiddenTarget(f"A webhook_url may have at most {URL_LENGTH:,} characters.")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ForbiddenTarget(
            "A webhook_url must be plain ASCII: percent-encode its path, and write its host as xn--…."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
    except ValueError as error:
        raise ForbiddenTarget(f"The webhook_url cannot be read: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ForbiddenTarget("A webhook_url must begin with https:// (or http://) and a host.")
    if "@" in parts.netloc:
        raise ForbiddenTarget(
            "A webhook_url must not contain a user or password: the receiver knows the server by its signature."
        )
    if parts.fragment or port == 0 or "%" in host:
        raise ForbiddenTarget(
            "A webhook_url may have a host, a port, a path and a query, but no fragment and no zone."
        )
    if not allowed.allows_private(host) and (host.rpartition(".")[2] == "localhost" or _is_private_literal(host)):
        raise ForbiddenTarget(refusal(host))
    tls = parts.scheme == "https"
    return Target(host, port or (443 if tls else 80), tls)


def refusal(host: str) -> str:
    """Explain why a webhook does not go to this host, and what to do."""
    return (
        f"{host} is inside a private network, where webhooks are not sent. The server's operator can allow it: "
        "UNSTUCK_WEBHOOK_HOSTS names allowed hosts, UNSTUCK_WEBHOOK_ALLOW_PRIVATE=1 allows all."
    )


def no_public_address(host: str) -> str:
    """Explain why a webhook does not go to this name, without saying whether there is such a name inside."""
    return (
        f"{host} has no public address: there is no such name, or it is inside a private network, where webhooks "
        "are not sent. The server's log says which; its operator can allow the host (UNSTUCK_WEBHOOK_HOSTS)."
    )


def is_private(address: str) -> bool:
    """Return whether this numeric address is not public; one that cannot be read counts as private."""
    try:
        one = ip_address(address)
    except ValueError:
        return True
    if isinstance(one, IPv6Address):
        embedded = _embedded_ipv4(one)
        if embedded is None:
            return one not in _PUBLIC_6 or any(one in network for network in _PRIVATE_6)
        one = embedded
    return any(one in network for network in _PRIVATE_4)


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for, or None."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_private_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False  # a name: its addresses are checked when they are known
    return is_private(host)
