"""Keys as JWKs (RFC 7517): which are taken, by what name, and for which one algorithm.

The same rules hold for the files in an agency's folder, for JWKS behind an address, and for the gateway's own.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
"""Asymmetric ones only (RFC 8725, section 3.1)."""
MAX_KID = 256
"""Characters."""

_KNOWN: Mapping[str, Algorithm] = {
    name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS
}


class BadKey(ValueError):
    """A JWK that the gateway does not take. The message says why, without the key."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, pinned to one algorithm."""

    kid: str
    alg: str
    thumbprint: str
    key: Any = field(repr=False)

    def made(self, alg: str, signed: bytes, signature: bytes) -> bool:
        """Whether this key made the signature. The ``alg`` that a token says must be the key's own."""
        return alg == self.alg and _KNOWN[self.alg].verify(signed, self.key, signature)


_CURVES = {("EC", "P-256"): "ES256", ("EC", "P-384"): "ES384", ("OKP", "Ed25519"): "EdDSA"}
_RSA = ("RS256", "PS256")
_PUBLIC_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


def pinned(jwk: Mapping[str, object]) -> str:
    """The one algorithm for which a public JWK is taken (RFC 8725, section 3.1). Raises BadKey."""
    kty = jwk.get("kty")
    if any(member in jwk for member in _PRIVATE_MEMBERS):
        raise BadKey("it holds private or symmetric key material; publish the public key alone, and replace this one")
    if jwk.get("use", "sig") != "sig":
        raise BadKey("its use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list | tuple) or "verify" not in operations:
        raise BadKey("its key_ops do not have verify")
    alg = jwk.get("alg")
    if kty == "RSA" and alg in (None, *_RSA):
        return str(alg or _RSA[0])
    derived = _CURVES.get((str(kty), str(jwk.get("crv"))))
    if derived is None or alg not in (None, derived):
        raise BadKey("it is none of EC P-256 (ES256), EC P-384 (ES384), Ed25519 (EdDSA) and RSA (RS256, PS256)")
    return derived


def public_part(jwk: Mapping[str, object]) -> dict[str, str]:
    """The members that make the public key, and no other. Raises BadKey."""
    members = {name: jwk.get(name) for name in _PUBLIC_MEMBERS.get(str(jwk.get("kty")), ())}
    part = {name: value for name, value in members.items() if isinstance(value, str)}
    if not members or len(part) != len(members):
        raise BadKey("it lacks a member that its kty must have")
    return part


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The RFC 7638 thumbprint (SHA-256, base64url) of a public or private JWK. Raises BadKey."""
    canonical = json.dumps(public_part(jwk), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def verifying_key(jwk: Mapping[str, object]) -> VerifyingKey:
    """The key of a public JWK; without a ``kid`` it goes by its thumbprint. Raises BadKey."""
    alg = pinned(jwk)
    part = public_part(jwk)
    try:
        key = _KNOWN[alg].from_jwk(dict(part))
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise BadKey("its members make no key of its kty") from error
    if isinstance(key, RSAPublicKey) and not _moderate(key):
        raise BadKey("an RSA key must have 2048 to 8192 bits and an exponent between 2^16 and 2^32")
    digest = thumbprint(part)
    kid = jwk.get("kid", digest)
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        raise BadKey(f"its kid is no text of at most {MAX_KID} characters")
    return VerifyingKey(kid, alg, digest, key)


def _moderate(key: RSAPublicKey) -> bool:
    """Strong enough, and not so large that each check is slow: a JWKS is other people's input."""
    return 2048 <= key.key_size <= 8192 and 2**16 < key.public_numbers().e < 2**32


def private_key(jwk: Mapping[str, object], alg: str) -> Any:
    """The private key of a JWK, for one algorithm. Raises BadKey."""
    part = public_part(jwk)
    try:
        return _KNOWN[alg].from_jwk({**part, "d": jwk.get("d")})
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise BadKey("its members make no private key") from error


def signature(key: Any, alg: str, text: bytes) -> bytes:
    """The signature of a private key over some bytes (RFC 7515, section 5.1)."""
    made: bytes = _KNOWN[alg].sign(text, key)
    return made


def signing(key: Any, alg: str) -> Callable[[bytes], bytes]:
    """``signature`` by one key, for whoever signs thousands a second."""
    if alg != "ES256":
        return partial(_KNOWN[alg].sign, key=key)
    by = ECDSA(SHA256())

    def sign(text: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(text, by))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 7518, section 3.4

    return sign
