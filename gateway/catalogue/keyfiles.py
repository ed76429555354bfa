"""Key files of agencies: JWKS with public keys only, of one instance, strong and named by their thumbprints."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import rfc8785

from gateway.catalogue.reading import Reading, Source, Spot

_REQUIRED = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
STRONG = "Use EC on P-256 or P-384, Ed25519, or RSA of 2048 bits or more."
MIN_RSA_BITS = 2048


class BadKey(ValueError):
    """The JWK is none that the gateway takes. The message says why, never with the key's value."""

    def __init__(self, message: str, remedy: str = STRONG) -> None:
        super().__init__(message)
        self.remedy = remedy


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The key's name (RFC 7638, SHA-256). Raises BadKey where the key lacks what its type needs."""
    needed = _REQUIRED.get(str(jwk.get("kty")))
    if needed is None:
        raise BadKey(f'the key type "{str(jwk.get("kty"))[:20]}" is not taken')
    members = {name: value for name in needed if isinstance(value := jwk.get(name), str)}
    if len(members) < len(needed):
        raise BadKey(f"the key lacks one of {', '.join(needed)}")
    return _base64url(hashlib.sha256(rfc8785.dumps(members)).digest())


def algorithms(jwk: Mapping[str, object]) -> tuple[str, ...]:
    """The signature algorithms that a key may be used with. Raises BadKey for weak, symmetric or unknown keys."""
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", "P-256":
            return ("ES256",)
        case "EC", "P-384":
            return ("ES384",)
        case "OKP", "Ed25519":
            return ("EdDSA",)
        case "RSA", _ if _rsa_bits(jwk) >= MIN_RSA_BITS:
            return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        case "RSA", _:
            raise BadKey(f"the RSA key has fewer than {MIN_RSA_BITS} bits")
        case "oct", _:
            raise BadKey("the key is symmetric: whoever checks with it can also sign")
    raise BadKey("the key's type or curve is not taken")


def hold(jwk: Mapping[str, object]) -> None:
    """Refuse a public key that the gateway does not take. Raises BadKey."""
    if any(name in jwk for name in _PRIVATE) and jwk.get("kty") != "oct":
        raise BadKey("the key has private parts", "Make a new key pair, and put only its public part here.")
    allowed = algorithms(jwk)
    name = thumbprint(jwk)
    if jwk.get("kid") != name:
        raise BadKey('its "kid" is not its thumbprint (RFC 7638)', f'Write "kid": "{name}".')
    if jwk.get("alg") not in allowed:
        raise BadKey('its "alg" is not one of its type', f'Write "alg": "{allowed[-1]}".')
    if jwk.get("use", "sig") != "sig":
        raise BadKey('its "use" is not sig', "Use another key for signatures than for encryption.")
    try:
        jwt.PyJWK.from_dict(dict(jwk))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise BadKey("its numbers make no key") from error


def _rsa_bits(jwk: Mapping[str, object]) -> int:
    modulus = jwk.get("n")
    if not isinstance(modulus, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,3000}", modulus):
        raise BadKey("the RSA key has no modulus")
    try:
        raw = base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))
    except ValueError as error:
        raise BadKey("the RSA key has no modulus") from error
    return int.from_bytes(raw).bit_length()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(slots=True)
class KeyFiles:
    """The agencies' key files of one instance, each read once."""

    reading: Reading
    instance: str
    _read: dict[str, tuple[Mapping[str, object], ...] | None] = field(default_factory=dict)

    def keys(self, name: str, agency: str, spot: Spot) -> tuple[Mapping[str, object], ...] | None:
        """The public keys of a key file that an agency's manifest names, or None after reporting why not."""
        if name.partition(".")[0] != agency:
            remedy = f"Name a key file that begins with {agency}, so that no agency uses another one's keys."
            self.reading.error(spot, f'the key file "{name}" is not of {agency}', remedy)
            return None
        path = self.reading.keys / "agencies" / f"{name}.jwks.json"
        if name not in self._read:
            if not path.is_file():
                remedy = f"Put the public keys into {self.reading.name(path)}, or correct the name."
                self.reading.error(spot, f'the key file "{name}" is missing', remedy)
                return None
            source = self.reading.json(path)
            self._read[name] = None if source is None else self._held(source)
        return self._read[name]

    def _held(self, source: Source) -> tuple[Mapping[str, object], ...] | None:
        value: Any = source.value
        keys = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(keys, list) or not keys:
            self.reading.error(source.at(), "is no JWKS", 'Write {"instance": …, "keys": [at least one public JWK]}.')
            return None
        if value.get("instance") != self.instance:
            remedy = f'Keys are made for one instance: have the agency make new ones for "{self.instance}".'
            message = f'the keys are of another instance than "{self.instance}"'
            self.reading.error(source.at("instance"), message, remedy)
            return None
        good = True
        for number, jwk in enumerate(keys):
            try:
                hold(jwk if isinstance(jwk, dict) else {})
            except BadKey as error:
                self.reading.error(source.at("keys", number), str(error), error.remedy)
                good = False
        return tuple(keys) if good else None
