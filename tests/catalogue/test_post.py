"""Documents and events in a catalogue: what a sound one means, and every way in which one can be wrong.

``post/`` is laid over ``base/``; each case lies over both, as in ``test_cases.py``, and is written anew the same way.
"""

import os
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from gateway.catalogue.reading import render
from gateway.core.life import Accepted, Approval, End, Life, Span
from gateway.core.model import AgencyId, Catalogue, Kind, Obligation, ServiceId, Standing, SystemId
from tests.catalogue.conftest import HERE, Load

CASES = sorted(each for each in (HERE / "post_cases").iterdir() if each.is_dir())
ENVIRONMENT = {"INTERIOR_URL": "https://registry.interior.example"}
NOTICE, ALERT = ServiceId("letters.notice.v1"), ServiceId("disaster.alert.v1")
CORRECTION = ServiceId("population.correction.v1")
FINANCE, INTERIOR, SILA, SAENSUK = map(AgencyId, ("finance", "interior", "sila", "saensuk"))


@pytest.fixture
def post(base: Path) -> Path:
    """A copy of the sound catalogue with documents."""
    return Path(shutil.copytree(HERE / "post", base, dirs_exist_ok=True))


@pytest.fixture
def sound(post: Path, loading: Load) -> Catalogue:
    loaded = loading(post, environment=ENVIRONMENT)
    assert render(loaded.findings) == ""
    assert loaded.catalogue is not None
    return loaded.catalogue


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_told_with_file_line_and_remedy(case: Path, post: Path, loading: Load) -> None:
    """Every mistake of the case is found in one run, and nothing else is."""
    shutil.copytree(case, post, dirs_exist_ok=True, ignore=shutil.ignore_patterns("expected.txt", "remove.txt"))
    removed = case / "remove.txt"
    for name in removed.read_text("utf-8").split() if removed.exists() else []:
        (post / name).unlink()
    loaded = loading(post, environment=ENVIRONMENT)
    text = render(loaded.findings)
    if os.environ.get("GOLDEN") == "write":
        (case / "expected.txt").write_text(text, "utf-8")
    assert text == (case / "expected.txt").read_text("utf-8")
    assert (loaded.catalogue is None) == (": error: " in text)


def test_a_document_has_a_life(sound: Catalogue) -> None:
    """Everything that service.yaml says of it is in the model; nothing answers it."""
    service = sound.services[NOTICE]
    files = Accepted(("application/pdf",), 10485760, 3)
    days = Span(working_days=3), Span(working_days=10)
    assert service.life == Life("/file", End.REGISTERED, *days, attachments=files, keep_days=90)
    assert (service.kind, service.request.fits({"file": "A-1", "subject": "x"})) == (Kind.DOCUMENT, True)
    assert not any(service.response.fits(each) for each in ({"file": "A-1"}, None, "x", 1))


def test_what_is_left_out_has_its_default(sound: Catalogue) -> None:
    """Thirty days to arrive, a year's keeping, done on arrival, no files, no order."""
    assert sound.services[CORRECTION].life == Life(None, End.REGISTERED, Span(30 * 86400), None, None, 365)
    assert sound.services[ALERT].life == Life(None, End.ARRIVED, Span(12 * 3600), None, None, 365)
    assert sound.services[ServiceId("tax.payment.v1")].life is None


def test_the_calendar_is_the_instances(sound: Catalogue) -> None:
    """Working days are those of schemas/common/calendar.yaml."""
    works = [sound.calendar.works(date(2026, 4, day)) for day in (10, 11, 13, 14)]
    assert works == [True, False, True, False]


def test_each_document_that_a_way_takes_is_an_endpoint(sound: Catalogue) -> None:
    """The first way that fits; exchanges and events that fit a pattern are none."""
    taken = {name: endpoint.protocol for name, endpoint in sound.agencies[SAENSUK].endpoints.items()}
    assert taken == {NOTICE: "python", CORRECTION: "python"}
    protocols = {name: endpoint.protocol for name, endpoint in sound.agencies[INTERIOR].endpoints.items()}
    assert protocols == {ServiceId("population.person_lookup.v1"): "http", CORRECTION: "http", ALERT: "event"}


def test_a_way_is_as_the_folder_says(sound: Catalogue) -> None:
    """Options are the protocol's, with the environment's addresses; all others have their defaults."""
    way = sound.agencies[INTERIOR].way(CORRECTION)
    assert way is not None
    assert way.options == {
        "url": "https://registry.interior.example/corrections",
        "secret_headers": {"X-Api-Key": "interior.register"},
        "number": "/register/number",
        "allow": [],
    }
    rest = (way.name, way.deadline, way.concurrency, way.max_waiting, way.unit, way.receipts, way.standing)
    assert rest == ("http", 5.0, 4, 50_000, None, False, Standing.ACTIVE)


def test_receipts_have_their_way(sound: Catalogue) -> None:
    """Only the way that says so takes them."""
    assert [sound.agencies[each].receipts is not None for each in (FINANCE, SILA)] == [True, False]


def test_a_mailbox_may_be_some_systems_own(sound: Catalogue) -> None:
    """Named, they alone fetch there; a way that names none admits all of them."""
    finance, interior = (sound.agencies[each].deliveries[0] for each in (FINANCE, INTERIOR))
    assert [finance.admits(SystemId(f"finance.{each}")) for each in ("archive", "local_tax")] == [True, False]
    assert (interior.systems, interior.admits(SystemId("interior.any"))) == (frozenset(), True)


def test_what_no_way_takes_any_more_is_for_who_has_all(sound: Catalogue) -> None:
    """A service that was taken out of the folder opens what came by it to no system that its mailbox left out."""
    finance = sound.agencies[FINANCE]
    systems = [SystemId(f"finance.{each}") for each in ("archive", "local_tax")]
    for gone in (
        finance,
        replace(finance, deliveries=tuple(replace(each, services=()) for each in finance.deliveries)),
    ):
        assert [gone.admits(each, NOTICE, None) for each in systems] == [True, False]


def test_an_event_has_its_publishers(sound: Catalogue) -> None:
    """The publisher's endpoint names the systems in full."""
    endpoint = sound.endpoint(INTERIOR, ALERT)
    assert endpoint is not None
    assert endpoint.options == {"systems": (SystemId("interior.civil_registry"),)}


def test_a_group_of_providers_is_a_grant_for_each_that_takes_it(sound: Catalogue) -> None:
    """One agreement sends a letter to every municipality with a way for it."""
    keys = [key for key in sound.grants if key[1] == NOTICE]
    assert sorted(keys) == [(each, NOTICE, SystemId("finance.local_tax")) for each in (SAENSUK, SILA)]
    assert [grant.index for key in keys for _, grant in sound.grants[key]] == [0, 0]


def test_an_approval_asks_for_the_first_person_too(sound: Catalogue) -> None:
    """Nobody can be held apart from somebody who is not known."""
    ((_, grant),) = sound.grants[INTERIOR, CORRECTION, SystemId("finance.local_tax")]
    assert grant.approval == Approval("provider", "registrar")
    assert grant.require == {Obligation.CASE, Obligation.PERSON}


def test_who_sees_what_was_sent_is_the_agencys_choice(sound: Catalogue) -> None:
    """``document_visibility: system`` keeps it to the system that sent it."""
    assert [sound.agencies[each].documents_by_system for each in (FINANCE, INTERIOR)] == [True, False]


def test_a_mandate_is_found_by_who_acts(sound: Catalogue) -> None:
    """With its days and for whom."""
    (held,) = sound.mandates[AgencyId("platform"), NOTICE]
    assert (held.agency, held.valid_until) == (FINANCE, date(2026, 12, 31))


def test_a_system_on_the_same_machine_may_be_spoken_to_without_tls(post: Path, loading: Load) -> None:
    """Loopback leaves no machine: nothing is warned of, whereas the same by a name of the network is."""
    loaded = loading(post, environment={"INTERIOR_URL": "http://127.0.0.1:8080"})
    assert [each for each in loaded.findings if "unencrypted" in each.message] == []
    loaded = loading(post, environment={"INTERIOR_URL": "http://registry.interior.example"})
    assert sum("unencrypted" in each.message for each in loaded.findings) == 2
