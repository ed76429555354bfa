"""The keys folder: the gateway's signing keys and its master key, and what is done with keys."""

import base64
import grp
import hmac
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from gateway.core import webhook
from gateway.core.jwk import BadKey, VerifyingKey, pinned, private_key, public_part, thumbprint, verifying_key
from gateway.core.shape import Malformed, parse

DEMO = "DEMO"
"""The instance whose private keys are published, on purpose; no other instance takes them."""
SIGNING = ("ES256", "EdDSA")
"""What the gateway signs with."""

SIGNING_FILE = "signing.jwk.json"
NEXT_FILE = "signing.next.jwk.json"
MASTER_FILE = "master.key.json"
BUCKET_FILE = "attachments.key.json"
WEBHOOK_FILE = "webhook.jwk.json"
WEBHOOK_NEXT_FILE = "webhook.next.jwk.json"

_MAX_FILE = 65_536
_NONCE = 12
_SEALED = b"\x01"  # the form: leaves room for another one
_JWS = PyJWS(algorithms=list(SIGNING))


class BadKeys(Exception):
    """The keys folder cannot be used. The message names the file and what to do; nothing of any key."""


class NotOpened(Exception):
    """Sealed bytes that this master key, or this context, does not open."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of the gateway."""

    kid: str
    alg: str
    key: Any = field(repr=False)

    def jwt(self, claims: Mapping[str, object], typ: str) -> str:
        """The claims as a signed JWT in compact form."""
        return _JWS.encode(orjson.dumps(claims), self.key, self.alg, {"typ": typ, "kid": self.kid})


@dataclass(frozen=True, slots=True)
class Keyring:
    """The gateway's own keys."""

    instance: str
    signing: SigningKey
    published: tuple[Mapping[str, str], ...]
    """Public JWKs, the present signing key first; earlier ones still verify, and the next one verifies already."""
    verifying: Mapping[str, VerifyingKey]
    """The same by kid."""
    master: bytes = field(repr=False)
    """32 bytes."""
    webhooks: tuple[SigningKey, ...] = ()
    """Ed25519; with all of them every webhook is signed, so that who knows one of them verifies it."""
    _cipher: AESGCM = field(init=False, repr=False, compare=False)
    _fingerprints: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Made once: they are used for each document."""
        object.__setattr__(self, "_cipher", AESGCM(self.master))
        own = hmac.digest(self.master, b"fingerprints", "sha256")
        object.__setattr__(self, "_fingerprints", hmac.new(own, digestmod="sha256"))

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt and bind to a context (what it is and whose), by AES-256-GCM.

        Nonces are random, which is sound for 2^32 messages under one key (NIST SP 800-38D, section 8.3).
        """
        nonce = os.urandom(_NONCE)
        return _SEALED + nonce + self._cipher.encrypt(nonce, plain, context)

    def mac(self, text: bytes) -> bytes:
        """HMAC-SHA-256 of a fingerprint, under a key of its own that follows from the master key."""
        made = self._fingerprints.copy()
        made.update(text)
        return made.digest()

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. Raises NotOpened where the bytes, the key or the context are others."""
        if sealed[:1] != _SEALED:
            raise NotOpened("the sealed bytes have an unknown form")
        nonce, body = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, body, context)
        except (InvalidTag, ValueError) as error:
            raise NotOpened("the sealed bytes belong to another master key or context, or were changed") from error


def read(folder: Path, instance: str) -> Keyring:
    """The gateway's keys from ``<folder>/gateway/``. Raises BadKeys."""
    if instance != DEMO and os.path.lexists(folder / "private"):
        raise BadKeys(f"{folder / 'private'} holds private keys of agencies: remove it, they belong to the agencies")
    home = folder / "gateway"
    signing, public = _signing(home / SIGNING_FILE, instance)
    published = (public, *(_signing(path, instance)[1] for path in _further(home)))
    return Keyring(
        instance=instance,
        signing=signing,
        published=published,
        verifying={key.kid: key for key in map(verifying_key, published)},
        master=_master(home / MASTER_FILE, instance),
        webhooks=_webhooks(home, instance),
    )


def _webhooks(home: Path, instance: str) -> tuple[SigningKey, ...]:
    """The present one first. None at all are enough where no agency's folder names a webhook."""
    paths = [home / WEBHOOK_FILE] if os.path.lexists(home / WEBHOOK_FILE) else []
    paths += _further(home, "webhook")
    if len(paths) > webhook.MAX_KEYS:
        raise BadKeys(f"{home} has {len(paths)} webhook keys, and {webhook.MAX_KEYS} are the most: remove older ones")
    read = [(path, _signing(path, instance)[0]) for path in paths]
    for path, key in read:
        if not isinstance(key.key, ed25519.Ed25519PrivateKey):
            raise BadKeys(f"{path} is no Ed25519 key, as webhooks need: make one with gateway keys gateway")
    return tuple(key for _, key in read)


def _further(home: Path, kind: str = "signing") -> list[Path]:
    """Beside the present key: earlier ones, and the one to come."""
    try:
        files = sorted(home.iterdir())
    except OSError as error:  # a folder that may be entered and not be listed would hide them
        raise BadKeys(_unread(home, error)) from error
    return [path for path in files if path.match(f"{kind}.*.jwk.json")]


def bucket_key(folder: Path, instance: str) -> Mapping[str, str] | None:
    """The access key of the bucket for attachments; None where there is no such file. Raises BadKeys."""
    path = folder / "gateway" / BUCKET_FILE
    if not os.path.lexists(path):
        return None
    document = _document(path, instance)
    names = ("access_key_id", "secret_access_key")
    if not all(isinstance(document.get(name), str) and document[name] for name in names):
        raise BadKeys(f"{path} must hold {' and '.join(names)}, beside its instance")
    return {name: document[name] for name in names}


def new_signing_key(instance: str) -> dict[str, str]:
    """A fresh private JWK (EC P-256, ES256) for ``gateway/signing.jwk.json``."""
    made = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {"instance": instance, **made, "kid": thumbprint(made), "alg": "ES256"}


def new_webhook_key(instance: str) -> dict[str, str]:
    """A fresh private JWK (Ed25519) for ``gateway/webhook.jwk.json``."""
    made = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    return {"instance": instance, **made, "kid": thumbprint(made), "alg": "EdDSA"}


def webhook_keys(keyring: Keyring) -> dict[str, object]:
    """What receivers of webhooks may know: each public key as a JWK, and as Standard Webhooks writes it (``whpk_``)."""
    published = []
    for each in keyring.webhooks:
        public = each.key.public_key()
        jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        members = {"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "kid": each.kid, "alg": "EdDSA", "use": "sig"}
        published.append({**members, "whpk": webhook.public(public)})
    return {"keys": published}


def new_client_key(instance: str) -> tuple[dict[str, str], dict[str, object]]:
    """A fresh private JWK for a system or signatory, and the JWKS that goes to ``agencies/``."""
    private = new_signing_key(instance)
    public = {**public_part(private), "kid": private["kid"], "alg": private["alg"], "use": "sig"}
    return private, {"instance": instance, "keys": [public]}


def new_master_key(instance: str) -> dict[str, str]:
    """A fresh key for ``gateway/master.key.json``."""
    return {"instance": instance, "key": base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()}


def save(path: Path, document: Mapping[str, object]) -> None:
    """Write a key file that nobody but its owner may read. Raises FileExistsError: a key is never overwritten."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def hold_secret(path: Path, mode: int) -> None:
    """Refuse a secret's file that its mode lays open. Raises BadKeys."""
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise BadKeys(f"{path} may be read by everybody or changed by its group: chmod 600 (or 640) {path.name}")


def _unread(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} cannot be read ({error.strerror}): make it with gateway keys gateway, or correct GATEWAY_KEYS"
    if isinstance(error, PermissionError):
        return barred(path)
    return f"{path} cannot be read ({error.strerror}): correct it, or GATEWAY_KEYS"


def barred(path: Path) -> str:
    """Who may not read a file, and what lets them, for its group alone."""
    at = next((each for each in reversed(path.parents) if not os.access(each, os.X_OK, effective_ids=True)), path)
    mode = "750" if at.is_dir() else "640"
    group = _named(os.getegid(), lambda gid: grp.getgrgid(gid).gr_name)
    user = _named(os.geteuid(), lambda uid: pwd.getpwuid(uid).pw_name)
    return f"{path} may not be read by the user {user}, who runs this: chgrp {group} {at} and chmod {mode} {at}"


def _named(number: int, look_up: Callable[[int], str]) -> str:
    try:
        return look_up(number)
    except KeyError:  # in a container users need no name
        return str(number)


def _document(path: Path, instance: str) -> Mapping[str, Any]:
    """A secret JSON file of this instance."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_FILE + 1)
        document = parse(raw) if len(raw) <= _MAX_FILE else None
    except OSError as error:
        raise BadKeys(_unread(path, error)) from error
    except Malformed as error:
        raise BadKeys(f"{path} is {error}: restore it from its backup") from error
    # A clone of the demonstration cannot keep its keys from others' eyes, and need not.
    if instance != DEMO:
        hold_secret(path, mode)
    if not isinstance(document, dict):
        raise BadKeys(f"{path} is no JSON object of at most {_MAX_FILE} bytes: restore it from its backup")
    if document.get("instance") != instance:
        raise BadKeys(f"{path} belongs to another instance than {instance}: use keys made for this one")
    return document


def _signing(path: Path, instance: str) -> tuple[SigningKey, Mapping[str, str]]:
    jwk = _document(path, instance)
    try:
        part = public_part(jwk)
        alg, kid = pinned({**part, "alg": jwk.get("alg")}), thumbprint(part)
        key = private_key(jwk, alg)
    except BadKey as error:
        raise BadKeys(f"{path} is no signing key: {error}") from error
    if alg not in SIGNING or jwk.get("kid") != kid:
        raise BadKeys(f"{path} must be a key for {' or '.join(SIGNING)} whose kid is its RFC 7638 thumbprint")
    return SigningKey(kid, alg, key), {**part, "kid": kid, "alg": alg, "use": "sig"}


def _master(path: Path, instance: str) -> bytes:
    text = _document(path, instance).get("key")
    try:
        key = base64.b64decode(f"{text}=".encode(), altchars=b"-_", validate=True)
    except ValueError as error:
        raise BadKeys(f"{path} has no key of 32 bytes in base64url: restore it from its backup") from error
    if len(key) != 32:
        raise BadKeys(f"{path} has no key of 32 bytes in base64url: restore it from its backup")
    return key
