"""Who is at the other end of a connection: its address, and the certificate that it showed (RFC 8705).

What a proxy says of the caller counts where the proxy's own address is trusted, and nowhere else.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web
from cryptography import x509

from gateway.core.refusal import Refusal

MAX_HOPS = 16
"""Proxies in a row that ``X-Forwarded-For`` is followed through."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")


@dataclass(frozen=True, slots=True)
class Peer:
    """The party that sent a request, whether it came straight or through a trusted proxy."""

    address: str
    shown: str | Refusal | None
    """Its certificate; or what is wrong with the one that a proxy passed on."""

    @property
    def certificate(self) -> str | None:
        """SHA-256 of its client certificate's DER form, base64url (``x5t#S256``, RFC 8705, section 3.1).

        Raises Refusal ``request.malformed`` where a trusted proxy passed on what is none.
        """
        if isinstance(self.shown, Refusal):
            raise self.shown
        return self.shown


class Peers:
    """Tells whose request it is."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        """``trusted``: where the proxies are."""
        self._trusted = tuple(trusted)
        self._seen: WeakKeyDictionary[ssl.SSLObject, str | None] = WeakKeyDictionary()
        """By connection: it shows its certificate once, in the handshake."""

    def of(self, request: web.Request) -> Peer:
        """The peer of a request."""
        socket = _plain(request.remote or "")
        if self._trusted and self._proxy(_read(socket)):
            # The certificate of its connection, if it has one, is the proxy's own.
            return Peer(self._caller(request, socket), _passed_on(request.headers.getall("Client-Cert", ())))
        tls: ssl.SSLObject | None = request.get_extra_info("ssl_object")
        return Peer(socket, None if tls is None else self._certificate(tls))

    def _proxy(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def _caller(self, request: web.Request, proxy: str) -> str:
        """The last address that no proxy of ours has; the proxy's own where the header does not say."""
        hops = ",".join(request.headers.getall("X-Forwarded-For", ())).rsplit(",", MAX_HOPS)
        address = proxy
        for hop in reversed(hops):
            read = _read(hop.strip(" \t"))
            if read is None:
                return proxy
            address = str(read)
            if not self._proxy(read):
                break
        return address

    def _certificate(self, tls: ssl.SSLObject) -> str | None:
        try:
            return self._seen[tls]
        except KeyError:
            raw = tls.getpeercert(binary_form=True)
            self._seen[tls] = shown = None if raw is None else _thumbprint(raw)
            return shown


def _plain(address: str) -> str:
    """The address of a socket; IPv4 as such, also where the socket speaks IPv6 (RFC 4291, section 2.5.5.2)."""
    return str(_read(address) or address) if ":" in address else address


def _read(text: str) -> IPv4Address | IPv6Address | None:
    """An address; None for what is none, and for one with a zone, whose name may be any text."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _passed_on(values: Sequence[str]) -> str | Refusal | None:
    """The thumbprint of what a trusted proxy gives as Client-Cert."""
    if not values:
        return None
    raw = _der(values[0]) if len(values) == 1 else None
    if raw is None:
        return Refusal(
            "request.malformed",
            "The proxy in front of the gateway passed on a Client-Cert that is not one certificate. It must send one "
            "as :base64 of DER: (RFC 9440) or as URL-encoded PEM, and no such header where none was shown.",
        )
    return _thumbprint(raw)


def _der(text: str) -> bytes | None:
    """The certificate of a Client-Cert header: a byte sequence (RFC 9440), or nginx's URL-encoded PEM."""
    if text.startswith(":") and text.endswith(":"):
        encoded = text[1:-1]
    elif pem := _PEM.fullmatch(unquote(text)):
        encoded = "".join(pem[1].split())
    else:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
        x509.load_der_x509_certificate(raw)
    except (binascii.Error, ValueError, x509.InvalidVersion):
        return None
    return raw


def _thumbprint(der: bytes) -> str:
    return base64.urlsafe_b64encode(sha256(der).digest()).rstrip(b"=").decode()
