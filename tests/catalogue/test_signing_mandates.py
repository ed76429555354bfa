"""Signing a mandate where it stands: however the file is written, it verifies afterwards and nothing else changes."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from gateway.catalogue.mandates import sign_mandates
from gateway.catalogue.reading import render
from gateway.catalogue.signatures import CannotSign
from tests.catalogue.conftest import HERE, Load

KEY = json.loads((HERE / "signing" / "finance.director.jwk.json").read_text("utf-8"))
BY = "Director of Local Tax"
TERMS = "services: [letters.notice.v1]", "valid: {from: 2026-01-01, until: 2026-12-31}"
BLOCK = f"  - to: platform\n    {TERMS[0]}\n    {TERMS[1]}\n"
SPELLINGS = {
    "lines": BLOCK,
    "braces": f"  - {{to: platform, {TERMS[0]}, {TERMS[1]}}}\n",
    "broken braces": f"  - {{to: platform, {TERMS[0]},\n     {TERMS[1]}}}   # until the end of the year\n",
    "comments": f"  # Letters.\n  - to: platform   # shared\n    {TERMS[0]}\n    {TERMS[1]}   # a year\n\n  # End.\n",
    "list of lines": f"  - to: platform\n    {TERMS[1]}\n    services:\n      - letters.notice.v1\n",
    "after another": f"  - {{to: interior, {TERMS[0]}, {TERMS[1]}}}\n{BLOCK}",
    "two": f"{BLOCK}  - {{to: platform, services: [tax.payment.v1], {TERMS[1]}}}\n",
}


@pytest.fixture
def agency(base: Path) -> Path:
    """The ministry's file in the sound catalogue with documents."""
    shutil.copytree(HERE / "post", base, dirs_exist_ok=True)
    return base / "adapters" / "finance" / "agency.yaml"


def written(agency: Path, mandates: str) -> str:
    """The file with these mandates, and its text."""
    text = agency.read_text("utf-8")
    start, end = text.index("mandates:"), text.index("document_visibility")
    agency.write_text(f"{text[:start]}mandates:\n{mandates}{text[end:]}", "utf-8")
    return agency.read_text("utf-8")


def sign(agency: Path, to: str = "platform", key: dict[str, object] = KEY) -> str:
    return sign_mandates(agency, to, BY, date(2026, 1, 5), key=key, instance="TEST")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_signed_mandate_verifies(agency: Path, loading: Load, spelling: str) -> None:
    """Whatever way it is written in; whoever asks for one agency signs for that one alone."""
    before = written(agency, SPELLINGS[spelling])
    assert sign(agency) == "finance"
    findings = loading(agency.parents[2], environment={"INTERIOR_URL": "https://x.example"}).findings
    errors = [each for each in findings if each.level == "error" and "is not signed" not in each.message]
    assert render(errors) == ""
    assert sum("is not signed" in each.message for each in findings) == (spelling == "after another")
    kept = [line for line in before.splitlines() if "{to: platform" not in line]
    after = agency.read_text("utf-8").splitlines()
    assert [line for line in kept if line not in after and not line.strip().startswith("valid")] == []


@pytest.mark.parametrize(
    ("mandates", "to", "sentence"),
    [
        (BLOCK, "interior", "no mandate to interior"),
        (f"{BLOCK}    signature:\n", "platform", 'an empty "signature"'),
        ("  - {to: platform}\n", "platform", "not all of to, services and valid"),
        ("  {}\n", "platform", "has no mandates"),
    ],
)
def test_what_cannot_be_signed_is_told(agency: Path, mandates: str, to: str, sentence: str) -> None:
    """The file stays as it is."""
    before = written(agency, mandates)
    with pytest.raises(CannotSign, match=sentence):
        sign(agency, to)
    assert agency.read_text("utf-8") == before


def test_what_is_signed_is_not_signed_again(agency: Path) -> None:
    """A second signature would leave the first one without a word."""
    with pytest.raises(CannotSign, match="is signed; remove its signature, line 25, first"):
        sign(agency)


def test_a_key_of_another_instance_signs_nothing(agency: Path) -> None:
    """A mandate of a test environment is none elsewhere."""
    with pytest.raises(CannotSign, match='not made for the instance "TEST"'):
        sign(agency, key={**KEY, "instance": "OTHER"})


def test_there_must_be_a_file(tmp_path: Path) -> None:
    """Whoever mistypes the path is told what to name."""
    with pytest.raises(CannotSign, match=r"name the agency's own, adapters/NAME/agency\.yaml"):
        sign(tmp_path / "agency.yaml")
