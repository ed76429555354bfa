"""TLS of the public listener: its certificate, the authorities of its callers, and how both are renewed."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509

from gateway.edge.keys import BadKeys, barred, hold_secret

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption (RFC 9325, section 4.2). TLS 1.3 has no others."""


class Tls:
    """A context for each connection that comes; those that are open keep theirs."""

    def __init__(
        self, certificate: Path, key: Path, client_ca: Path | None = None, expires: Callable[[float], object] = float
    ) -> None:
        """``expires`` is told when the certificate in use expires, in seconds since 1970. Raises ValueError."""
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._expires = expires
        self.context = self._loaded()

    def renew(self) -> None:
        """Read the files again, for the connections that come from now on.

        Raises ValueError if something is wrong with them; what was read before stays in use.
        """
        self.context = self._loaded()

    def _loaded(self) -> ssl.SSLContext:
        expires = _expiry(self._certificate)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        try:
            hold_secret(self._key, self._key.stat().st_mode)
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except BadKeys as error:
            raise ValueError(f"GATEWAY_TLS_KEY: {error}") from error
        except (OSError, ValueError) as error:
            raise ValueError(_why(self._certificate, self._key, error)) from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(cafile=self._client_ca)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"GATEWAY_TLS_CLIENT_CA: {self._client_ca} cannot be read as certificates in PEM."
                ) from error
            context.verify_mode = ssl.CERT_OPTIONAL
        self._expires(expires.timestamp())
        return context


class Chosen(Protocol):
    """What the settings say of it."""

    @property
    def tls_certificate(self) -> Path | None:
        """With the chain, in PEM."""

    @property
    def tls_key(self) -> Path | None:
        """In PEM."""

    @property
    def tls_client_ca(self) -> Path | None:
        """In PEM."""


def served(chosen: Chosen, expires: Callable[[float], object] = float) -> Tls | None:
    """The TLS of a listener, or None where it speaks none. Raises ValueError."""
    if chosen.tls_certificate is None or chosen.tls_key is None:
        return None
    return Tls(chosen.tls_certificate, chosen.tls_key, chosen.tls_client_ca, expires)


def _expiry(certificate: Path) -> datetime:
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"GATEWAY_TLS_CERTIFICATE: {certificate} cannot be read as a certificate and its chain in PEM."
        ) from error
    if leaf.not_valid_after_utc <= datetime.now(UTC):
        raise ValueError(
            f"GATEWAY_TLS_CERTIFICATE: the certificate in {certificate} expired on "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}. Renew it."
        )
    return leaf.not_valid_after_utc


class _Encrypted(ValueError):
    """The key asks for a passphrase, and nobody is there to type it."""


def _no_passphrase() -> str:
    raise _Encrypted


def _why(certificate: Path, key: Path, error: OSError | ValueError) -> str:
    if isinstance(error, _Encrypted):
        return f"GATEWAY_TLS_KEY: {key} is encrypted. Write it without a passphrase, for the gateway's user alone."
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"GATEWAY_TLS_KEY: {key} is not the key of the certificate in {certificate}. Was only one renewed?"
    if isinstance(error, PermissionError):
        return f"GATEWAY_TLS_KEY: {barred(key)}"
    return f"GATEWAY_TLS_KEY: {key} cannot be read as a private key in PEM. Does it exist, and may this user read it?"
