"""A pretend receiver of webhooks: it checks signatures by the specification alone, with nothing of the gateway's code.

Standard Webhooks 1: ``webhook-signature`` holds signatures over ``id.timestamp.body``, with blanks between. ``v1`` is
HMAC-SHA-256 with a secret that both sides hold, ``v1a`` is Ed25519 by the gateway's key, which it publishes.
"""

import base64
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE = 300
"""Seconds by which a signature may be old: an older one could be somebody's recording."""
REMEMBERED = 1000
"""Ids of what came, the oldest forgotten first."""
_KEYS = "/.well-known/webhook-keys.json"


class Receiver:
    """One system that webhooks are pushed to."""

    def __init__(self, gateway: str | None = None, secret: str | None = None) -> None:
        """``gateway`` is where it publishes its keys; ``secret``, ``whsec_…``, is what was agreed instead."""
        self.gateway = gateway
        self.taken: OrderedDict[str, dict[str, Any]] = OrderedDict()
        """What came, by webhook-id: the same id is the same thing."""
        self.pushes = 0
        """Calls whose signature was good, repeated ones too."""
        self.forged = 0
        """Calls that nobody signed, or somebody else."""
        self._secret = base64.b64decode(secret.strip().removeprefix("whsec_")) if secret else None
        self._keys: tuple[Ed25519PublicKey, ...] = ()

    async def hook(self, request: web.Request) -> web.Response:
        """``POST …/hook``"""
        body = await request.read()
        if not await self._genuine(request.headers, body):
            self.forged += 1
            raise web.HTTPUnauthorized
        self.pushes += 1
        name = request.headers["webhook-id"]
        if name not in self.taken:
            self.taken[name] = await request.json()
            if len(self.taken) > REMEMBERED:
                self.taken.popitem(last=False)
        return web.Response(status=204)

    async def _genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        stamp = headers.get("webhook-timestamp", "")
        if not stamp.isascii() or not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE:
            return False
        signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
        for each in headers.get("webhook-signature", "").split(" "):
            version, _, text = each.partition(",")
            if version == "v1" and self._secret is not None and self._by_secret(signed, text):
                return True
            if version == "v1a" and self._secret is None and await self._by_key(signed, text):
                return True
        return False

    def _by_secret(self, signed: bytes, text: str) -> bool:
        made = base64.b64encode(hmac.digest(self._secret or b"", signed, sha256)).decode()
        return hmac.compare_digest(made.encode(), text.encode())

    async def _by_key(self, signed: bytes, text: str) -> bool:
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError:
            return False
        self._keys = self._keys or await self._published()
        return any(_made(key, signature, signed) for key in self._keys)

    async def _published(self) -> tuple[Ed25519PublicKey, ...]:
        if self.gateway is None:
            return ()
        async with aiohttp.ClientSession() as session, session.get(self.gateway + _KEYS) as reply:
            found = await reply.json(content_type=None)
        return tuple(_key(each["whpk"]) for each in found["keys"])


def _key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix("whpk_")))


def _made(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
