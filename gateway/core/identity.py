"""Who calls: what a token must look like, and what its claims must say, before anybody is believed.

Everything here is decided from values: the text of a token, its claims, and the exchange's own time. Signatures are
checked in ``edge/identity``, with a key that the catalogue names; nothing in a token ever says where to find one.

Time: ``exp`` has no leeway anywhere, a token is dead at that second. ``iat`` and ``nbf`` have ``LEEWAY``, because the
clocks of agencies, and of nodes, differ a little.
"""

import base64
import binascii
import hmac
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.jwk import ALGORITHMS
from gateway.core.model import Person, System, SystemId
from gateway.core.refusal import Refusal
from gateway.core.shape import Malformed, parse

MAX_TOKEN = 8192
"""Bytes of a token or assertion."""
LEEWAY = 30.0
"""Seconds that ``iat`` and ``nbf`` may lie ahead."""
ASSERTION_LIFE = 300.0
"""Seconds that a client assertion's ``exp`` may lie ahead, plus LEEWAY; so long its ``jti`` is remembered."""
FOREIGN_LIFE = 86_400.0
"""Seconds that ``exp`` of another issuer's token or user assertion may lie ahead, plus LEEWAY."""
MAX_JTI = 128
MAX_TEXT = 256
"""Characters of a ``sub``, ``kid`` and other claims that are kept."""

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_BY_CERTIFICATE = "x5t#S256"
_DIGEST = re.compile(r"[A-Za-z0-9_-]{43}")
# Each would let the token choose the key, or the way it is read (RFC 8725, sections 3.5 and 3.10; RFC 7797).
_REFUSED_HEADERS = ("crit", "jwk", "jku", "x5u", "x5c", "b64")


class Use(StrEnum):
    """What a JWT is sent as. The value is its name in sentences."""

    ACCESS = "access token"
    CLIENT = "client assertion"
    PERSON = "user assertion"


# Explicit typing keeps one kind of JWT from passing as another (RFC 8725, section 3.11; RFC 9068, section 2.1).
_TYPES: Mapping[Use, tuple[str, ...]] = {
    Use.ACCESS: ("at+jwt",),
    Use.CLIENT: ("", "jwt", "client-authentication+jwt"),
    Use.PERSON: ("", "jwt"),
}


@dataclass(frozen=True, slots=True)
class Jws:
    """A signed JWT, read and well-formed; its signature is not yet checked."""

    use: Use
    alg: str
    kid: str
    claims: Mapping[str, object]
    signed: bytes
    """What the signature is over."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verified access token proves for as long as it lives; everything else is asked of the catalogue."""

    system: SystemId
    scopes: frozenset[str]
    client_key: str | None
    """RFC 7638 thumbprint of the key by which the client got it; None for other issuers' tokens."""
    certificate: str | None
    """``x5t#S256`` of the only client certificate with which it may be used (RFC 8705); None: it is not bound."""
    issuer: str
    kid: str
    exp: float


@dataclass(frozen=True, slots=True)
class Assertion:
    """What the claims of a client assertion say (RFC 7523)."""

    system: SystemId
    jti: str
    exp: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, now."""

    system: SystemId
    scopes: frozenset[str]
    """Of the token, as far as the system still has them."""
    client_key: str | None


def single(values: Sequence[str], header: str) -> str | None:
    """The one value of a header, or None. Two would let two readers see two callers."""
    if len(values) > 1:
        raise Refusal("identity.invalid", f"The request has more than one {header} header.")
    return values[0] if values else None


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750, section 2.1)."""
    if not authorization:
        raise Refusal("identity.missing", "The request has no Authorization header.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal("identity.missing", "The Authorization header is not of the scheme Bearer.")
    token = token.strip(" ")
    if not token:
        raise Refusal("identity.missing", "The Authorization header has no token.")
    if " " in token or "," in token:
        raise Refusal("identity.invalid", "The Authorization header has more than one token.")
    bound(token, Use.ACCESS)
    return token


def bound(token: str, use: Use) -> None:
    """Hold the size, before anything is computed over the token."""
    if len(token) > MAX_TOKEN:
        raise _invalid(use, f"is larger than {MAX_TOKEN} bytes")
    if not token.isascii():
        raise _invalid(use, "is no signed JWT in compact form")


def read(token: str, use: Use) -> Jws:
    """The parts of a signed JWT in compact form, its header held to what is permitted (RFC 7515, RFC 8725)."""
    bound(token, use)
    segments = token.split(".")
    if len(segments) != 3:
        raise _invalid(use, "is no signed JWT in compact form")
    header = _json(segments[0], use, "header")
    alg, kid = _header(header, use)
    claims = _json(segments[1], use, "payload")
    signature = _decode(segments[2], use, "signature")
    return Jws(use, alg, kid, claims, f"{segments[0]}.{segments[1]}".encode("ascii"), signature)


def access_token(jws: Jws, *, issuer: str, audience: str, own: bool, now: float) -> Proof:
    """What an access token says (RFC 9068), its signature being good. ``own``: the gateway issued it."""
    use, claims = jws.use, jws.claims
    _issued(use, claims, issuer, (audience,))
    exp = _timely(use, claims, now, FOREIGN_LIFE)
    _instant(use, claims, "iat")
    _text(use, claims, "jti")
    client = _text(use, claims, "client_id")
    if _text(use, claims, "sub") != client:
        raise _invalid(use, "does not stand for a system: its sub is not its client_id")
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise _invalid(use, "has a scope that is no text")
    client_key = _text(use, claims, "client_key") if own else None
    bound_to = _confirmation(use, claims)
    return Proof(SystemId(client), frozenset(scope.split()), client_key, bound_to, issuer, jws.kid, exp)


def confirmation(certificate: str) -> Mapping[str, str]:
    """The claim ``cnf`` that binds a token to that client certificate (RFC 8705, section 3.1)."""
    return {_BY_CERTIFICATE: certificate}


def hold_binding(proof: Proof, system: System, certificate: str | None) -> None:
    """Let a token pass that is used with the certificate it is bound to, or is bound to none and need not be.

    ``certificate`` is the one that was shown with this request. Raises Refusal ``identity.invalid``: a token got anew
    cures it, nothing was revoked.
    """
    if proof.certificate is None:
        if system.certificate_bound:
            raise _invalid(
                Use.ACCESS,
                f"is bound to no client certificate, and those of {system.id} must be: get one over a connection that "
                "shows its certificate, and use it over such a one",
            )
        return
    if certificate is None:
        raise _invalid(Use.ACCESS, "is bound to a client certificate, and none was shown with this request")
    if not hmac.compare_digest(proof.certificate, certificate):
        raise _invalid(Use.ACCESS, "is bound to another client certificate than the one shown with this request")


def client_assertion(jws: Jws, *, audiences: Sequence[str], now: float) -> Assertion:
    """What a client assertion says (RFC 7523, section 3), its signature being good."""
    use, claims = jws.use, jws.claims
    client = _text(use, claims, "sub")
    _issued(use, claims, client, audiences)
    exp = _timely(use, claims, now, ASSERTION_LIFE)
    return Assertion(SystemId(client), _text(use, claims, "jti", MAX_JTI), exp)


def user_assertion(jws: Jws, *, issuer: str, audience: str, now: float) -> tuple[Person, float]:
    """The person that a user assertion speaks of, and until when; its signature being good (DESIGN section 8)."""
    use, claims = jws.use, jws.claims
    _issued(use, claims, issuer, (audience,))
    exp = _timely(use, claims, now, FOREIGN_LIFE)
    if "cnf" in claims:
        raise _invalid(use, "is bound to a key by its cnf, which is not taken here")
    post, unit, level = (_text(use, claims, name) if name in claims else None for name in ("post", "unit", "level"))
    return Person(issuer, _text(use, claims, "sub"), post, unit, level), exp


def expired(use: Use) -> Refusal:
    """The refusal of what was good until now."""
    return Refusal("identity.expired", f"The {use} has expired.")


def _invalid(use: Use, what: str) -> Refusal:
    return Refusal("identity.invalid", f"The {use} {what}.")


def _decode(segment: str, use: Use, part: str) -> bytes:
    """Base64url without padding; only the one canonical form, so that one token has one digest (RFC 7515)."""
    broken = _invalid(use, f"has a {part} that is no base64url")
    if not _SEGMENT.fullmatch(segment):
        raise broken
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise broken from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != segment:
        raise broken
    return raw


def _json(segment: str, use: Use, part: str) -> Mapping[str, object]:
    try:
        value = parse(_decode(segment, use, part))
    except Malformed as error:
        raise _invalid(use, f"has a {part} that the gateway does not read: {error}") from error
    if not isinstance(value, dict):
        raise _invalid(use, f"has a {part} that is no JSON object")
    return value


def _header(header: Mapping[str, object], use: Use) -> tuple[str, str]:
    for name in _REFUSED_HEADERS:
        if name in header:
            raise _invalid(use, f"has the header parameter {name}, which is not taken")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise _invalid(use, f"is not signed with one of {', '.join(ALGORITHMS)}")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES[use]:
        wanted = " or ".join(name for name in _TYPES[use] if name)
        raise _invalid(use, f"has another typ in its header than {wanted}")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_TEXT:
        raise _invalid(use, "does not name its key by a kid in its header")
    return alg, kid


def _text(use: Use, claims: Mapping[str, object], name: str, limit: int = MAX_TEXT) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise _invalid(use, f"has no claim {name} that is a text of at most {limit} printable characters")
    return value


def _confirmation(use: Use, claims: Mapping[str, object]) -> str | None:
    """The certificate that a token is bound to. A binding that cannot be checked is refused, not passed over."""
    if "cnf" not in claims:
        return None
    cnf = claims["cnf"]
    digest = cnf.get(_BY_CERTIFICATE) if isinstance(cnf, dict) and len(cnf) == 1 else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _invalid(use, f"is bound by a cnf that is not taken; it must be {_BY_CERTIFICATE} of a certificate alone")
    return digest


def _instant(use: Use, claims: Mapping[str, object], name: str) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _invalid(use, f"has no claim {name} that is a number of seconds")
    return float(value)


def _issued(use: Use, claims: Mapping[str, object], issuer: str, audiences: Sequence[str]) -> None:
    if claims.get("iss") != issuer:
        raise _invalid(use, "is not of the issuer that it must have")
    given = claims.get("aud")
    named = given if isinstance(given, list) else [given]
    if not any(isinstance(name, str) and name in audiences for name in named):
        raise _invalid(use, "is meant for another audience; its aud must be " + " or ".join(audiences))


def _timely(use: Use, claims: Mapping[str, object], now: float, life: float) -> float:
    exp = _instant(use, claims, "exp")
    if exp <= now:
        raise expired(use)
    if exp > now + life + LEEWAY:
        raise _invalid(use, f"lives longer than {life:.0f} seconds")
    for name in ("nbf", "iat"):
        if name in claims and _instant(use, claims, name) > now + LEEWAY:
            raise _invalid(use, f"is not valid yet, by its {name}")
    return exp
