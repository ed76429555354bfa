"""Receipts held against the keys that the gateway publishes: for whoever received one, also years later."""

from collections.abc import Mapping
from typing import Any

import jwt
import orjson

TYPE = "exchange-receipt+jwt"
_ALGORITHMS = ("ES256", "EdDSA")


class BadReceipt(ValueError):
    """It is no receipt of that instance, or was changed. The text says why."""


def verify_receipt(receipt: str, jwks: Mapping[str, Any], instance: str) -> dict[str, Any]:
    """What a receipt states, where one of the keys signed it and it is the instance's. Raises BadReceipt.

    ``jwks`` is what ``/.well-known/jwks.json`` gives; keep a copy with your receipts.
    """
    try:
        header = jwt.get_unverified_header(receipt)
    except jwt.PyJWTError as error:
        raise BadReceipt("It is no JWS in compact form.") from error
    if header.get("typ") != TYPE or header.get("alg") not in _ALGORITHMS or header.keys() - {"typ", "alg", "kid"}:
        raise BadReceipt(f"It is no receipt: its header must say typ {TYPE}, alg and kid, and nothing else.")
    keys = [each for each in jwks.get("keys", ()) if isinstance(each, Mapping)]
    key = next((each for each in keys if each.get("kid") == header.get("kid")), None)
    if key is None:
        raise BadReceipt("None of the keys signed it: was it another gateway, or are the keys older?")
    try:
        # The algorithm is the key's, never the header's choice (RFC 8725, section 3.1).
        made = jwt.PyJWK(dict(key))
        payload = jwt.PyJWS(algorithms=[made.algorithm_name]).decode(receipt, made.key, [made.algorithm_name])
    except jwt.PyJWTError as error:
        raise BadReceipt("Its signature is wrong: it was changed, or is not the gateway's.") from error
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadReceipt("It states nothing that can be read.") from error
    if not isinstance(said, dict) or said.get("instance") != instance:
        raise BadReceipt(f"It is not of the instance {instance}.")
    return said
