"""Every alert has its page, every page its alert, and what a page tells to type exists."""

import re
import shlex

import pytest

from tests.docs.pages import Page, page, pages
from tests.docs.test_complete import COMMANDS
from tests.operations.test_rules import ALERTS, NAMES

PAGES = {each.path.stem: each for each in pages() if each.place.startswith("docs/runbooks/")}
INDEX = PAGES.pop("README")
CHAPTERS = ["What it means", "How to look", "How to mend it", "How to see that it is mended"]
OTHERS = {"curl", "df", "grep", "journalctl", "openssl", "promtool", "psql", "ss", "systemctl", "timedatectl"}
OTHERS |= {"awk", "chronyc", "du", "iostat", "sed", "sort", "tail", "uniq"}
"""Programs of the machine that pages may use."""

every_page = pytest.mark.parametrize("runbook", PAGES.values(), ids=lambda each: each.path.stem)


def test_every_alert_has_its_page() -> None:
    """And no page is about an alert that is gone; the index names each with its severities."""
    assert sorted(PAGES) == NAMES
    for name in NAMES:
        severities = sorted({rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name})
        assert f"| [{name}]({name}.md) | {', '.join(severities)} | " in INDEX.text


@every_page
def test_a_page_has_the_same_chapters(runbook: Page) -> None:
    """Whoever reads one at night knows where to look."""
    assert runbook.headings() == [runbook.path.stem, *CHAPTERS]
    assert "text promql\n" in runbook.section("How to look")
    assert "text promql\n" in runbook.section("How to see that it is mended")


def _lines(runbook: Page) -> list[list[str]]:
    """Each program of a pipe, with its words."""
    lines = [line for block in runbook.blocks() if block.language == "sh" for line in block.text.splitlines()]
    typed = re.findall(r"`((?:gateway|systemctl) [^`]+)`", runbook.prose)
    tokens = [list(shlex.shlex(line, posix=True, punctuation_chars="|")) for line in [*lines, *typed]]
    pipes = [" ".join(shlex.quote(word) if word != "|" else "\0" for word in each).split("\0") for each in tokens]
    return [shlex.split(part) for pipe in pipes for part in pipe]


@every_page
def test_commands_exist(runbook: Page) -> None:
    """A command of the gateway is one, with options that it has; any other program is one that machines have."""
    for words in _lines(runbook):
        if words[0] != "gateway":
            assert words[0] in OTHERS, words
            continue
        name = next(
            (f"gateway {' '.join(words[1:n])}" for n in (3, 2) if f"gateway {' '.join(words[1:n])}" in COMMANDS), ""
        )
        assert name, words
        known = {option for each in COMMANDS[name].params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_objectives_are_those_of_the_rules() -> None:
    """docs/objectives.md has the targets and the windows by which alerts fire."""
    text = page("docs/objectives.md").text
    rules = [rule["expr"] for rule in ALERTS if rule["alert"].endswith("Budget")]
    assert {float(each) for rule in rules for each in re.findall(r"\* (0\.0\d+)", rule)} == {0.001, 0.01}
    assert ("| 99.9 % |" in text, text.count("| 99 % |")) == (True, 2)
    windows = {tuple(re.findall(r"ratio_rate(\w+) > ([\d.]+)", rule)) for rule in rules}
    assert windows == {(("1h", "14.4"), ("5m", "14.4")), (("6h", "6"), ("30m", "6")), (("3d", "1"), ("6h", "1"))}
