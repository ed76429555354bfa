"""README is short and true."""

import re

from tests.docs.pages import ROOT, page
from tests.docs.test_complete import COMMANDS

README = page("README.md")


def test_readme_is_short() -> None:
    """At most 150 lines, of which the first screen says what this is and how to start it."""
    lines = README.text.splitlines()
    assert len(lines) <= 150
    assert "make demo" in "\n".join(lines[:40])


def test_readme_names_commands_that_exist() -> None:
    """Every ``gateway …`` in code is a command, every ``make …`` a target."""
    code = "\n".join([*re.findall(r"`([^`\n]+)`", README.prose), *(block.text for block in README.blocks())])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= targets
    for found in re.findall(r"(?:^|\$ |`)gateway ([a-z]+(?: [a-z]+)?)", code, re.MULTILINE):
        assert any(f"gateway {found} ".startswith(f"{command} ") for command in COMMANDS), found


def test_every_guide_is_reached_from_readme() -> None:
    """A page that no link leads to is read by nobody."""
    guides = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")}
    assert guides <= set(README.links())


def test_readme_has_a_place_for_figures() -> None:
    """Measured figures stand between their two marks."""
    assert re.search(r"^<!-- figures -->$[\s\S]*^<!-- /figures -->$", README.text, re.MULTILINE)
