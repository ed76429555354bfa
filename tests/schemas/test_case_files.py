"""The Fund's adapter behind its agent: a document is filed once, whatever happens, and a letter gets its number."""

from pathlib import Path
from typing import Any

import pytest

from adapters.social_security.adapter import CaseFiles
from deploy.demo import notices
from deploy.demo.papers import LETTER
from gateway.adapter import Attachment, Broken, Document, TryLater


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaseFiles:
    """Over an empty folder."""
    monkeypatch.setenv("SOCIAL_SECURITY_FILES", str(tmp_path))
    return CaseFiles()


def handed(number: str, service: str = LETTER, body: Any = None, *attached: Attachment) -> Document:
    """A document of this id."""
    return Document(
        id=number,
        kind="document",
        service=service,
        sender="justice.correspondence",
        on_behalf=None,
        reference="MOJ-2026/1",
        purpose="official_correspondence",
        case=None,
        submitted="2026-11-21T06:00:00Z",
        unit=None,
        attachments=attached,
        body=body,
        raw=b"",
        redelivered=False,
        late=0,
        seconds=2.0,
    )


async def test_the_same_document_has_the_same_number(files: CaseFiles) -> None:
    """It is looked up by its id, so that a second hand-over files nothing."""
    assert await files.take(handed("a")) == "NSSF-2026/1"
    assert await files.take(handed("b")) == "NSSF-2026/2"
    assert await files.take(handed("a")) == "NSSF-2026/1"


async def test_news_of_a_death_has_no_number(files: CaseFiles) -> None:
    """Nobody answers an event."""
    assert await files.take(handed("a", notices.DEATH, notices.death())) is None


async def test_a_file_is_where_the_agent_laid_it(files: CaseFiles, tmp_path: Path) -> None:
    """The adapter reads it there, and keeps what it saw."""
    (tmp_path / "ruling.pdf").write_bytes(b"12345")
    file = Attachment("f", "sha-256=:x:", 5, "application/pdf", path=str(tmp_path / "ruling.pdf"))
    await files.take(handed("a", LETTER, {}, file))
    assert '"bytes": 5' in (tmp_path / "a.json").read_text("utf-8")


async def test_what_it_does_not_know_is_refused(files: CaseFiles) -> None:
    """For good: asking again changes nothing."""
    with pytest.raises(Broken):
        await files.take(handed("a", "tax.compliance_check.v1"))


async def test_a_disk_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was taken, so the agent comes back."""
    monkeypatch.setenv("SOCIAL_SECURITY_FILES", str(tmp_path / "gone"))
    files = CaseFiles()
    with pytest.raises(TryLater):
        await files.take(handed("a"))
