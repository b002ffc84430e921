"""Allowed targets of webhooks, as far as they can be decided without a name lookup."""

from __future__ import annotations

import pytest

from unstuck.jobs.labels import host_of
from unstuck.webhooks.targets import AllowedTargets, ForbiddenTarget, Target, is_private, target

INSIDE = [
    "127.0.0.1", "127.255.255.255", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "100::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1", "2001:0:7f00:1::1", "fec0::1", "5f00::1",
    "", "example.org", "1.2.3", "0x7f.1",
]  # fmt: skip
OUTSIDE = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "11.0.0.0",
    "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "hook", "ftp://example.org/", "file:///etc/passwd", "https://", "https:///x", "https://u:p@example.org/",
        "https://example.org@10.0.0.1/", "https://example.org/#x", "https://example.org:0/",
        "https://example.org:99999/", "https://[::1", "https://example.org/a b", "https://example.org/\n",
        "https://example.org\\@evil/", "https://b\u00fccher.example/", "https://example.org/" + "x" * 2000,
        "https://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
def test_malformed_urls(url: str) -> None:
    with pytest.raises(ForbiddenTarget) as refused:
        target(url, AllowedTargets(private=True))
    assert len(str(refused.value)) > 20


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "LocalHost.", "a.localhost", "169.254.169.254", "[::ffff:a00:1]"]
)
def test_private_hosts_are_refused_unless_allowed(host: str) -> None:
    url = f"http://{host}/hook"
    with pytest.raises(ForbiddenTarget, match="UNSTUCK_WEBHOOK_HOSTS"):
        target(url, AllowedTargets(hosts=["other"]))
    assert target(url, AllowedTargets(private=True)).host == host.strip("[].").lower()
    assert target(url, AllowedTargets(hosts=[host.strip("[].").lower()]))


def test_host_and_port_of_a_url() -> None:
    assert target("https://Example.org./a?b=c", AllowedTargets()) == Target("example.org", 443, tls=True)
    assert target("http://8.8.8.8:81", AllowedTargets()) == Target("8.8.8.8", 81, tls=False)
    assert target("https://[2606:4700::1111]:8443/", AllowedTargets()) == Target("2606:4700::1111", 8443, tls=True)
    # A number that only a lookup reads as an address is judged by the result of the lookup.
    assert target("http://2130706433/", AllowedTargets()).host == "2130706433"
    assert host_of("https://Example.org./a") == "example.org"
    assert host_of("https://[") == host_of("nothing") == ""
