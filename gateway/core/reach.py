"""Which network addresses documents may be pushed to: never those by which a machine talks to itself or its cloud.

An agency's folder names a URL, and names are resolved by whoever runs that domain: the rule is for the address that is
really dialled, after the name was resolved.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

LOOPBACK = "loopback"
"""The one kind that a folder may allow."""

_METADATA = frozenset(
    map(
        ip_address,
        (
            *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192"),
            "168.63.129.16",  # Azure's WireServer
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
        ),
    )
)
"""Where clouds tell a machine its own credentials; those outside of the link-local networks too."""
_LOCAL_4, _LOCAL_6 = IPv4Network("127.0.0.0/8"), IPv6Address("::1")
_NETWORKS_4 = {
    IPv4Network("0.0.0.0/8"): "unspecified",  # Linux takes 0.0.0.0 for itself
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",  # broadcast among them
}
_NETWORKS_6 = {
    IPv6Network("fd00:ec2::/32"): "metadata",  # Amazon's services on the machine, its metadata and pods' credentials
    IPv6Network("::/128"): "unspecified",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "link-local",  # site-local, which was given up (RFC 3879)
    IPv6Network("ff00::/8"): "multicast",
    IPv6Network("64:ff9b:1::/48"): "translated",  # RFC 8215: where the IPv4 address stands, only its network knows
    IPv6Network("2001::/32"): "translated",  # Teredo (RFC 4380)
}
_EMBEDDING = (
    (IPv6Network("::ffff:0:0/96"), 0),  # RFC 4291, section 2.5.5.2
    (IPv6Network("::/96"), 0),  # section 2.5.5.1
    (IPv6Network("::ffff:0:0:0/96"), 0),  # RFC 2765
    (IPv6Network("64:ff9b::/96"), 0),  # RFC 6052
    (IPv6Network("2002::/16"), 80),  # RFC 3056
)
"""IPv6 networks whose addresses stand for an IPv4 one, and how many bits stand behind that."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one caller may dial."""

    loopback: bool = False
    """The machine itself, which only a demonstration or a test has a reason for."""

    def barred(self, address: str) -> str | None:
        """Why the address may not be dialled; None: it may. One that cannot be read may not."""
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return "unreadable"
        found = _meant(found)
        if found in _METADATA:
            return "metadata"
        if found == _LOCAL_6 or (isinstance(found, IPv4Address) and found in _LOCAL_4):
            return None if self.loopback else LOOPBACK
        networks = _NETWORKS_4 if isinstance(found, IPv4Address) else _NETWORKS_6
        return next((kind for network, kind in networks.items() if found in network), None)


def _meant(found: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(found, IPv4Address) or int(found) <= 1:  # :: and ::1 are their own
        return found
    for network, behind in _EMBEDDING:
        if found in network:
            return IPv4Address(int(found) >> behind & 0xFFFFFFFF)
    return found
