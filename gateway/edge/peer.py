"""Who is at the other end of a connection: its address, and the certificate that it showed (RFC 8705)."""

from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Peer:
    """The party that sent a request, whether it came straight or through a trusted proxy."""

    address: str
    certificate: str | None
    """SHA-256 of its client certificate's DER form, base64url without padding (``x5t#S256``, RFC 8705, section 3.1)."""


class Peers:
    """Tells whose request it is."""

    def of(self, request: web.Request) -> Peer:
        """The peer of a request."""
        return Peer(request.remote or "", None)
