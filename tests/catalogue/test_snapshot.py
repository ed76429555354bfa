"""The catalogue as a value: digest, groups, options, suspensions, bounds."""

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.catalogue.files import MAX_FILE_BYTES
from gateway.core.model import AgencyId, ServiceId, Standing, SystemId
from tests.catalogue.conftest import NOW, Load

INTERIOR = "adapters/interior/agency.yaml"
PAYMENTS = "policies/FIN-MOI-2026-003.yaml"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    "name",
    [
        INTERIOR,
        "schemas/common/person.json",
        "keys/agencies/finance.local_tax.jwks.json",
        "adapters/finance/adapter.py",
    ],
)
def test_the_digest_covers_every_file_that_was_read(name: str, base: Path, loading: Load) -> None:
    """A single byte more, in a manifest, a schema, a key file or code, is another catalogue."""
    before, again = loading(base).catalogue, loading(base).catalogue
    with (base / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    after = loading(base).catalogue
    assert before is not None
    assert again is not None
    assert after is not None
    assert before.digest == again.digest != after.digest


def test_the_digest_does_not_depend_on_where_the_folders_lie(base: Path, loading: Load, tmp_path: Path) -> None:
    """Two nodes with the same files in different places agree."""
    there = base.rename(tmp_path / "elsewhere")
    first = loading(there).catalogue
    second = loading(there.rename(base)).catalogue
    assert first is not None
    assert second is not None
    assert first.digest == second.digest


def test_a_group_stands_for_all_systems_of_its_agencies(base: Path, loading: Load) -> None:
    """Groups are resolved when the catalogue is read."""
    _edit(base / PAYMENTS, "[interior.civil_registry]", '["group:ministries"]')
    (base / "policies/FIN-MOI-2026-003.decisions.yaml").unlink()
    catalogue = loading(base).catalogue
    assert catalogue is not None
    (grant,) = catalogue.agreements["FIN-MOI-2026-003"].grants  # type: ignore[index]  # a plain name in a test
    assert grant.consumers == {"interior.civil_registry", "finance.local_tax", "finance.archive"}
    assert (AgencyId("finance"), ServiceId("tax.payment.v1"), SystemId("finance.archive")) in catalogue.grants


def test_the_environment_is_put_into_options(base: Path, loading: Load) -> None:
    """Where an environment is given its values stand in every text; otherwise the names stay."""
    bare = loading(base).catalogue
    full = loading(base, environment={"INTERIOR_URL": "https://registry.example"}).catalogue
    key = AgencyId("interior"), ServiceId("population.person_lookup.v1")
    assert bare is not None
    assert full is not None
    assert (before := bare.endpoint(*key)) is not None
    assert (after := full.endpoint(*key)) is not None
    assert before.options["url"] == "${INTERIOR_URL}/persons/lookup"
    assert after.options["url"] == "https://registry.example/persons/lookup"
    assert (after.deadline, after.concurrency, after.options["method"]) == (2.0, 20, "POST")


def test_a_suspension_never_breaks_the_catalogue(base: Path, loading: Load) -> None:
    """Agreements, signed ones too, and agencies can be suspended in their files at once, and nothing else changes."""
    for name in (PAYMENTS, "policies/MOI-FIN-2026-014.yaml"):
        _edit(base / name, "\ntitle:", "\nstanding: suspended\ntitle:")
    _edit(base / INTERIOR, "class: gov", "class: gov\nstanding: suspended")
    loaded = loading(base)
    assert loaded.findings == ()
    assert loaded.catalogue is not None
    assert {each.standing for each in loaded.catalogue.agreements.values()} == {Standing.SUSPENDED}


def test_an_agreement_is_warned_about_for_thirty_days(base: Path, loading: Load) -> None:
    """From thirty days before its end an agreement is warned about; afterwards too, and it never stops a start."""
    _edit(base / PAYMENTS, "until: 2027-12-31", f"until: {(NOW + timedelta(days=60)).date()}")
    (base / "policies/FIN-MOI-2026-003.decisions.yaml").write_text("[]\n")
    told = {days: loading(base, at=NOW + timedelta(days=days)) for days in (29, 30, 60, 61)}
    words = {
        days: [each.message for each in loaded.findings if "expire" in each.message] for days, loaded in told.items()
    }
    assert words == {
        29: [],
        30: ["the agreement expires on 2026-08-14"],
        60: ["the agreement expires on 2026-08-14"],
        61: ["the agreement expired on 2026-08-14"],
    }
    assert all(loaded.catalogue is not None for loaded in told.values())


def test_a_file_beyond_the_bound_is_not_read(base: Path, loading: Load) -> None:
    """What is too large is refused before it is parsed."""
    (base / "schemas/common/person.json").write_text(" " * (MAX_FILE_BYTES + 1), "utf-8")
    assert [each.message for each in loading(base).findings] == [f"is larger than {MAX_FILE_BYTES} bytes"]


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: " + "{b: " * 3000, "a: &x [1]\nb: [*x, *x]\n", "a: !!python/name:os.system 1\n"]
)
def test_hostile_yaml_is_a_finding(text: str, base: Path, loading: Load) -> None:
    """Deep nesting, aliases and tags end in a finding and nothing else."""
    (base / PAYMENTS).write_text(text, "utf-8")
    (base / "policies/FIN-MOI-2026-003.decisions.yaml").unlink()
    loaded = loading(base)
    assert loaded.catalogue is None
    assert {each.file for each in loaded.findings} == {PAYMENTS}


def test_an_empty_folder_says_what_is_missing(tmp_path: Path, loading: Load) -> None:
    """Nothing at all, or no such folder, is one finding with a remedy, not a crash."""
    for root in (tmp_path, tmp_path / "nowhere"):
        (found,) = loading(root).findings
        assert found.message == f"there is no schemas/, adapters/ or policies/ in {root}"
        assert "--root" in found.remedy
