"""Tokens and claims, judged as values."""

from typing import Any

import pytest

from gateway.core import identity
from gateway.core.identity import Use
from gateway.core.jwk import ALGORITHMS, BadKey, pinned, thumbprint
from gateway.core.refusal import Refusal
from tests.fakes import catalogues
from tests.fakes.idp import (
    ISSUER,
    NOW,
    Key,
    access_claims,
    assertion_claims,
    hmac_signed,
    key,
    person_claims,
    unsigned,
)

KEY = key()
IDP = "https://idp.finance.example"
SHOWN, OTHER = "S" * 43, "O" * 43
"""Thumbprints of two certificates."""


def refused(token: str, use: Use = Use.CLIENT) -> Refusal:
    with pytest.raises(Refusal) as caught:
        identity.read(token, use)
    assert caught.value.code == "identity.invalid"
    return caught.value


def access(**changes: Any) -> identity.Proof:
    jws = identity.read(KEY.sign(access_claims(**changes), typ="at+jwt"), Use.ACCESS)
    return identity.access_token(jws, issuer=IDP, audience="DEMO", own=False, now=NOW)


def assertion(**changes: Any) -> identity.Assertion:
    jws = identity.read(KEY.sign(assertion_claims(**changes)), Use.CLIENT)
    return identity.client_assertion(jws, audiences=(ISSUER, ISSUER + "/oauth/token"), now=NOW)


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "HS512", "RS384", "ES256K", "", None, 7, ["ES256"]])
def test_algorithm_not_permitted(alg: Any) -> None:
    """A header names one of five asymmetric algorithms, or nothing further is looked at."""
    assert "is not signed with one of" in refused(KEY.sign(assertion_claims(), alg=alg)).detail


def test_alg_none_without_signature() -> None:
    """An unsigned token is refused."""
    refused(unsigned({"alg": "none", "kid": "k"}, assertion_claims()) + ".")


def test_public_key_as_hmac_secret() -> None:
    """A public key is no secret: HMAC is not known here at all."""
    refused(hmac_signed({"alg": "HS256", "kid": KEY.thumbprint}, assertion_claims(), KEY.public["x"].encode()))


@pytest.mark.parametrize("name", ["crit", "jwk", "jku", "x5u", "x5c", "b64"])
def test_header_that_chooses_its_own_key(name: str) -> None:
    """A parameter that would bring a key along, or change how the token is read, is refused by its presence."""
    assert name in refused(KEY.sign(assertion_claims(), **{name: False})).detail


@pytest.mark.parametrize(
    ("use", "typ"),
    [(Use.ACCESS, None), (Use.ACCESS, "JWT"), (Use.CLIENT, "at+jwt"), (Use.PERSON, "at+jwt"), (Use.CLIENT, 3)],
)
def test_typ_of_another_use(use: Use, typ: Any) -> None:
    """One kind of JWT does not pass as another."""
    assert "typ" in refused(KEY.sign(assertion_claims(), typ=typ), use).detail


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT"])
def test_typ_of_access_tokens(typ: str) -> None:
    """Both spellings of RFC 9068 are taken, in any case of letters."""
    assert identity.read(KEY.sign(access_claims(), typ=typ), Use.ACCESS).alg == "ES256"


@pytest.mark.parametrize("kid", [None, "", "k" * 257, 5])
def test_key_not_named(kid: Any) -> None:
    """A token names its key by a short text."""
    assert "kid" in refused(KEY.sign(assertion_claims(), kid=kid)).detail


def test_oversized() -> None:
    """A token beyond 8 KiB is refused before anything is decoded."""
    assert refused("a" * 8193).detail == "The client assertion is larger than 8192 bytes."


def test_deeply_nested_claims() -> None:
    """Claims nested beyond reason are refused as such, not by an exhausted stack."""
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert "nested deeper" in refused(KEY.sign(assertion_claims(extra=deep))).detail


@pytest.mark.parametrize("broken", ["", "a", "a.b", "a.b.c.d.e", "..", "é.b.c", "e30=.e30.e30", "e31.e30.e30"])
def test_no_compact_jwt(broken: str) -> None:
    """Anything but three parts of canonical base64url is refused."""
    refused(broken)


def test_second_spelling_of_a_signature() -> None:
    """The unused bits of the last character must be zero: one token has one spelling, so one digest."""
    token = KEY.sign(assertion_claims())
    spelled = token[:-1] + chr(ord(token[-1]) + 1)
    assert "no base64url" in refused(spelled).detail


def test_duplicate_claim() -> None:
    """A claim given twice is refused: two readers could believe different ones."""
    header = unsigned({"alg": "ES256", "kid": "k"}, {}).split(".")[0]
    assert "same name twice" in refused(f"{header}.eyJhIjoxLCJhIjoyfQ.AAAA").detail


def test_no_token_contents_in_details() -> None:
    """What a refusal says is free of what the token says."""
    secret = "V" * 40
    refusals = [refused(KEY.sign(assertion_claims(), typ=secret)), refused(KEY.sign(assertion_claims(), alg=secret))]
    with pytest.raises(Refusal) as caught:
        access(iss=secret)
    assert not any(secret in refusal.detail for refusal in [*refusals, caught.value])


def test_access_token() -> None:
    """An access token says which system calls, with which scopes, until when."""
    proof = access(scope="a b", client_key="forged")
    assert (proof.system, proof.scopes, proof.client_key) == ("finance.local_tax", frozenset("ab"), None)
    assert (proof.issuer, proof.kid, proof.exp) == (IDP, KEY.thumbprint, NOW + 600)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "client_id", "jti", "iat", "exp"])
def test_access_token_lacks_a_claim(name: str) -> None:
    """Every claim that RFC 9068 requires must be there."""
    with pytest.raises(Refusal) as caught:
        access(**{name: None})
    assert caught.value.code == "identity.invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "KH"},
        {"aud": ["KH", 7]},
        {"aud": {"DEMO": 1}},
        {"iss": IDP + "/"},
        {"sub": "somebody"},
        {"scope": ["a"]},
        {"exp": True},
        {"exp": "1900000000"},
        {"exp": NOW + 90_000},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"nbf": "soon"},
        {"jti": "two\nlines"},
        {"client_id": ["finance.local_tax"]},
    ],
)
def test_access_token_with_a_wrong_claim(changes: dict[str, Any]) -> None:
    """A claim that says something else, or is of another type, is refused."""
    with pytest.raises(Refusal) as caught:
        access(**changes)
    assert caught.value.code == "identity.invalid"


def test_bound_token() -> None:
    """A token may name the one client certificate with which it is used; most name none."""
    assert access().certificate is None
    assert access(cnf=dict(identity.confirmation(SHOWN))).certificate == SHOWN


@pytest.mark.parametrize(
    "cnf",
    [
        {},
        {"jkt": SHOWN},
        {"jwk": KEY.public},
        {"x5t#S256": SHOWN, "jkt": SHOWN},
        {"x5t#S256": [SHOWN]},
        {"x5t#S256": SHOWN[:-1]},
        {"x5t#S256": SHOWN + "="},
        {"x5t#S256": ""},
        {"x5t": SHOWN},
        [SHOWN],
        SHOWN,
        False,
        0,
    ],
)
def test_binding_that_cannot_be_checked(cnf: Any) -> None:
    """A token that is bound in another way, or to more, is refused: passing the binding over would undo it."""
    with pytest.raises(Refusal, match="cnf") as caught:
        access(cnf=cnf)
    assert caught.value.code == "identity.invalid"


def test_binding_to_null() -> None:
    """A cnf that is null is a binding too."""
    jws = identity.read(KEY.sign({**access_claims(), "cnf": None}, typ="at+jwt"), Use.ACCESS)
    with pytest.raises(Refusal, match="cnf"):
        identity.access_token(jws, issuer=IDP, audience="DEMO", own=False, now=NOW)


@pytest.mark.parametrize(
    ("bound_to", "must", "shown", "words"),
    [
        (None, False, None, None),
        (None, False, SHOWN, None),
        (SHOWN, False, SHOWN, None),
        (SHOWN, True, SHOWN, None),
        (SHOWN, False, None, "none was shown"),
        (SHOWN, True, OTHER, "another client certificate"),
        (SHOWN, False, OTHER, "another client certificate"),
        (SHOWN, False, "", "another client certificate"),
        (None, True, None, "bound to no client certificate"),
        (None, True, SHOWN, "bound to no client certificate"),
    ],
)
def test_binding_is_held(bound_to: str | None, must: bool, shown: str | None, words: str | None) -> None:  # noqa: FBT001 - a column of the table
    """A bound token goes with its certificate alone; one that is not bound, with systems that need not be."""
    proof = access(cnf={"x5t#S256": bound_to} if bound_to else None)
    system = catalogues.system("finance.local_tax", certificate_bound=must)
    if words is None:
        identity.hold_binding(proof, system, shown)
        return
    with pytest.raises(Refusal, match=words) as caught:
        identity.hold_binding(proof, system, shown)
    assert caught.value.code == "identity.invalid"


def test_own_access_token_must_name_the_client_key() -> None:
    """A token of the gateway itself says by which key it was got, so that the key can be taken away."""
    jws = identity.read(KEY.sign(access_claims(), typ="at+jwt"), Use.ACCESS)
    with pytest.raises(Refusal):
        identity.access_token(jws, issuer=IDP, audience="DEMO", own=True, now=NOW)


def test_expired_to_the_second() -> None:
    """At exp a token is dead: no leeway."""
    assert access(exp=NOW + 0.5).exp > NOW
    with pytest.raises(Refusal) as caught:
        access(exp=NOW)
    assert caught.value.code == "identity.expired"


def test_clocks_may_differ_a_little() -> None:
    """iat and nbf may lie 30 seconds ahead."""
    assert access(iat=NOW + 30, nbf=NOW + 30).system == "finance.local_tax"


@pytest.mark.parametrize("aud", [ISSUER, ISSUER + "/oauth/token", ["https://other.example", ISSUER]])
def test_client_assertion(aud: Any) -> None:
    """An assertion is for the issuer or its token endpoint."""
    said = assertion(aud=aud)
    assert (said.system, said.jti, said.exp) == ("finance.local_tax", "one", NOW + 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other.system"},
        {"aud": "https://other.example"},
        {"aud": None},
        {"exp": None},
        {"exp": NOW + 331},
        {"jti": None},
        {"jti": "j" * 129},
        {"iat": NOW + 31},
        {"sub": None},
    ],
)
def test_client_assertion_with_a_wrong_claim(changes: dict[str, Any]) -> None:
    """An assertion that says less, or something else, is refused."""
    with pytest.raises(Refusal):
        assertion(**changes)


def test_user_assertion() -> None:
    """A user assertion says who, and of which post, unit and level where it says so."""
    jws = identity.read(KEY.sign(person_claims()), Use.PERSON)
    person, exp = identity.user_assertion(jws, issuer=IDP, audience="DEMO", now=NOW)
    assert (person.issuer, person.subject, person.post, person.unit) == (IDP, "clerk-17", "registrar", None)
    assert exp == NOW + 600


def test_bound_user_assertion() -> None:
    """An assertion about a person that is bound to a key is refused: nothing here would check the key."""
    jws = identity.read(KEY.sign(person_claims(cnf={"x5t#S256": SHOWN})), Use.PERSON)
    with pytest.raises(Refusal, match="cnf"):
        identity.user_assertion(jws, issuer=IDP, audience="DEMO", now=NOW)


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer ", "token"])
def test_no_bearer_token(header: str | None) -> None:
    """No token, or another scheme, is a missing token."""
    with pytest.raises(Refusal) as caught:
        identity.bearer(header)
    assert caught.value.code == "identity.missing"


@pytest.mark.parametrize("header", ["Bearer a b", "Bearer a, Bearer b", "Bearer a,b", "Bearer é", "Bearer \udc80"])
def test_no_single_bearer_token(header: str) -> None:
    """Two tokens in one header, or what is no token, is refused."""
    with pytest.raises(Refusal) as caught:
        identity.bearer(header)
    assert caught.value.code == "identity.invalid"


def test_scheme_in_any_case() -> None:
    """The scheme's name has no case (RFC 9110, section 11.1)."""
    assert identity.bearer("bEARER  abc") == "abc"


def test_two_authorization_headers() -> None:
    """Two headers are refused, whatever they say."""
    assert identity.single([], "Authorization") is None
    assert identity.single(["a"], "Authorization") == "a"
    with pytest.raises(Refusal):
        identity.single(["a", "a"], "Authorization")


def test_thumbprint_of_rfc_7638() -> None:
    """The example of RFC 7638, section 3.1, comes out."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_key_is_pinned(alg: str) -> None:
    """A key is for one algorithm, its own, also where it does not say so."""
    public: dict[str, str] = KEY.public if alg == "ES256" else key(alg).public
    assert pinned(public) == alg
    bare = {name: value for name, value in public.items() if name != "alg"}
    assert pinned(bare) == ("RS256" if alg == "PS256" else alg)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "c2VjcmV0"},
        KEY.private,
        {**KEY.public, "alg": "ES384"},
        {**KEY.public, "alg": "HS256"},
        {**KEY.public, "use": "enc"},
        {**KEY.public, "key_ops": ["encrypt"]},
        {**KEY.public, "crv": "secp256k1"},
        {"kty": "RSA", "alg": "RS1", "n": "AQAB", "e": "AQAB"},
        {"kty": ["EC"], "crv": {}},
    ],
)
def test_key_not_taken(jwk: dict[str, Any]) -> None:
    """Symmetric, private, weak and contradictory keys are none."""
    with pytest.raises(BadKey):
        pinned(jwk)


def test_private_key_has_the_public_thumbprint() -> None:
    """The thumbprint is of the public part alone."""
    assert thumbprint(KEY.private) == thumbprint(Key(KEY.private).public)
