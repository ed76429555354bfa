"""Client certificates of pretend systems, and the TLS of both sides."""

import base64
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import trustme

AUTHORITY = trustme.CA()
"""Signs the certificates of the servers and of the systems."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a system shows."""

    leaf: trustme.LeafCert

    @property
    def pem(self) -> str:
        return str(self.leaf.cert_chain_pems[0].bytes().decode())

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.pem)

    @property
    def thumbprint(self) -> str:
        """``x5t#S256``"""
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).decode().rstrip("=")

    @property
    def sequence(self) -> str:
        """As RFC 9440 has it in Client-Cert."""
        return f":{base64.b64encode(self.der).decode()}:"

    @property
    def escaped(self) -> str:
        """As nginx has it in ``$ssl_client_escaped_cert``."""
        return quote(self.pem, safe="")

    def saved(self, folder: Path) -> Path:
        """Its file, with the private key."""
        path = folder / f"{self.thumbprint}.pem"
        self.leaf.private_key_and_cert_chain_pem.write_to_path(path)
        return path


def certificate(name: str = "tax.finance.example") -> Certificate:
    """A fresh one."""
    return Certificate(AUTHORITY.issue_cert(name))


def serving() -> ssl.SSLContext:
    """A server's side that takes client certificates of the authority, and asks nobody to have one."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(tls)
    AUTHORITY.configure_trust(tls)
    tls.verify_mode = ssl.CERT_OPTIONAL
    return tls


def calling(shown: Certificate | None) -> ssl.SSLContext:
    """A client's side."""
    tls = ssl.create_default_context()
    AUTHORITY.configure_trust(tls)
    if shown is not None:
        shown.leaf.configure_cert(tls)
    return tls
