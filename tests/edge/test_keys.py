"""The keys folder: what is read, what is refused, and what the keys do."""

import base64
import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.core import identity
from gateway.core.identity import Use
from gateway.core.jwk import ALGORITHMS, BadKey, thumbprint, verifying_key
from gateway.edge import keys
from gateway.edge.keys import BadKeys, NotOpened
from tests.fakes.idp import Key, access_claims, key, keyring


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good keys folder of the instance KH."""
    keyring(tmp_path, "KH")
    return tmp_path


def change(path: Path, **members: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def test_made_and_read(folder: Path) -> None:
    """What the commands make is what the gateway reads, and what it signs it verifies."""
    ring = keys.read(folder, "KH")
    jws = identity.read(ring.signing.jwt(access_claims(), "at+jwt"), Use.ACCESS)
    assert ring.verifying[jws.kid].made(jws.alg, jws.signed, jws.signature)
    assert jws.kid == thumbprint(ring.published[0])
    assert [set(jwk) for jwk in ring.published] == [{"crv", "kty", "x", "y", "kid", "alg", "use"}]


def test_older_keys_are_published_and_verify(folder: Path) -> None:
    """A signing key that was replaced still verifies, and still shows in the JWKS, after the present one."""
    older = keys.new_signing_key("KH")
    keys.save(folder / "gateway/signing.2026-01.jwk.json", older)
    ring = keys.read(folder, "KH")
    assert older["kid"] in ring.verifying
    assert [jwk["kid"] for jwk in ring.published] == [ring.signing.kid, older["kid"]]


def token(ring: keys.Keyring) -> identity.Jws:
    return identity.read(ring.signing.jwt(access_claims(), "at+jwt"), Use.ACCESS)


def takes(ring: keys.Keyring, jws: identity.Jws) -> bool:
    return jws.kid in ring.verifying and ring.verifying[jws.kid].made(jws.alg, jws.signed, jws.signature)


def test_two_nodes_change_their_key_and_take_each_others_tokens(tmp_path: Path) -> None:
    """The three documented steps: whichever node has restarted already, each takes every token that may still live."""
    homes = [tmp_path / name / "gateway" for name in ("a", "b")]
    keyring(tmp_path / "a", "KH")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    coming = keys.new_signing_key("KH")
    rings = [keys.read(home.parent, "KH") for home in homes]
    tokens = [token(ring) for ring in rings]
    steps: list[Callable[[Path], object]] = [
        lambda home: keys.save(home / "signing.next.jwk.json", coming),
        lambda home: [
            (home / "signing.jwk.json").rename(home / "signing.old.jwk.json"),
            (home / "signing.next.jwk.json").rename(home / "signing.jwk.json"),
        ],
    ]
    for step in steps:
        for node, home in enumerate(homes):
            step(home)
            rings[node] = keys.read(home.parent, "KH")
            tokens += [token(ring) for ring in rings]
            assert all(takes(ring, jws) for ring in rings for jws in tokens)
    for node, home in enumerate(homes):  # ten minutes later
        (home / "signing.old.jwk.json").unlink()
        rings[node] = keys.read(home.parent, "KH")
    assert {jws.kid for jws in tokens[-2:]} == {coming["kid"]}
    assert [[takes(ring, tokens[0]), takes(ring, tokens[-1])] for ring in rings] == [[False, True]] * 2


@contextlib.contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """As somebody without any rights, who may reach the folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    modes = {each: each.stat().st_mode for each in (folder, *folder.parents)}
    for each, mode in modes.items():
        each.chmod(mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for each, mode in modes.items():
            each.chmod(mode)


@pytest.mark.parametrize(
    ("barred", "mode", "remedy"),
    [("gateway/signing.jwk.json", 0o755, "640"), ("gateway", 0o700, "750"), ("gateway", 0o711, "750")],
)
def test_whoever_may_not_read_is_named(folder: Path, barred: str, mode: int, remedy: str) -> None:
    """Keys that another user made: who may not read what, and how to let them in; nothing of making a key."""
    (folder / "gateway").chmod(mode)
    if mode == 0o711:  # a folder that may be entered and not be listed hides the keys that verify
        os.chown(folder / "gateway/signing.jwk.json", 65534, 65534)
    with nobody(folder), pytest.raises(BadKeys) as caught:
        keys.read(folder, "KH")
    path = re.escape(str(folder / barred))
    said = rf"may not be read by the user nobody, who runs this: chgrp \w+ {path} and chmod {remedy} {path}"
    assert re.search(f"{said}$", str(caught.value))
    assert "make it" not in str(caught.value)


def test_ed25519_signs(folder: Path) -> None:
    """An Ed25519 key may sign."""
    own = key("EdDSA")
    (folder / "gateway/signing.jwk.json").unlink()
    keys.save(folder / "gateway/signing.jwk.json", {**own.private, "kid": own.thumbprint, "instance": "KH"})
    ring = keys.read(folder, "KH")
    jws = identity.read(ring.signing.jwt({}, "at+jwt"), Use.ACCESS)
    assert ring.verifying[jws.kid].made(jws.alg, jws.signed, jws.signature)


@pytest.mark.parametrize("name", ["signing.jwk.json", "signing.old.jwk.json", "master.key.json"])
def test_key_of_another_instance(folder: Path, name: str) -> None:
    """A key of another instance is refused, whichever it is."""
    path = folder / "gateway" / name
    path.unlink(missing_ok=True)
    made = keys.new_master_key("DEMO") if name.startswith("master") else keys.new_signing_key("DEMO")
    keys.save(path, made)
    with pytest.raises(BadKeys, match="another instance than KH"):
        keys.read(folder, "KH")


@pytest.mark.parametrize(
    ("name", "break_it", "words"),
    [
        ("signing.jwk.json", lambda path: path.unlink(), "make it with gateway keys gateway"),
        ("signing.jwk.json", lambda path: (path.unlink(), path.mkdir()), r"\(Is a directory\): correct it"),
        ("signing.jwk.json", lambda path: path.write_text("{"), "is no JSON"),
        ("signing.jwk.json", lambda path: path.write_text("[]"), "no JSON object"),
        ("signing.jwk.json", lambda path: change(path, kid="other"), "thumbprint"),
        ("signing.jwk.json", lambda path: change(path, d=None), "no private key"),
        ("signing.jwk.json", lambda path: change(path, d="AAAA"), "no private key"),
        ("signing.jwk.json", lambda path: change(path, x=key().public["x"]), "no private key"),
        ("signing.jwk.json", lambda path: change(path, alg="RS256"), "no signing key"),
        ("signing.jwk.json", lambda path: change(path, **key("ES384").private), "must be a key for ES256 or EdDSA"),
        ("master.key.json", lambda path: change(path, key="AAAA"), "32 bytes"),
        ("master.key.json", lambda path: change(path, key=None), "32 bytes"),
        ("signing.jwk.json", lambda path: path.chmod(0o644), "chmod 600"),
        ("master.key.json", lambda path: path.chmod(0o660), "chmod 600"),
        ("signing.jwk.json", lambda path: (path.parent.parent / "private").mkdir(), "private keys of agencies"),
    ],
)
def test_bad_folder(folder: Path, name: str, break_it: Callable[[Path], object], words: str) -> None:
    """Whatever is wrong stops the start, with the file, and without anything of a key."""
    secret = json.loads((folder / "gateway/signing.jwk.json").read_text())["d"]
    break_it(folder / "gateway" / name)
    with pytest.raises(BadKeys, match=words) as caught:
        keys.read(folder, "KH")
    assert str(folder) in str(caught.value)
    assert secret not in str(caught.value)


def test_demo_keys_may_be_open(tmp_path: Path) -> None:
    """The demonstration's keys lie in a repository: anybody may read them."""
    keyring(tmp_path)
    (tmp_path / "private").mkdir()
    (tmp_path / "gateway/signing.jwk.json").chmod(0o664)
    assert keys.read(tmp_path, "DEMO").instance == "DEMO"


def test_saved_for_the_owner_alone(folder: Path) -> None:
    """A key file is made for its owner, and is never overwritten."""
    path = folder / "gateway/master.key.json"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        keys.save(path, {})


def test_nothing_secret_is_shown(folder: Path) -> None:
    """A keyring that is printed by mistake shows no secret."""
    ring = keys.read(folder, "KH")
    assert repr(ring.master) not in repr(ring)
    assert "PrivateKey" not in repr(ring)


def test_sealed(folder: Path) -> None:
    """What is sealed opens again in its own context, and is another text each time."""
    ring = keys.read(folder, "KH")
    sealed = ring.seal(b"answer", b"idempotency/finance.local_tax/1")
    assert ring.open(sealed, b"idempotency/finance.local_tax/1") == b"answer"
    assert sealed != ring.seal(b"answer", b"idempotency/finance.local_tax/1")
    assert b"answer" not in sealed


@pytest.mark.parametrize("spoil", [lambda s: s[:0], lambda s: s[:8], lambda s: b"\2" + s[1:], lambda s: s[:-1] + b"?"])
def test_sealed_and_changed(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Changed bytes, and another context, open nothing."""
    ring = keys.read(folder, "KH")
    sealed = ring.seal(b"answer", b"a")
    with pytest.raises(NotOpened):
        ring.open(spoil(sealed), b"a")
    with pytest.raises(NotOpened):
        ring.open(sealed, b"b")


def test_client_key() -> None:
    """A new client key comes in two parts: the private one, and the set for the agency's folder."""
    private, public = keys.new_client_key("KH")
    assert public["instance"] == private["instance"] == "KH"
    assert "d" not in json.dumps(public["keys"]).split('"')
    jws = identity.read(Key(private).sign({}), Use.CLIENT)
    assert isinstance(public["keys"], list)
    assert verifying_key(public["keys"][0]).made(jws.alg, jws.signed, jws.signature)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_algorithms(alg: str) -> None:
    """Each permitted algorithm verifies what its key signed, and nothing else."""
    own = key(alg)
    verifying = verifying_key(own.public)
    jws = identity.read(own.sign({"a": 1}), Use.CLIENT)
    other = identity.read(own.sign({"a": 2}), Use.CLIENT)
    assert verifying.made(jws.alg, jws.signed, jws.signature)
    assert not verifying.made(alg, other.signed, jws.signature)
    assert not verifying.made(alg, jws.signed, b"short")


def test_algorithm_of_the_key_not_of_the_token() -> None:
    """A token cannot say another algorithm than the key's, even where the signature is of the key's."""
    own = verifying_key((pair := key("PS256")).public)
    good, lying = (identity.read(pair.sign({}, **alg), Use.CLIENT) for alg in ({}, {"alg": "RS256"}))
    assert own.made(good.alg, good.signed, good.signature)
    assert not own.made(lying.alg, lying.signed, lying.signature)


@pytest.mark.parametrize(
    "changes",
    [
        {"x": "AAAA"},
        {"x": None},
        {"y": key().public["y"]},
        {"kid": ""},
        {"kid": 7},
        {"kid": "k" * 257},
        {"kty": "RSA", "alg": "RS256", "n": "gQ", "e": "AQAB"},
    ],
)
def test_public_key_not_taken(changes: dict[str, Any]) -> None:
    """A key with broken members, or too weak a modulus, is none."""
    with pytest.raises(BadKey):
        verifying_key({**key().public, **changes})


def test_slow_rsa_key() -> None:
    """A large exponent would make each check cost many times as much."""
    with pytest.raises(BadKey, match="exponent"):
        verifying_key({**key("RS256").public, "e": "AgAAAAE"})


def test_webhook_keys(folder: Path) -> None:
    """The present one and every other one sign; what is published verifies, and says so in both spellings."""
    keys.save(folder / "gateway/webhook.next.jwk.json", keys.new_webhook_key("KH"))
    ring = keys.read(folder, "KH")
    told: Any = keys.webhook_keys(ring)["keys"]
    assert [each["kid"] for each in told] == [each.kid for each in ring.webhooks]
    assert [set(each) for each in told] == [{"kty", "crv", "x", "kid", "alg", "use", "whpk"}] * 2
    for each, public in zip(ring.webhooks, told, strict=True):
        raw = base64.b64decode(public["whpk"].removeprefix("whpk_"))
        assert base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == public["x"]
        Ed25519PublicKey.from_public_bytes(raw).verify(each.key.sign(b"one"), b"one")
        assert each.kid not in ring.verifying  # no token is signed with it


def test_a_gateway_without_a_webhook_key_reads_its_others(folder: Path) -> None:
    """It is needed only where a folder names a webhook; one of another kind is refused."""
    (folder / "gateway/webhook.jwk.json").unlink()
    assert keys.read(folder, "KH").webhooks == ()
    keys.save(folder / "gateway/webhook.jwk.json", keys.new_signing_key("KH"))
    with pytest.raises(BadKeys, match="Ed25519"):
        keys.read(folder, "KH")
