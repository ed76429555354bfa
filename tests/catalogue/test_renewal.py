"""A reload as a value: from the last good files and what changed to what is taken over, and what is kept."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.catalogue.files import Files, Unread, look, read
from gateway.catalogue.renewal import MAX_SINGLY, Renewed, renewed
from gateway.catalogue.snapshot import Loader
from gateway.core.model import AgencyId, AgreementId, ServiceId, Standing, SystemId
from tests.catalogue.conftest import NOW, ZONE

INTERIOR = "adapters/interior/agency.yaml"
FINANCE = "adapters/finance/agency.yaml"
PAYMENTS = "policies/FIN-MOI-2026-003.yaml"
LOOK_UP = "schemas/population/person_lookup.v1"
PAYMENT = "schemas/tax/payment.v1"


@dataclass(frozen=True, slots=True)
class Desk:
    """Folders that a test changes, and the last good state of them."""

    root: Path
    good: Files
    loader: Loader

    def renewed(self, new: Files | None = None) -> Renewed:
        found = renewed(self.good, new or self.files(), lambda files: self.loader.load(files, NOW))
        assert found is not None
        assert found.loaded.catalogue is not None
        return found

    def files(self) -> Files:
        return read(self.root, self.root / "keys")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text("utf-8")
        assert old in text
        (self.root / name).write_text(text.replace(old, new), "utf-8")

    def narrow_the_record(self) -> None:
        """Take the name out of the record, which an agreement discloses: the error stands in the agreement."""
        (self.root / LOOK_UP / "response.json").write_text(
            '{"type": "object", "properties": {"identifier": {"type": "string"}}, "additionalProperties": false}'
        )
        for path in (self.root / LOOK_UP / "examples").glob("response.*"):
            path.write_text('{"identifier": "KH-90010001"}')


@pytest.fixture
def desk(base: Path) -> Desk:
    return Desk(base, read(base, base / "keys"), Loader("TEST", ZONE))


def test_a_sound_change_is_taken_over_whole(desk: Desk) -> None:
    """Nothing is kept where nothing is wrong."""
    desk.edit(INTERIOR, "deadline: 2s", "deadline: 3s")
    found = desk.renewed()
    assert (found.kept, found.files) == ({}, desk.files())
    assert found.loaded.catalogue is not None
    endpoint = found.loaded.catalogue.endpoint(AgencyId("interior"), ServiceId("population.person_lookup.v1"))
    assert endpoint is not None
    assert endpoint.deadline == 3.0


def _half(desk: Desk) -> None:
    path = desk.root / FINANCE
    path.write_text(path.read_text("utf-8")[:250], "utf-8")


BROKEN: dict[str, Callable[[Desk], object]] = {
    "half-written": _half,
    "empty": lambda desk: (desk.root / FINANCE).write_text(""),
    "no text": lambda desk: (desk.root / FINANCE).write_bytes(b"\xff\xfe"),
    "too large": lambda desk: (desk.root / FINANCE).write_text(" " * 2_000_000),
    "a folder alone": lambda desk: (desk.root / FINANCE).unlink(),
    "its code": lambda desk: (desk.root / "adapters/finance/adapter.py").write_text("class Ledger(:"),
    "its key": lambda desk: (desk.root / "keys/agencies/finance.local_tax.jwks.json").write_text("{"),
    "a private key": lambda desk: (desk.root / "keys/agencies/finance.x.jwk.json").write_text('{"d": "x"}'),
    "an unknown key": lambda desk: desk.edit(FINANCE, "class: gov", "class: gov\nklass: gov"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_agency_keeps_its_last_good_version(desk: Desk, how: str) -> None:
    """Beside it a good change and a suspension hold; its own folder, its code and its keys stay as they were."""
    BROKEN[how](desk)
    desk.edit(INTERIOR, "class: gov", "class: gov\nstanding: suspended")
    found = desk.renewed()
    assert list(found.kept) == ["adapters/finance"]
    assert all(
        each.file.startswith(("adapters/finance/", "keys/agencies/finance.")) for each in found.kept["adapters/finance"]
    )
    assert found.files.changed(desk.good) == {"adapters/interior"}
    assert found.loaded.catalogue is not None
    assert found.loaded.catalogue.agencies[AgencyId("interior")].standing is Standing.SUSPENDED
    assert SystemId("finance.local_tax") in found.loaded.catalogue.systems


@pytest.mark.parametrize("name", [f"{PAYMENT}/service.yaml", f"{PAYMENT}/request.json", PAYMENTS])
def test_services_and_agreements_are_kept_too(desk: Desk, name: str) -> None:
    """A service's folder and an agreement are each kept by themselves."""
    (desk.root / name).write_text("{")
    found = desk.renewed()
    assert list(found.kept) == ["policies/FIN-MOI-2026-003" if name == PAYMENTS else PAYMENT]
    assert found.files.same(desk.good)


def test_a_service_narrowed_under_an_agreement_is_kept(desk: Desk) -> None:
    """The error stands in a file that nobody touched: the change that caused it is left out, and another is not."""
    desk.narrow_the_record()
    desk.edit(PAYMENTS, "title: The", "standing: suspended\ntitle: The")
    found = desk.renewed()
    assert list(found.kept) == [LOOK_UP]
    assert {each.file for each in found.kept[LOOK_UP]} == {"policies/MOI-FIN-2026-014.yaml"}
    assert found.loaded.catalogue is not None
    assert found.loaded.catalogue.agreements[AgreementId("FIN-MOI-2026-003")].standing is Standing.SUSPENDED


def test_changes_that_need_each_other_come_together(desk: Desk) -> None:
    """A renamed member and the agreement that discloses it are taken over, beside a change that cannot be."""
    desk.edit(PAYMENTS, "    scope: tax:write", "    scope: tax:write\n    disclose: [/number]")
    before = Desk(desk.root, desk.files(), desk.loader)
    before.renewed()
    before.edit(PAYMENTS, "[/number]", "[/receipt]")
    for path in (desk.root / PAYMENT).rglob("response*"):
        path.write_text(path.read_text("utf-8").replace('"number"', '"receipt"'), "utf-8")
    before.narrow_the_record()
    found = before.renewed()
    assert list(found.kept) == [LOOK_UP]
    assert found.files.changed(before.good) == {PAYMENT, "policies/FIN-MOI-2026-003"}


def test_an_agency_that_agreements_name_does_not_vanish(desk: Desk) -> None:
    """Its folder is removed and its agreements are not: it stays, and the errors say what still names it."""
    shutil.rmtree(desk.root / "adapters/interior")
    found = desk.renewed()
    assert list(found.kept) == ["adapters/interior"]
    assert {each.file.partition("/")[0] for each in found.kept["adapters/interior"]} == {"policies"}
    assert found.files.same(desk.good)


def test_an_agency_goes_with_its_agreements(desk: Desk) -> None:
    """Removed together they are gone, also where another change is left out."""
    shutil.rmtree(desk.root / "adapters/finance")
    shutil.rmtree(desk.root / "policies")
    found = desk.renewed()
    assert (found.kept, found.files) == ({}, desk.files())
    (desk.root / INTERIOR).write_text("agency: [")
    again = desk.renewed()
    assert again.files.changed(desk.good) == found.files.changed(desk.good)
    assert list(again.kept) == ["adapters/interior"]


def test_what_is_gone_altogether_is_a_lost_folder(desk: Desk) -> None:
    """No schemas/, adapters/ and policies/, a lost volume say, or one that cannot be listed, takes nothing back."""
    gone = replace(desk.good, contents={}, folders=frozenset({"keys", "keys/agencies"}))
    closed = {**desk.good.contents, "policies": Unread("the folder cannot be listed", "Let it be read.", folder=True)}
    for new in (gone, replace(desk.good, contents={k: v for k, v in closed.items() if "policies/" not in k})):
        found = desk.renewed(new)
        assert found.files.same(desk.good)
        assert found.kept.keys() == new.changed(desk.good)


def test_an_agency_that_cannot_be_listed_is_kept(desk: Desk) -> None:
    """What nobody can read is no reason to forget it."""
    contents = {name: held for name, held in desk.good.contents.items() if not name.startswith("adapters/finance/")}
    closed = Unread("the folder cannot be listed", "Let it be read.", folder=True)
    found = desk.renewed(replace(desk.good, contents={**contents, "adapters/finance": closed}))
    assert (list(found.kept), found.files.same(desk.good)) == (["adapters/finance"], True)


@pytest.mark.parametrize(("many", "taken"), [(MAX_SINGLY - 1, True), (MAX_SINGLY, False)])
def test_the_search_is_bounded(desk: Desk, *, many: int, taken: bool) -> None:
    """More changes than are tried one by one are taken over together, or not at all."""
    desk.narrow_the_record()
    for number in range(many):
        path = shutil.copytree(desk.root / PAYMENT, desk.root / f"schemas/tax/payment_{number}.v1")
        service = path / "service.yaml"
        service.write_text(service.read_text("utf-8").replace("tax.payment.v1", f"tax.payment_{number}.v1"), "utf-8")
    found = desk.renewed()
    assert len(found.files.changed(desk.good)) == (many if taken else 0)
    assert len(found.kept) == (1 if taken else many + 1)


def test_what_was_parsed_before_changes_nothing(desk: Desk) -> None:
    """A loader that knows earlier versions finds what one finds that knows none."""
    versions = [desk.good]
    for how in ("half-written", "a private key", "its code"):
        BROKEN[how](desk)
        versions.append(desk.files())
    for files in (*versions, *reversed(versions)):
        fresh = Loader("TEST", ZONE).load(files, NOW)
        again = desk.loader.load(files, NOW)
        assert again.findings == fresh.findings
        assert (again.catalogue and again.catalogue.digest) == (fresh.catalogue and fresh.catalogue.digest)


def test_a_look_sees_what_a_reading_would(desk: Desk) -> None:
    """Files of the same size and time are told apart, names with a dot are nobody's, secrets are seen and not held."""
    keys = desk.root / "keys"
    before = look(desk.root, keys)
    (desk.root / "adapters/interior/.agency.yaml.swp").write_text("x")
    assert look(desk.root, keys) == before
    (keys / "secrets").mkdir()
    (keys / "secrets/interior.token").write_text("s3cret")
    assert look(desk.root, keys).keys() - before.keys() == {"keys/secrets", "keys/secrets/interior.token"}
    found = desk.files()
    assert found.changed(desk.good) == {"adapters/interior"}
    assert b"s3cret" not in found.contents.values()
    assert found.seals().keys() == {"finance", "interior"}
    assert "s3cret" not in repr(found)


def test_a_pipe_is_not_waited_for(desk: Desk) -> None:
    """What is no regular file is a finding."""
    (desk.root / INTERIOR).unlink()
    os.mkfifo(desk.root / INTERIOR)
    found = desk.renewed()
    assert [each.message for each in found.kept["adapters/interior"]] == ["is no regular file"]
