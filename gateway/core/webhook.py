"""Standard Webhooks: what is signed, by whom, and how it is written into headers (standardwebhooks.com, version 1).

``v1`` is HMAC-SHA-256 with a secret that both sides hold (``whsec_``), ``v1a`` is Ed25519 with the gateway's own key,
whose public half (``whpk_``) everybody may have. While keys change, old and new ones all sign.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SECRET = "whsec_"  # noqa: S105 - the prefix of every secret
PUBLIC = "whpk_"
LEAST_SECRET = 24
MOST_SECRET = 64
"""Bytes of a secret, as the specification has them."""
MAX_KEYS = 8
"""Secrets of one address, and keys of the gateway: more than two are a change that nobody finished."""


def content(message: str, timestamp: int, body: bytes) -> bytes:
    """What is signed. ``message`` has no full stop: with one, two messages could have the same content."""
    return f"{message}.{timestamp}.".encode() + body


def headers(
    message: str, timestamp: int, body: bytes, *, secrets: Sequence[bytes], keys: Sequence[Ed25519PrivateKey]
) -> Mapping[str, str]:
    """The three headers of one attempt; ``timestamp`` is the attempt's, in seconds since 1970."""
    signed = content(message, timestamp, body)
    made = [f"v1a,{_text(key.sign(signed))}" for key in keys]
    made += [f"v1,{_text(hmac.digest(secret, signed, 'sha256'))}" for secret in secrets]
    return {"webhook-id": message, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(made)}


def secrets(text: str) -> tuple[bytes, ...]:
    """The secrets of one address, a line each. Raises ValueError, without the secret."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 0 < len(lines) <= MAX_KEYS:
        raise ValueError(f"must have one secret in a line, and at most {MAX_KEYS}")
    return tuple(_secret(line) for line in lines)


def _secret(line: str) -> bytes:
    try:
        secret = base64.b64decode(line.removeprefix(SECRET), validate=True)
    except ValueError:
        secret = b""
    if not line.startswith(SECRET) or not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        raise ValueError(f"must be {SECRET} and {LEAST_SECRET} to {MOST_SECRET} random bytes in base64 in each line")
    return secret


def public(key: Ed25519PublicKey) -> str:
    """The key as those who verify ``v1a`` are told it."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PUBLIC + _text(raw)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
