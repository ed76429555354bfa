"""Documents pushed as Standard Webhooks: signed by the gateway's own key, and by a secret where the way names one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import webhook
from gateway.core.model import Way
from gateway.protocols import options
from gateway.protocols.handover import Accepted, Handed, Taker
from gateway.protocols.posting import Letterbox, letterbox, traced
from gateway.protocols.protocol import Surroundings

_OPTIONS = ("url", "secret", "allow", "tls")
_KIND = {"receipt": "receipt"}
"""The ``type`` of what is no service's."""


def hand_over(way: Way, surroundings: Surroundings) -> Taker:
    """The system behind a way with ``protocol: webhook``. Raises ValueError where its options are wrong."""
    options.hold_names(way.options, _OPTIONS, "protocol webhook")
    if not surroundings.webhook_keys and "secret" not in way.options:
        raise ValueError(
            "protocol webhook signs with gateway/webhook.jwk.json, which is missing from the keys folder: make it with "
            "gateway keys gateway, and restart the gateway"
        )
    secrets: Sequence[bytes] = ()
    if "secret" in way.options:
        name = options.text(way.options["secret"], "secret")
        held = options.secret(surroundings.files, name)
        try:
            secrets = webhook.secrets(held)
        except ValueError as error:
            raise ValueError(f"the secret {name!r} {error}") from error
    return _Webhook(letterbox(way, surroundings), secrets, surroundings.webhook_keys)


@dataclass(frozen=True, slots=True)
class _Webhook:
    box: Letterbox
    secrets: Sequence[bytes]
    keys: Sequence[Ed25519PrivateKey]

    async def take(self, handed: Handed) -> Accepted:
        body = payload(handed)
        # the time of this attempt: receivers refuse what was signed minutes ago
        signed = webhook.headers(handed.id, int(time.time()), body, secrets=self.secrets, keys=self.keys)
        said = {"Content-Type": "application/json", "Accept": "*/*", **traced(handed), **signed}
        await self.box.post(said, body, handed)
        return Accepted()

    async def close(self) -> None:
        """The connections belong to Outbound."""


def payload(handed: Handed) -> bytes:
    """``{"type", "timestamp", "data"}``; the document's bytes stand in it as they came."""
    data = dict(handed.envelope)
    if handed.kind == "receipt":
        data["body"] = handed.body
    else:
        data["body"] = orjson.Fragment(handed.raw)
    kind = _KIND.get(handed.kind, handed.service)
    return orjson.dumps({"type": kind, "timestamp": handed.envelope["submitted"], "data": data})
