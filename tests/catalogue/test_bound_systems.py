"""Which systems must bind their tokens to client certificates, as their agency's folder says."""

from pathlib import Path

import pytest

from tests.catalogue.conftest import Load

SYSTEM = 'local_tax: {scopes: ["population:read"], keys: finance.local_tax'


def written(base: Path, more: str) -> None:
    path = base / "adapters/finance/agency.yaml"
    text = path.read_text("utf-8")
    assert SYSTEM in text
    path.write_text(text.replace(SYSTEM, SYSTEM + more), "utf-8")


@pytest.mark.parametrize(
    ("more", "bound"), [(", certificate_bound: true", True), (", certificate_bound: false", False), ("", False)]
)
def test_bound_systems(base: Path, loading: Load, more: str, bound: bool) -> None:  # noqa: FBT001 - a column of the table
    """A system is bound where its folder says so, and no other of the agency is."""
    written(base, more)
    catalogue = loading(base).catalogue
    assert catalogue is not None
    found = {str(each.id): each.certificate_bound for each in catalogue.systems.values()}
    assert found == {**dict.fromkeys(found, False), "finance.local_tax": bound}


@pytest.mark.parametrize("value", ["yes", "1", '"true"', "null"])
def test_neither_true_nor_false(base: Path, loading: Load, value: str) -> None:
    """What is neither true nor false stops the catalogue: nobody has to guess whether tokens are bound."""
    written(base, f", certificate_bound: {value}")
    findings = loading(base).findings
    assert [each.file for each in findings if each.level == "error"][:1] == ["adapters/finance/agency.yaml"]
