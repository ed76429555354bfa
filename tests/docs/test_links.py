"""Nothing that a document points at is missing."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, page, pages

PATH = re.compile(
    r"`((?:gateway|tests|docs|deploy|schemas|adapters|policies|requirements)/[\w./-]+)(?<!key\.json)(?<!jwk\.json)`"
)
"""A path of the project in a sentence. NAME in it stands for a name; the keys folder has a gateway/ of its own."""
MACHINE = re.compile(r"(?<![\w.<])/(?:home|root|Users|work|tmp|opt(?!/gateway)|mnt|private/tmp)/[\w.]")

every_page = pytest.mark.parametrize("document", pages(), ids=lambda document: document.place)


@every_page
def test_links_lead_somewhere(document: Page) -> None:
    """A link leads to a file of the project, and to a heading that it has."""
    for target in document.links():
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.path.parent / name).resolve() if name else document.path
        assert path.exists(), f"{document.place} links to {target}"
        if anchor:
            assert anchor in page(path.relative_to(ROOT).as_posix()).anchors(), f"{document.place} links to {target}"


@every_page
def test_paths_that_are_named_exist(document: Page) -> None:
    """A path in a sentence is one of the project, or of a file that the page itself writes."""
    written = {Path((block.file or "").removeprefix("+")) for block in document.blocks()}
    made = written | {parent for path in written for parent in path.parents}
    named = [Path(found) for found in PATH.findall(document.prose)]
    missing = [path for path in named if not (ROOT / path).exists() and path not in made]
    assert [path for path in missing if "NAME" not in path.name] == []


@every_page
def test_no_path_of_somebodys_machine_is_named(document: Page) -> None:
    """What a reader copies works on the reader's machine."""
    assert MACHINE.findall(document.text) == []
