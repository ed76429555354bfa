"""Which addresses may be dialled for a push: every spelling of the machine itself, and of its cloud's secrets."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reach import Reach

CASES = {
    "127.0.0.1": "loopback",
    "127.255.0.9": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
    "0.0.0.0": "unspecified",  # noqa: S104 - nobody binds to it
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "::ffff:0.0.0.0": "unspecified",
    "169.254.169.254": "metadata",
    "::ffff:169.254.169.254": "metadata",
    "64:ff9b::a9fe:a9fe": "metadata",
    "fd00:ec2::254": "metadata",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "::ffff:168.63.129.16": "metadata",
    "fd20:ce::254": "metadata",
    "fd00:c1::a9fe:a9fe": "metadata",
    "fd00:ec2::23": "metadata",
    "169.254.0.1": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "reserved",
    "64:ff9b:1::7f00:1": "translated",
    "2001:0:7f00:1::": "translated",
    "not an address": "unreadable",
}


@pytest.mark.parametrize(("address", "kind"), CASES.items())
def test_barred(address: str, kind: str) -> None:
    """However it is spelled; a folder may allow loopback, and nothing else."""
    assert Reach().barred(address) == kind
    assert Reach(loopback=True).barred(address) == (None if kind == "loopback" else kind)


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.9", "192.168.7.7", "203.0.113.7", "2001:db8::7", "fd12::9"])
def test_permitted(address: str) -> None:
    """A government's private networks are where its systems are."""
    assert Reach().barred(address) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_spelling(address: IPv4Address) -> None:
    """What stands for it as an IPv6 address is barred where it is."""
    plain, number = Reach().barred(str(address)), int(address)
    spelled = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
    assert {Reach().barred(str(IPv6Address(each))) for each in spelled} == {plain}
