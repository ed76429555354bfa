"""What the story's agencies write to each other fits the agreed schemas; plans are files that programs can open."""

import re
from typing import Any

import pytest

from adapters.nang_lae.adapter import REMEMBERED, Siren
from deploy.demo import notices, papers
from gateway.adapter import Broken, Document
from gateway.core.model import Catalogue, ServiceId

WRITTEN = {
    papers.APPLICATION: papers.application(),
    papers.LETTER: dict(papers.LETTER_BODY),
    papers.ALERT: papers.alert(),
    papers.CORRECTION: papers.correction(),
    notices.DEATH: notices.death(),
}


@pytest.mark.parametrize("service", WRITTEN)
def test_every_paper_fits(catalogue: Catalogue, service: str) -> None:
    """The story's documents are what their services say, and within their size."""
    assert catalogue.services[ServiceId(service)].request.faults(WRITTEN[service]) == ()


@pytest.mark.parametrize("files", [(), (notices.RULING,)], ids=["alone", "with a file"])
def test_every_letter_fits(catalogue: Catalogue, files: tuple[papers.File, ...]) -> None:
    """So do the letters of the story over Kafka."""
    written = notices.letter(1, "National Social Security Fund", files=files)
    assert catalogue.services[ServiceId(papers.LETTER)].request.faults(written) == ()


@pytest.mark.parametrize("file", papers.PLANS, ids=lambda file: file.title)
def test_a_plan_is_a_pdf_file(file: papers.File) -> None:
    """Its table leads to each of its objects, so that no reader has to repair it."""
    places = re.findall(rb"(\d{10}) 00000 n ", file.content)
    assert file.content.startswith(b"%PDF-1.4\n")
    for number, place in enumerate(places, 1):
        assert file.content[int(place) :].startswith(b"%d 0 obj" % number)
    start = int(file.content.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    assert file.content[start:].startswith(b"xref\n")


def test_plans_are_named_by_what_they_are() -> None:
    """Two plans have two digests, and the application names each."""
    named = [plan["file"]["digest"] for plan in papers.application()["plans"]]
    assert named == [file.digest for file in papers.PLANS]
    assert len(set(named)) == 2


def _handed(name: str, body: Any, service: str = papers.ALERT) -> Document:
    return Document(
        id=name,
        kind="event",
        service=service,
        sender="disaster_prevention.warning_centre",
        on_behalf=None,
        reference=name,
        purpose="civil_protection",
        case=None,
        submitted="2026-11-21T06:40:00+00:00",
        unit=None,
        attachments=(),
        body=body,
        raw=b"{}",
        redelivered=False,
        late=0,
        seconds=2.0,
    )


async def test_the_siren_sounds_once_and_not_for_an_exercise() -> None:
    """The same id is the same alert; what is no alert in earnest is taken in silence."""
    siren = Siren()
    for name, status in (("d-1", "Actual"), ("d-1", "Actual"), ("d-2", "Exercise"), ("d-3", "Test")):
        await siren.take(_handed(name, papers.alert(status=status)))
    await siren.take(_handed("d-4", {**papers.alert(), "msgType": "Cancel"}))
    assert siren.sounded == 1


async def test_the_siren_takes_nothing_else_and_forgets() -> None:
    """A manifest that points another service at it is told so; what it remembers is bounded."""
    siren = Siren()
    with pytest.raises(Broken):
        await siren.take(_handed("d-1", {}, "correspondence.letter.v1"))
    for count in range(REMEMBERED + 5):
        await siren.take(_handed(f"d-{count}", papers.alert(status="Test")))
    assert len(siren._seen) == REMEMBERED
