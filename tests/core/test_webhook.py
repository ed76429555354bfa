"""Standard Webhooks: what is signed, held against the library that defines it and against Ed25519 itself."""

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.core import webhook

BODY = '{"type":"letters.official_letter.v1","data":{"body":{"subject":"Sala Daeng ศาลาแดง"}}}'.encode()
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLDER = "whsec_" + base64.b64encode(bytes(32)).decode()
STRANGER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()


def test_the_specifications_own_example() -> None:
    """The signature that the specification's page and every one of its libraries test with."""
    secret = webhook.secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = webhook.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', secrets=secret, keys=()
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_library_takes_what_is_signed_with_any_of_the_secrets() -> None:
    """While a secret changes, who holds the old one and who holds the new one verify; who holds neither does not."""
    key = Ed25519PrivateKey.generate()
    secrets = webhook.secrets(f"{SECRET}\n{OLDER}\n")
    headers = dict(webhook.headers("d-1", int(time.time()), BODY, secrets=secrets, keys=[key]))
    for held in (SECRET, OLDER):
        assert Webhook(held).verify(BODY, headers)["type"] == "letters.official_letter.v1"
    with pytest.raises(WebhookVerificationError):
        Webhook(STRANGER).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", headers)


def test_every_key_of_the_gateway_signs() -> None:
    """Whoever knows one of the published keys verifies ``v1a``, as the specification describes it."""
    keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]
    headers = webhook.headers("d-1", 1614265330, BODY, secrets=(), keys=keys)
    told = [webhook.public(key.public_key()) for key in keys]
    signatures = [each.partition(",") for each in headers["webhook-signature"].split(" ")]
    assert [version for version, _, _ in signatures] == ["v1a", "v1a"]
    for public, (_, _, signature) in zip(told, signatures, strict=True):
        raw = base64.b64decode(public.removeprefix("whpk_"))
        signed = b"d-1.1614265330." + BODY
        Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature), signed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "secret", "whsec_", "whsec_%%", "whsec_" + base64.b64encode(bytes(23)).decode()),
        *("whsec_" + base64.b64encode(bytes(65)).decode(), SECRET.removeprefix("whsec_"), f"{SECRET}\n" * 9),
    ],
)
def test_what_is_no_secret(text: str) -> None:
    """A file that holds anything else is refused, without a word of what it holds."""
    with pytest.raises(ValueError, match="must ") as refused:
        webhook.secrets(text)
    assert len(text) < 10 or text.strip() not in str(refused.value)
