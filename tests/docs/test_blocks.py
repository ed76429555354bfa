"""Every block of code in the documents does what the document says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.catalogue import members
from gateway.catalogue.files import alone
from gateway.catalogue.reading import Reading
from tests.docs.pages import Block, Page, pages
from tests.docs.stage import Stage, commands

ENDPOINTS: TypeAdapter[Any] = TypeAdapter(list[members.Endpoint])
LANGUAGES = {"console", "http", "json", "python", "sh", "text", "yaml"}

PLAYED = [each for each in pages() if any(block.language in ("console", "python") for block in each.blocks())]


@pytest.mark.parametrize("page", PLAYED, ids=lambda page: page.place)
def test_a_page_can_be_followed(page: Page, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom: files are written, commands print what stands below them, Python runs."""
    monkeypatch.chdir(stage.folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in page.blocks():
        where = f"{page.place}:{block.line}"
        if block.file:
            _write(stage.folder, block)
        elif block.language == "python":
            code = compile(block.text, where, "exec")
            if block.played:
                exec(code, names)  # noqa: S102 - our own documents
        elif block.language == "console" and block.played:
            _type(stage, block, where)


def _write(folder: Path, block: Block) -> None:
    assert block.file is not None
    path = folder / block.file.removeprefix("+")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if block.file.startswith("+") else "w", encoding="utf-8") as file:
        file.write(block.text)


def _type(stage: Stage, block: Block, where: str) -> None:
    for command in commands(block.text):
        printed = stage.run(command.line)
        assert command.shows(printed), f"{where}: $ {command.line}\n{printed}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.place)
def test_blocks_say_what_they_are(page: Page) -> None:
    """A block without a known language is one that no test looks at."""
    assert {block.language for block in page.blocks()} <= LANGUAGES


def test_examples_of_endpoints_are_endpoints(tmp_path: Path) -> None:
    """A YAML block marked endpoints can stand below ``endpoints:`` in an agency's folder."""
    found = [block for page in pages() for block in page.blocks() if "endpoints" in block.words]
    assert found
    for block in found:
        path = tmp_path / "endpoints.yaml"
        path.write_text(block.text, "utf-8")
        source = Reading(alone(path)).yaml(path)
        assert source is not None
        ENDPOINTS.validate_python(source.value)
