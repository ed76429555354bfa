"""Who calls: from a token, and an assertion about a person, to a caller that the catalogue still knows.

What a signature proves is remembered by the token's digest. What the catalogue says, whether the system is there,
not revoked, still has that key and those scopes, is asked every time; so is the certificate that a token is bound to.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from gateway.core import identity as claims
from gateway.core.identity import Caller, Jws, Proof, Use
from gateway.core.jwk import BadKey, VerifyingKey, verifying_key
from gateway.core.model import AgencyId, Catalogue, Issuer, Person, Standing, System, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.issuers import Jwks, KeysUnavailable
from gateway.edge.keys import Keyring

REMEMBERED = 10_000
"""Verified tokens, and as many assertions about persons, remembered by each process."""

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Client:
    """A system that has proven at the token endpoint that it holds one of its keys."""

    system: System
    key: str
    """The key's RFC 7638 thumbprint."""
    jti: str
    exp: float
    """Until then the ``jti`` must not be taken again."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A verified access token, and what it was verified against."""

    proof: Proof
    by: Issuer | None
    """None: the gateway's own."""
    signer: str
    """Thumbprint of the key that signed it."""


@dataclass(frozen=True, slots=True)
class _Asserted:
    """A verified user assertion, and what it was verified against."""

    person: Person
    exp: float
    by: Issuer
    signer: str


class _Recent(Generic[_V]):
    """The values used last, by digest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[bytes, _V] = OrderedDict()

    def get(self, digest: bytes) -> _V | None:
        value = self._values.get(digest)
        if value is not None:
            self._values.move_to_end(digest)
        return value

    def put(self, digest: bytes, value: _V) -> None:
        self._values[digest] = value
        self._values.move_to_end(digest)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


class Identity:
    """Verifies tokens and assertions."""

    def __init__(self, keyring: Keyring, issuer: str, jwks: Jwks, *, remembered: int = REMEMBERED) -> None:
        """``issuer`` is the gateway's own issuer URL."""
        self._keyring = keyring
        self._issuer = issuer
        self._jwks = jwks
        self._tokens: _Recent[_Token] = _Recent(remembered)
        self._persons: _Recent[_Asserted] = _Recent(remembered)

    async def caller(
        self, authorization: str | None, certificate: str | None, catalogue: Catalogue, now: float
    ) -> Caller:
        """Which system calls, by the value of Authorization and the client certificate. ``now`` in epoch seconds.

        Raises Refusal ``identity.*``; ``identity.unavailable`` where another party's keys cannot be had now.
        """
        text = claims.bearer(authorization)
        digest = sha256(text.encode()).digest()
        token = self._tokens.get(digest)
        if token is None or not self._stands(token, catalogue):
            token = await self._verified(text, catalogue, now)
            self._tokens.put(digest, token)
        proof = token.proof
        if proof.exp <= now:
            raise claims.expired(Use.ACCESS)
        system = self._present(proof, catalogue)
        claims.hold_binding(proof, system, certificate)
        return Caller(proof.system, proof.scopes & system.scopes, proof.client_key)

    async def authenticate(self, assertion: str, catalogue: Catalogue, now: float) -> Client:
        """The client behind a client assertion (RFC 7523). Its ``jti`` is for the token endpoint to remember.

        Raises Refusal as ``caller`` does. Unknown systems, unknown keys and wrong signatures are told apart to nobody.
        """
        jws = claims.read(assertion, Use.CLIENT)
        system = catalogue.systems.get(SystemId(str(jws.claims.get("sub"))))
        key = await self._key(system.keys, system.keys_url, jws.kid) if system else None
        if system is None or key is None or not key.made(jws.alg, jws.signed, jws.signature):
            raise _unproven(Use.CLIENT, "the folder of the client's agency")
        audiences = (self._issuer, token_endpoint(self._issuer))
        said = claims.client_assertion(jws, audiences=audiences, now=now)
        _hold_standing(system)
        return Client(system, key.thumbprint, said.jti, said.exp)

    def _present(self, proof: Proof, catalogue: Catalogue) -> System:
        """The system as it stands now, having still the key by which it got the token."""
        system = catalogue.systems.get(proof.system)
        if system is None:
            raise Refusal("identity.revoked", f"The system {proof.system} is no longer registered.")
        _hold_standing(system)
        key = proof.client_key
        if key is None:
            return system
        if system.keys_url is None:
            held = key in system.thumbprints
        else:
            # None, nothing fetched by this process yet, is no reason to doubt a token that lives ten minutes.
            held = self._jwks.lists(system.keys_url, key) is not False
        if not held:
            raise Refusal(
                "identity.revoked",
                f"The key by which {proof.system} got its token is no longer among its keys.",
                agency=system.agency,
            )
        return system

    def _stands(self, token: _Token, catalogue: Catalogue) -> bool:
        """Whether what was verified may be relied on: the issuer is still named, in the same words, with that key."""
        if token.by is None:
            return True
        system = catalogue.systems.get(token.proof.system)
        issuer = _named(catalogue, system.agency, token.proof.issuer, Use.ACCESS) if system else None
        return issuer == token.by and self._listed(token.by, token.signer)

    def _listed(self, issuer: Issuer, signer: str) -> bool:
        # Keys in the folder are part of the issuer, which was compared; those behind an address change by themselves.
        return issuer.keys_url is None or self._jwks.lists(issuer.keys_url, signer) is True

    async def _verified(self, text: str, catalogue: Catalogue, now: float) -> _Token:
        jws = claims.read(text, Use.ACCESS)
        instance = self._keyring.instance
        if jws.claims.get("iss") == self._issuer:
            own = _proven(self._keyring.verifying.get(jws.kid), jws, "the gateway")
            proof = claims.access_token(jws, issuer=self._issuer, audience=instance, own=True, now=now)
            return _Token(proof, None, own.thumbprint)
        system = catalogue.systems.get(SystemId(str(jws.claims.get("client_id"))))
        issuer = _named(catalogue, system.agency, jws.claims.get("iss"), Use.ACCESS) if system else None
        if issuer is None:
            raise _unproven(Use.ACCESS, "the gateway or an issuer that the system's own agency names")
        key = _proven(await self._key(issuer.keys, issuer.keys_url, jws.kid), jws, "its issuer")
        audience = issuer.audience or instance
        proof = claims.access_token(jws, issuer=issuer.issuer, audience=audience, own=False, now=now)
        return _Token(proof, issuer, key.thumbprint)

    async def person(self, text: str, agency: AgencyId, catalogue: Catalogue, now: float) -> Person:
        """The person of an Exchange-User-Assertion, by an issuer that the caller's own agency names.

        Raises Refusal as ``caller`` does.
        """
        claims.bound(text, Use.PERSON)
        digest = sha256(text.encode()).digest()
        known = self._persons.get(digest)
        if known is not None:
            named = _named(catalogue, agency, known.person.issuer, Use.PERSON)
            if named == known.by and self._listed(known.by, known.signer):
                if known.exp <= now:
                    raise claims.expired(Use.PERSON)
                return known.person
        jws = claims.read(text, Use.PERSON)
        issuer = _named(catalogue, agency, jws.claims.get("iss"), Use.PERSON)
        if issuer is None:
            raise _unproven(Use.PERSON, "an issuer that the calling system's own agency names for persons")
        key = _proven(await self._key(issuer.keys, issuer.keys_url, jws.kid), jws, "its issuer")
        audience = issuer.audience or self._keyring.instance
        person, exp = claims.user_assertion(jws, issuer=issuer.issuer, audience=audience, now=now)
        self._persons.put(digest, _Asserted(person, exp, issuer, key.thumbprint))
        return person

    async def _key(self, keys: tuple[Mapping[str, object], ...], address: str | None, kid: str) -> VerifyingKey | None:
        """The key that the catalogue, or the address that it names, has under this kid."""
        if address is None:
            return next((key for key in map(_parsed, keys) if key is not None and key.kid == kid), None)
        try:
            return await self._jwks.key(address, kid)
        except KeysUnavailable as fault:
            raise Refusal(
                "identity.unavailable",
                "The published keys of the signer cannot be fetched now, so that nothing can be verified.",
                retry_after=fault.retry_after,
            ) from fault


def token_endpoint(issuer: str) -> str:
    """The address of the gateway's token endpoint."""
    return issuer.rstrip("/") + "/oauth/token"


def _parsed(jwk: Mapping[str, object]) -> VerifyingKey | None:
    try:
        return verifying_key(jwk)
    except BadKey:  # the catalogue's checks tell people; here it is simply no key
        return None


def _named(catalogue: Catalogue, agency: AgencyId, issuer: object, use: Use) -> Issuer | None:
    """The entry of that issuer in the agency's own folder, for that use."""
    home = catalogue.agencies.get(agency)
    for entry in home.issuers if home else ():
        if entry.issuer == issuer and (entry.persons if use is Use.PERSON else entry.systems):
            return entry
    return None


def _proven(key: VerifyingKey | None, jws: Jws, by: str) -> VerifyingKey:
    if key is None or not key.made(jws.alg, jws.signed, jws.signature):
        raise _unproven(jws.use, by)
    return key


def _unproven(use: Use, by: str) -> Refusal:
    return Refusal("identity.invalid", f"The {use} is not signed by a key of {by}.")


def _hold_standing(system: System) -> None:
    # A suspension is policy's to tell: it names who can lift it.
    if system.standing is Standing.REVOKED:
        raise Refusal("identity.revoked", f"The system {system.id} was revoked.", agency=system.agency)
