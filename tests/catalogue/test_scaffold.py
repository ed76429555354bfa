"""``gateway check --write``: adds what is missing, changes nothing, and comes to rest."""

import shutil
from pathlib import Path

from gateway.catalogue.derived import files, stale
from gateway.catalogue.scaffold import write
from tests.catalogue.conftest import NOW, ZONE, Load

PAYMENTS = "policies/FIN-MOI-2026-003.decisions.yaml"


def _write(root: Path) -> tuple[str, ...]:
    (root / "docs").mkdir(exist_ok=True)
    return write(root, instance="TEST", zone=ZONE, keys=root / "keys", at=NOW)


def test_missing_decision_tests_are_added_once(base: Path, loading: Load) -> None:
    """Fresh agreements get tests that hold and need every line; a second run has nothing to do."""
    golden = {path.name: path.read_text("utf-8") for path in base.glob("policies/*.decisions.yaml")}
    for path in base.glob("policies/*.decisions.yaml"):
        path.unlink()
    assert set(_write(base)) == {*files(), *(f"policies/{name}" for name in golden)}
    assert {path.name: path.read_text("utf-8") for path in base.glob("policies/*.decisions.yaml")} == golden
    assert _write(base) == ()
    assert loading(base).findings == ()


def test_tests_that_people_wrote_stay_as_they_are(base: Path, loading: Load) -> None:
    """New tests go behind the old ones; comments, order and spelling are kept."""
    old = (
        "# what we agreed on\n\n- client: interior.civil_registry   # the registry\n  provider: finance\n"
        "  service: tax.payment.v1\n  purpose: address_change\n  scope: tax:write\n"
        "  at: 2026-05-01T09:30:00+07:00\n  verdict: permit"
    )
    (base / PAYMENTS).write_text(f"{old}   # yes\n\n# the end\n", "utf-8")
    assert PAYMENTS in _write(base)
    text = (base / PAYMENTS).read_text("utf-8")
    assert text.startswith(f"{old}   # yes\n- {{client: interior.civil_registry, ")
    assert text.endswith("\n\n# the end\n")
    assert text.count("verdict: permit") == 1
    assert loading(base).findings == ()


def test_a_group_is_tested_by_three_of_its_systems(base: Path) -> None:
    """A group of many municipalities does not make thousands of tests."""
    agreement = base / "policies/FIN-MOI-2026-003.yaml"
    agreement.write_text(agreement.read_text("utf-8").replace("[interior.civil_registry]", '["group:towns"]'), "utf-8")
    for number in range(5):
        shutil.copytree(base / "adapters/interior", base / f"adapters/town{number}")
        (base / f"adapters/town{number}/agency.yaml").write_text(
            f"agency: town{number}\ntitle: {{en: Town}}\nclass: local\ncountry: KH\ngroups: [towns]\n"
            "contacts: {technical: x, security: x, data_protection: x}\n"
            'systems: {desk: {keys: "https://id.example/jwks", scopes: ["tax:write"]}}\n',
            "utf-8",
        )
    (base / PAYMENTS).unlink()
    _write(base)
    text = (base / PAYMENTS).read_text("utf-8")
    assert text.count("verdict: permit") == 3
    assert _write(base) == ()


def test_a_catalogue_with_errors_gets_no_tests(base: Path) -> None:
    """What a broken catalogue would decide is not written down as its meaning."""
    (base / PAYMENTS).unlink()
    (base / "schemas/tax/payment.v1/response.json").unlink()
    assert set(_write(base)) == set(files())


def test_derived_files_that_differ_are_errors(base: Path) -> None:
    """A derived file that somebody edited, or that is missing, is told with the command that mends it."""
    _write(base)
    name = next(iter(files()))
    (base / name).write_text("{}", "utf-8")
    assert [(each.file, each.remedy) for each in stale(base)] == [(name, "Run gateway check --write.")]
