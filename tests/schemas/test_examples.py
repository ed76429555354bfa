"""Every example gets the verdict that its file name says, from both engines."""

from pathlib import Path

import pytest

from gateway.core.model import Catalogue, ServiceId
from gateway.core.shape import Shape, parse

SCHEMAS = Path(__file__).parents[2] / "schemas"
EXAMPLES = sorted(SCHEMAS.glob("*/*/examples/*.json"))
SERVICES = sorted(path.parent for path in SCHEMAS.glob("*/*/service.yaml"))


def _shape(catalogue: Catalogue, example: Path) -> Shape:
    name, domain = example.parents[1].name, example.parents[2].name
    service = catalogue.services[ServiceId(f"{domain}.{name}")]
    part = example.name.partition(".")[0]
    return {"request": service.request, "response": service.response, "document": service.request}[part]


def _parts(folder: Path) -> tuple[str, ...]:
    """What the service says: a document or an event is not answered."""
    return ("document",) if (folder / "document.json").exists() else ("request", "response")


def test_there_are_examples() -> None:
    """The tests below hold something: no folder was moved away under them."""
    assert len(SERVICES) >= 9
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.relative_to(SCHEMAS)))
def test_both_engines_reach_the_verdict_of_the_name(catalogue: Catalogue, example: Path) -> None:
    """jsonschema-rs (the hot path) and jsonschema (the words) agree with the file's name, each for itself."""
    shape = _shape(catalogue, example)
    verdict = {".pass": True, ".fail": False}[Path(example.stem).suffix]
    value = parse(example.read_bytes())
    assert shape.fits(value) is verdict
    assert (not shape.faults(value)) is verdict


@pytest.mark.parametrize("folder", SERVICES, ids=lambda path: str(path.relative_to(SCHEMAS)))
@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_each_part_has_two_examples_of_each_verdict(folder: Path, verdict: str) -> None:
    """A schema is shown from both sides, so that a rule that is lost is noticed."""
    for part in _parts(folder):
        assert len(list(folder.glob(f"examples/{part}.*.{verdict}.json"))) >= 2


@pytest.mark.parametrize("example", [each for each in EXAMPLES if ".fail." in each.name], ids=lambda path: path.name)
def test_faults_never_quote_the_value(catalogue: Catalogue, example: Path) -> None:
    """What is wrong is said without the identifier, name or address that stands there."""
    faults = _shape(catalogue, example).faults(parse(example.read_bytes()))
    said = " ".join(fault.detail for fault in faults)
    for secret in ("900100", "Komru", "គំរូ", "Demo Road", "for the register only"):
        assert secret not in said
