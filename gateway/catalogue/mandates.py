"""Signing mandates where they stand, in the folder of the agency that gives them."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from gateway.catalogue.appending import end_of, scalar
from gateway.catalogue.files import alone
from gateway.catalogue.reading import Reading, Source, composed
from gateway.catalogue.signatures import CannotSign, Claim, canonical_mandate, sign


def sign_mandates(path: Path, to: str, by: str, on: date, *, key: Mapping[str, object], instance: str) -> str:
    """Sign every mandate to an agency that is not signed yet, and leave every other character of the file as it is.

    ``key`` is a private JWK with the instance that it was made for. Gives the agency whose mandates they are. Raises
    CannotSign.
    """
    if key.get("instance") != instance:
        raise CannotSign(f'the key was not made for the instance "{instance}"')
    source = _source(path)
    agency, given = source.value.get("agency"), source.value.get("mandates")
    if not isinstance(agency, str) or not isinstance(given, list):
        raise CannotSign(f"{path} has no mandates; write one under mandates first: to, services and valid")
    wanted = [number for number, each in enumerate(given) if isinstance(each, dict) and each.get("to") == to]
    if not wanted:
        raise CannotSign(f"{path} has no mandate to {to}")
    unsigned = [number for number in wanted if given[number].get("signature") is None]
    if not unsigned:
        lines = source.span("mandates", wanted[0], "signature")
        raise CannotSign(f"the mandate to {to} is signed; remove its signature, {lines}, first")
    text = path.read_text("utf-8")
    for number in reversed(unsigned):  # from the end: what stands before keeps its place
        if "signature" in given[number]:
            raise CannotSign(f'the mandate to {to} has an empty "signature"; remove that line first')
        jws = sign(canonical_mandate(agency, _terms(given[number], path)), key, Claim(instance, by, on))
        text = _with(text, number, {"by": by, "on": on, "jws": jws})
    path.write_text(text, "utf-8")
    return agency


def _source(path: Path) -> Source:
    if not path.is_file():
        raise CannotSign(f"there is no file {path}; name the agency's own, adapters/NAME/agency.yaml")
    source = Reading(alone(path)).yaml(path.absolute())
    if source is None or not source.sound or not isinstance(source.value, dict):
        raise CannotSign(f"{path} cannot be read; run gateway check and correct what it names")
    return source


def _terms(mandate: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    if not {"to", "services", "valid"} <= mandate.keys():
        raise CannotSign(f"a mandate in {path} says not all of to, services and valid")
    return mandate


def _with(text: str, number: int, signature: Mapping[str, object]) -> str:
    """The text with a signature behind the last member of one mandate."""
    entry = _entry(text, number)
    members = "{" + ", ".join(f"{name}: {scalar(value)}" for name, value in signature.items()) + "}"
    if entry.flow_style:
        end = entry.end_mark.index - 1
        column = entry.start_mark.column + 1
        return f"{text[:end].rstrip()},\n{' ' * column}signature: {members}{text[end:]}"
    end = end_of(entry)
    line_end = text.find("\n", end) if text[end - 1] != "\n" else end - 1
    cut = len(text) if line_end < 0 else line_end + 1
    before = text[:cut] if text[:cut].endswith("\n") else f"{text[:cut]}\n"
    return f"{before}{' ' * entry.start_mark.column}signature: {members}\n{text[cut:]}"


def _entry(text: str, number: int) -> MappingNode:
    try:
        root = composed(text)
    except YAMLError as error:
        raise CannotSign("the file cannot be read; run gateway check and correct what it names") from error
    mandates: Node | None = None
    if isinstance(root, MappingNode):
        mandates = next((value for key, value in root.value if key.value == "mandates"), None)
    entry = mandates.value[number] if isinstance(mandates, SequenceNode) else None
    if isinstance(entry, MappingNode):
        return entry
    raise CannotSign('"mandates" is no list of mandates; correct it')
