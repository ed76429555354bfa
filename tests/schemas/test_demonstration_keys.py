"""The demonstration's keys say what they are, and none is missing or left over."""

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.catalogue.snapshot import load
from gateway.core.model import Catalogue
from gateway.edge import keys

ROOT = Path(__file__).parents[2]
KEYS = ROOT / "deploy" / "demo" / "keys"
FILES = sorted(KEYS.glob("*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_key_file_says_that_it_is_for_demonstration(path: Path) -> None:
    """Whoever opens a key file learns that it is worth nothing anywhere else."""
    document = json.loads(path.read_text())
    assert document["instance"] == "DEMO"
    assert document["comment"] == "For demonstration only; every other instance refuses it."


def test_each_system_signatory_and_issuer_has_its_pair(catalogue: Catalogue) -> None:
    """The pretend parties can sign; no key is left over from one that is gone."""
    names: set[str] = set(catalogue.systems)
    for agency in catalogue.agencies.values():
        names |= {f"{agency.id}.{name}" for name in agency.signatories}
        names |= {f"{agency.id}.civil_service" for _ in agency.issuers}
    assert {path.name.removesuffix(".jwks.json") for path in KEYS.glob("agencies/*")} == names
    assert {path.name.removesuffix(".jwk.json") for path in KEYS.glob("private/*")} == names


def test_an_issuer_that_two_agencies_name_has_one_key(catalogue: Catalogue) -> None:
    """A person is the same person in both offices, because the same issuer says so."""
    issuers = [issuer for agency in catalogue.agencies.values() for issuer in agency.issuers]
    assert len(issuers) == 2
    assert len({(each.issuer, str(each.keys[0]["kid"])) for each in issuers}) == 1


def test_public_halves_are_public() -> None:
    """No file that agencies would hand out has a private member."""
    for path in KEYS.glob("agencies/*.json"):
        for jwk in json.loads(path.read_text())["keys"]:
            assert not jwk.keys() & {"d", "p", "q", "k"}


def test_the_demonstration_takes_its_own_keys() -> None:
    """The gateway's keys of the instance DEMO can be used by it."""
    assert keys.read(KEYS, "DEMO").signing.alg == "ES256"


def test_another_instance_refuses_the_gateways_keys() -> None:
    """Keys that the whole world has cannot become a real instance's."""
    with pytest.raises(keys.BadKeys):
        keys.read(KEYS, "KH")


def test_another_instance_refuses_the_agencies_keys() -> None:
    """The catalogue of another instance does not load with the demonstration's keys, and says so for each of them."""
    loaded = load(
        ROOT, instance="KH", zone=ZoneInfo("Asia/Phnom_Penh"), keys=KEYS, at=datetime(2026, 11, 21, tzinfo=UTC)
    )
    refused = {finding.file for finding in loaded.findings if "another instance" in finding.message}
    assert loaded.catalogue is None
    assert {Path(file).name for file in refused} >= {path.name for path in KEYS.glob("agencies/*")}
