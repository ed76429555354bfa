"""From a token to a caller: whose keys count, and what the catalogue may take away at any time."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.core.identity import Caller
from gateway.core.model import Catalogue, Issuer, Person, Standing, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.identity import Identity
from gateway.edge.issuers import Jwks
from gateway.edge.keys import Keyring
from tests.fakes import catalogues
from tests.fakes.idp import (
    ISSUER,
    NOW,
    Clock,
    Key,
    Noted,
    Server,
    access_claims,
    assertion_claims,
    fetching,
    hmac_signed,
    key,
    keyring,
    person_claims,
    serving,
)

CLIENT, IDP, STRANGER = key(), key(), key()
IDP_URL = "https://idp.finance.example"
SCOPES = ("population:read", "tax:read")
SHOWN = "S" * 43
"""The thumbprint of a client certificate."""
BOUND = {"x5t#S256": SHOWN}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jwks(authority: trustme.CA, clock: Clock) -> AsyncIterator[Jwks]:
    async with fetching(authority, clock, Noted()) as jwks:
        yield jwks


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[Server]:
    async with serving(authority) as server:
        server.keys = [IDP.public]
        yield server


@pytest.fixture
def identity(ring: Keyring, jwks: Jwks) -> Identity:
    return Identity(ring, ISSUER, jwks)


def named(
    *issuers: Issuer, keys: Iterable[Key] = (CLIENT,), scopes: Iterable[str] = SCOPES, **system: Any
) -> Catalogue:
    """A catalogue of finance with its system, and interior with another."""
    ours = catalogues.system("finance.local_tax", *(each.public for each in keys), scopes=scopes, **system)
    theirs = catalogues.system("interior.civil_registry", scopes=scopes)
    return catalogues.of(
        catalogues.agency("finance", ours, issuers=[each for each in issuers if each.agency == "finance"]),
        catalogues.agency("interior", theirs, issuers=[each for each in issuers if each.agency == "interior"]),
    )


IDP_ENTRY = catalogues.issuer(IDP_URL, "finance", IDP.public)


def own(ring: Keyring, **changes: Any) -> str:
    """An access token as the gateway issues them, as an Authorization header."""
    said = {"iss": ISSUER, "client_key": CLIENT.thumbprint, "scope": " ".join(SCOPES), **changes}
    return "Bearer " + ring.signing.jwt(access_claims(**said), "at+jwt")


def foreign(signer: Key = IDP, **changes: Any) -> str:
    return "Bearer " + signer.sign(access_claims(**changes), typ="at+jwt")


async def refused(
    identity: Identity, header: str, catalogue: Catalogue, now: float = NOW, person: str | None = None
) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await both(identity, header, person, catalogue, now)
    return caught.value


async def both(
    identity: Identity, header: str, person: str | None, catalogue: Catalogue, now: float
) -> tuple[Caller, Person | None]:
    """The system and, where one is asserted, the person; as an exchange asks for them."""
    caller = await identity.caller(header, None, catalogue, now)
    home = catalogue.systems[caller.system].agency
    return caller, await identity.person(person, home, catalogue, now) if person is not None else None


async def test_own_token(identity: Identity, ring: Keyring) -> None:
    """A token of the gateway says who calls, with which scopes, by which key."""
    caller = await identity.caller(own(ring), None, named(), NOW)
    assert caller == Caller(SystemId("finance.local_tax"), frozenset(SCOPES), CLIENT.thumbprint)


async def test_remembered_token_expires(identity: Identity, ring: Keyring) -> None:
    """A token that was verified once is dead at its exp all the same."""
    header = own(ring)
    await identity.caller(header, None, named(), NOW + 599.9)
    assert (await refused(identity, header, named(), NOW + 600)).code == "identity.expired"


async def test_remembered_token_is_read_once(identity: Identity, ring: Keyring) -> None:
    """What a signature proves is remembered, and no more of it than is bounded."""
    small = Identity(ring, ISSUER, identity._jwks, remembered=3)
    for number in range(5):
        await small.caller(own(ring, jti=str(number)), None, named(), NOW)
        await small.caller(own(ring, jti="again"), None, named(), NOW)
    assert len(small._tokens._values) == 3


async def test_forged_signature(identity: Identity, ring: Keyring) -> None:
    """A token in the gateway's name by somebody else's key is refused, whatever kid it bears."""
    claims = access_claims(iss=ISSUER, client_key=CLIENT.thumbprint)
    for kid in (STRANGER.thumbprint, ring.signing.kid):
        forged = "Bearer " + STRANGER.sign(claims, typ="at+jwt", kid=kid)
        assert (await refused(identity, forged, named())).code == "identity.invalid"


async def test_changed_token(identity: Identity, ring: Keyring) -> None:
    """Claims that were changed after signing are refused, also after the good token was remembered."""
    header = own(ring)
    await identity.caller(header, None, named(), NOW)
    head, _, signature = header.split(".")
    changed = ".".join([head, own(ring, scope="everything").split(".")[1], signature])
    assert (await refused(identity, changed, named())).code == "identity.invalid"


async def test_hmac_with_the_published_key(identity: Identity, ring: Keyring) -> None:
    """The gateway's published key is no secret to sign with."""
    header = {"alg": "HS256", "kid": ring.signing.kid, "typ": "at+jwt"}
    forged = hmac_signed(header, access_claims(iss=ISSUER), ring.published[0]["x"].encode())
    assert (await refused(identity, "Bearer " + forged, named())).code == "identity.invalid"


async def test_token_of_another_instance(identity: Identity, ring: Keyring, tmp_path: Path) -> None:
    """A token of another instance is refused: by its issuer, its key, and its audience."""
    other = keyring(tmp_path, "KH")
    token = "Bearer " + other.signing.jwt(access_claims(iss="https://kh.example", client_key="k"), "at+jwt")
    assert (await refused(identity, token, named())).code == "identity.invalid"
    assert (await refused(identity, own(other), named())).code == "identity.invalid"
    assert "audience" in (await refused(identity, own(ring, aud="KH"), named())).detail


async def test_client_assertion_is_no_access_token(identity: Identity) -> None:
    """What proves a client at the token endpoint opens nothing else."""
    sent = "Bearer " + CLIENT.sign(assertion_claims())
    assert (await refused(identity, sent, named())).code == "identity.invalid"


async def test_key_removed_from_the_folder(identity: Identity, ring: Keyring) -> None:
    """Taking a key out of the agency's folder ends its tokens at once, also remembered ones."""
    header = own(ring)
    await identity.caller(header, None, named(), NOW)
    assert (await refused(identity, header, named(keys=[STRANGER]))).code == "identity.revoked"
    assert (await refused(identity, header, named(keys=[]))).code == "identity.revoked"


async def test_system_revoked(identity: Identity, ring: Keyring) -> None:
    """A revoked system is refused at once; a suspended one is left for policy to answer."""
    header = own(ring)
    await identity.caller(header, None, named(), NOW)
    assert (await refused(identity, header, named(standing=Standing.REVOKED))).code == "identity.revoked"
    assert (await identity.caller(header, None, named(standing=Standing.SUSPENDED), NOW)).scopes


async def test_system_removed(identity: Identity, ring: Keyring) -> None:
    """A system that is no longer in any folder is refused."""
    header = own(ring)
    await identity.caller(header, None, named(), NOW)
    assert (await refused(identity, header, catalogues.of())).code == "identity.revoked"


async def test_scope_taken_away(identity: Identity, ring: Keyring) -> None:
    """A scope that the system lost is lost to tokens that still say it."""
    header = own(ring)
    assert (await identity.caller(header, None, named(), NOW)).scopes == frozenset(SCOPES)
    assert (await identity.caller(header, None, named(scopes=["tax:read"]), NOW)).scopes == {"tax:read"}


async def test_foreign_token(identity: Identity) -> None:
    """A token of an issuer that the system's own agency names is taken, without scopes that the system lacks."""
    header = foreign(scope="population:read admin", client_key="forged")
    caller = await identity.caller(header, None, named(IDP_ENTRY), NOW)
    assert (caller.scopes, caller.client_key) == (frozenset(["population:read"]), None)


@pytest.mark.parametrize(
    "entry",
    [
        catalogues.issuer(IDP_URL, "interior", IDP.public),
        catalogues.issuer(IDP_URL, "finance", IDP.public, issues=["persons"]),
        catalogues.issuer(IDP_URL + "/", "finance", IDP.public),
        catalogues.issuer(IDP_URL, "finance", STRANGER.public),
        catalogues.issuer(IDP_URL, "finance", IDP.public, audience="https://gateway.example"),
        catalogues.issuer(IDP_URL, "finance", {**IDP.public, "alg": "HS256"}),
    ],
)
async def test_foreign_token_not_taken(identity: Identity, entry: Issuer) -> None:
    """Another agency's issuer, one for persons, another key or audience: refused, also when once remembered."""
    header = foreign()
    assert (await refused(identity, header, named(entry))).code == "identity.invalid"
    await identity.caller(header, None, named(IDP_ENTRY), NOW)
    assert (await refused(identity, header, named(entry))).code == "identity.invalid"


async def test_issuer_speaks_for_its_own_agency_alone(identity: Identity) -> None:
    """An issuer of finance cannot make a token for a system of interior."""
    header = foreign(sub="interior.civil_registry", client_id="interior.civil_registry")
    assert (await refused(identity, header, named(IDP_ENTRY))).code == "identity.invalid"


async def test_declared_audience(identity: Identity) -> None:
    """An issuer may have an audience of its own for the gateway."""
    entry = catalogues.issuer(IDP_URL, "finance", IDP.public, audience="https://gw")
    caller = await identity.caller(foreign(aud=["https://gw", "other"]), None, named(entry), NOW)
    assert caller.system == "finance.local_tax"


async def test_embedded_key_of_a_stranger(identity: Identity) -> None:
    """A key that comes inside the token, or an address of one, is not even looked at."""
    for extra in ({"jwk": STRANGER.public}, {"jku": "https://evil.example"}, {"x5u": "https://evil.example"}):
        token = STRANGER.sign(access_claims(), typ="at+jwt", **extra)
        assert "is not taken" in (await refused(identity, "Bearer " + token, named(IDP_ENTRY))).detail


async def test_published_keys(identity: Identity, server: Server, jwks: Jwks, clock: Clock) -> None:
    """Keys behind an address are fetched once; a key that its owner withdraws ends remembered tokens too."""
    catalogue = named(catalogues.issuer(IDP_URL, "finance", keys_url=server.url))
    for _ in range(3):
        await identity.caller(foreign(), None, catalogue, NOW)
    header = foreign()
    await identity.caller(header, None, catalogue, NOW)
    assert server.asked == 1
    server.keys = [STRANGER.public]
    clock.now += 301
    await identity.caller(header, None, catalogue, NOW)  # stale: still good, and renewed meanwhile
    for task in tuple(jwks._tasks):
        await task
    assert (await refused(identity, header, catalogue)).code == "identity.invalid"


async def test_published_keys_out_of_reach(identity: Identity, server: Server) -> None:
    """Where nothing can be verified now, nothing is believed, and the refusal says when to try again."""
    server.down = True
    catalogue = named(catalogues.issuer(IDP_URL, "finance", keys_url=server.url))
    refusal = await refused(identity, foreign(), catalogue)
    assert (refusal.code, refusal.retry_after) == ("identity.unavailable", 10.0)


async def test_forged_kids_do_not_reach_the_issuer(identity: Identity, server: Server) -> None:
    """A flood of forged tokens makes one fetch."""
    catalogue = named(catalogues.issuer(IDP_URL, "finance", keys_url=server.url))
    for number in range(50):
        forged = "Bearer " + STRANGER.sign(access_claims(), typ="at+jwt", kid=f"forged-{number}")
        await refused(identity, forged, catalogue)
    assert server.asked == 1


async def test_client_key_behind_an_address(identity: Identity, ring: Keyring, server: Server, jwks: Jwks) -> None:
    """A system's own published key ends its tokens too when the set at hand no longer has it."""
    server.keys = [CLIENT.public]
    catalogue = named(keys=[], keys_url=server.url)
    assert (await identity.caller(own(ring), None, catalogue, NOW)).client_key == CLIENT.thumbprint
    await identity.authenticate(CLIENT.sign(assertion_claims()), catalogue, NOW)
    await identity.caller(own(ring), None, catalogue, NOW)
    other = own(ring, client_key=STRANGER.thumbprint)
    assert (await refused(identity, other, catalogue)).code == "identity.revoked"


async def test_person(identity: Identity, ring: Keyring) -> None:
    """A person is who an issuer of the caller's own agency says; the same assertion may come again until it expires."""
    assertion = IDP.sign(person_claims())
    for _ in range(2):
        _, person = await both(identity, own(ring), assertion, named(IDP_ENTRY), NOW)
        assert person is not None
        assert (person.issuer, person.subject, person.post) == (IDP_URL, "clerk-17", "registrar")
    late = await refused(identity, own(ring, exp=NOW + 900), named(IDP_ENTRY), NOW + 600, assertion)
    assert (late.code, late.detail) == ("identity.expired", "The user assertion has expired.")


@pytest.mark.parametrize(
    "entry",
    [
        catalogues.issuer(IDP_URL, "interior", IDP.public),
        catalogues.issuer(IDP_URL, "finance", IDP.public, issues=["systems"]),
        catalogues.issuer(IDP_URL, "finance", STRANGER.public),
        catalogues.issuer(IDP_URL, "finance", IDP.public, audience="https://gw"),
    ],
)
async def test_person_not_taken(identity: Identity, ring: Keyring, entry: Issuer) -> None:
    """Another agency's issuer, one for systems, another key or audience: refused, also when once remembered."""
    assertion = IDP.sign(person_claims())
    assert (await refused(identity, own(ring), named(entry), person=assertion)).code == "identity.invalid"
    await both(identity, own(ring), assertion, named(IDP_ENTRY), NOW)
    assert (await refused(identity, own(ring), named(entry), person=assertion)).code == "identity.invalid"


@pytest.mark.parametrize("assertion", ["", "x", "é.b.c", "a" * 9000, foreign().removeprefix("Bearer ")])
async def test_no_user_assertion(identity: Identity, ring: Keyring, assertion: str) -> None:
    """What is sent as a user assertion must be one: otherwise the call is refused, not taken as without a person."""
    refusal = await refused(identity, own(ring), named(IDP_ENTRY), person=assertion)
    assert refusal.code == "identity.invalid"
    assert refusal.detail.startswith("The user assertion")


@pytest.mark.parametrize("signer", ["own", "foreign"])
async def test_bound_token(identity: Identity, ring: Keyring, signer: str) -> None:
    """A bound token goes with its certificate alone: also remembered, and when the folder no longer asks for it."""
    header = own(ring, cnf=BOUND) if signer == "own" else foreign(cnf=BOUND)
    for catalogue in (named(IDP_ENTRY, certificate_bound=True), named(IDP_ENTRY)):
        assert (await identity.caller(header, SHOWN, catalogue, NOW)).system == "finance.local_tax"
        for stolen in (None, "T" * 43, SHOWN[:-1]):
            with pytest.raises(Refusal, match="certificate") as caught:
                await identity.caller(header, stolen, catalogue, NOW)
            assert caught.value.code == "identity.invalid"


@pytest.mark.parametrize("header", [foreign(), None])
async def test_binding_asked_for_later(identity: Identity, ring: Keyring, header: str | None) -> None:
    """From the moment at which a folder asks for bound tokens, those that are not bound are over, remembered or not."""
    unbound = header or own(ring)
    await identity.caller(unbound, SHOWN, named(IDP_ENTRY), NOW)
    catalogue = named(IDP_ENTRY, certificate_bound=True)
    for shown in (SHOWN, None):
        with pytest.raises(Refusal, match="bound to no client certificate"):
            await identity.caller(unbound, shown, catalogue, NOW)


async def test_authenticate(identity: Identity) -> None:
    """A client assertion proves a system by one of the keys of its folder."""
    client = await identity.authenticate(CLIENT.sign(assertion_claims(), typ="JWT"), named(), NOW)
    assert (client.system.id, client.key, client.jti) == ("finance.local_tax", CLIENT.thumbprint, "one")


async def test_unknown_client_and_wrong_key_look_alike(identity: Identity) -> None:
    """Nobody learns from the token endpoint which systems exist, or which keys they have."""
    attempts = [
        CLIENT.sign(assertion_claims("finance.unknown")),
        STRANGER.sign(assertion_claims()),
        STRANGER.sign(assertion_claims(), kid=CLIENT.thumbprint),
        CLIENT.sign(assertion_claims("interior.civil_registry")),
    ]
    details = set()
    for attempt in attempts:
        with pytest.raises(Refusal) as caught:
            await identity.authenticate(attempt, named(), NOW)
        details.add((caught.value.code, caught.value.detail))
    assert len(details) == 1


async def test_revoked_client(identity: Identity) -> None:
    """A revoked system gets no token."""
    with pytest.raises(Refusal) as caught:
        await identity.authenticate(CLIENT.sign(assertion_claims()), named(standing=Standing.REVOKED), NOW)
    assert caught.value.code == "identity.revoked"


async def test_reload_with_the_same_words(identity: Identity, jwks: Jwks) -> None:
    """A catalogue that was read again, saying the same, does not make remembered tokens be verified again."""
    header = foreign()
    await identity.caller(header, None, named(IDP_ENTRY), NOW)
    before = next(iter(identity._tokens._values.values()))
    await identity.caller(header, None, named(replace(IDP_ENTRY)), NOW)
    assert next(iter(identity._tokens._values.values())) is before
