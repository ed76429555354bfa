"""Signatures of agreements: detached JWS (RFC 7515, appendix F) over the canonical text (RFC 8785)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import rfc8785
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from gateway.catalogue.appending import appended
from gateway.catalogue.files import alone
from gateway.catalogue.reading import Reading, composed
from gateway.core.jwk import BadKey, pinned, private_key, public_part, signature, thumbprint, verifying_key
from gateway.core.shape import Malformed, parse

_UNSIGNED = ("signatures", "standing")
"""A suspension must be possible at once and by one side, so ``standing`` is no part of what was agreed."""
_TAKEN = ("ES256", "EdDSA")
_HEADER = frozenset({"alg", "kid", "instance", "by", "on"})


class CannotSign(ValueError):
    """The agreement or the key is none that can be signed, or signed with. The message says why."""


class BadSignature(ValueError):
    """The signature does not prove what it should. The message says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature must say of itself."""

    instance: str
    by: str
    on: date


def canonical(agreement: Mapping[str, Any]) -> bytes:
    """The text that is signed: RFC 8785 over the agreement as it was written, without signatures and standing."""
    return rfc8785.dumps({name: value for name, value in agreement.items() if name not in _UNSIGNED})


def canonical_mandate(agency: str, mandate: Mapping[str, Any]) -> bytes:
    """The text of a mandate that is signed: RFC 8785 over what was written, and whose mandate it is."""
    terms = {name: mandate.get(name) for name in ("to", "services", "valid")}
    return rfc8785.dumps({"mandate_of": agency, **terms})


def sign(text: bytes, key: Mapping[str, object], claim: Claim) -> str:
    """A detached JWS by a private JWK. Raises CannotSign."""
    try:
        alg, kid = pinned(public_part(key)), thumbprint(key)
        private = private_key(key, alg)
    except BadKey as error:
        raise CannotSign(f"the key cannot sign: {error}") from error
    if alg not in _TAKEN:
        raise CannotSign("the key is no private key on P-256 or Ed25519")
    header = {"alg": alg, "kid": kid, "instance": claim.instance, "by": claim.by, "on": claim.on.isoformat()}
    head = _encoded(rfc8785.dumps(header))
    return f"{head}..{_encoded(signature(private, alg, _signed(head, text)))}"


def verify(jws: str, text: bytes, keys: tuple[Mapping[str, object], ...], claim: Claim) -> None:
    """Hold a detached JWS against the text, the signatory's keys and what it must say. Raises BadSignature."""
    head, _, made = jws.partition("..")
    header = _header(head)
    for name, wanted in (("instance", claim.instance), ("by", claim.by), ("on", claim.on.isoformat())):
        if header[name] != wanted:
            raise BadSignature(f'it was made with another "{name}"')
    jwk = next((key for key in keys if key.get("kid") == header["kid"]), None)
    if jwk is None:
        raise BadSignature("it was made with a key that is not the signatory's")
    key = verifying_key(jwk)
    if header["alg"] not in _TAKEN or header["alg"] != key.alg:
        raise BadSignature("its algorithm is not the key's")
    if not key.made(header["alg"], _signed(head, text), _decoded(made)):
        raise BadSignature("it was not made over this text")


def _signed(head: str, text: bytes) -> bytes:
    return f"{head}.{_encoded(text)}".encode()


def sign_agreement(path: Path, agency: str, by: str, on: date, *, key: Mapping[str, object], instance: str) -> str:
    """Sign an agreement's file for an agency and add the signature to it, leaving every other character as it is.

    ``key`` is a private JWK with the instance that it was made for. Returns the detached JWS. Raises CannotSign.
    """
    if key.get("instance") != instance:
        raise CannotSign(f'the key was not made for the instance "{instance}"')
    if not path.is_file():
        raise CannotSign(f"there is no agreement {path}; name the file, policies/NAME.yaml")
    reading = Reading(alone(path))
    source = reading.yaml(path.absolute())
    if source is None or not source.sound or not isinstance(source.value, dict):
        raise CannotSign(f"{path.name} cannot be read; run gateway check and correct what it names")
    if agency not in _parties(source.value):
        raise CannotSign(f"{agency} is no party of {path.name}; its parties are: {', '.join(_parties(source.value))}")
    for number, each in enumerate(_given(source.value)):
        if isinstance(each, dict) and (each.get("agency"), each.get("by")) == (agency, by):
            lines = source.span("signatures", number)
            raise CannotSign(f"{path.name} has a signature for {agency} by {by}; remove {lines} first")
    jws = sign(canonical(source.value), key, Claim(instance, by, on))
    entry = {"agency": agency, "by": by, "on": on, "jws": jws}
    path.write_text(_with_signature(path.read_text("utf-8"), entry), "utf-8")
    return jws


def _parties(agreement: Mapping[str, Any]) -> list[str]:
    parties = agreement.get("parties")
    return [each for each in parties if isinstance(each, str)] if isinstance(parties, list) else []


def _given(agreement: Mapping[str, Any]) -> list[Any]:
    given = agreement.get("signatures")
    return given if isinstance(given, list) else []


def _with_signature(text: str, entry: Mapping[str, object]) -> str:
    try:
        root = composed(text)
    except YAMLError as error:
        raise CannotSign("the agreement cannot be read; run gateway check and correct what it names") from error
    if not isinstance(root, MappingNode) or root.flow_style:
        raise CannotSign("the agreement is written in braces; write its keys in lines of their own")
    given = next((value for key, value in root.value if key.value == "signatures"), None)
    if given is None:
        return f"{text.rstrip()}\nsignatures:\n{appended('', None, [entry], 2)}"
    if isinstance(given, ScalarNode) and not given.value:  # its entries were removed, and the key was left
        end = text.find("\n", given.start_mark.index)
        cut = len(text) if end < 0 else end + 1
        before = text[:cut] if text[:cut].endswith("\n") else f"{text[:cut]}\n"
        return f"{before}{appended('', None, [entry], 2)}{text[cut:]}"
    if isinstance(given, SequenceNode):
        return appended(text, given, [entry], 2)
    raise CannotSign('"signatures" is no list; correct or remove it')


def _header(head: str) -> dict[str, str]:
    try:
        header = parse(_decoded(head))
    except Malformed as error:
        raise BadSignature("its head cannot be read") from error
    if not isinstance(header, dict) or header.keys() != _HEADER or not all(isinstance(x, str) for x in header.values()):
        raise BadSignature("its head does not say exactly alg, kid, instance, by and on")
    return header


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("it is no detached JWS") from error
    if _encoded(raw) != text:  # two texts for one signature would make two files of one agreement
        raise BadSignature("it is no detached JWS")
    return raw
