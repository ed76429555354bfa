"""The documents as their tests see them: headings, rows of tables, blocks of code, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the other words behind the fence, its text."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def played(self) -> bool:
        """Whether its author means it to be played as it stands."""
        return "no-run" not in self.words

    @property
    def file(self) -> str | None:
        """The file that it is the text of, below the catalogue's folder; ``+`` before the name adds to its end."""
        return next((word for word in self.words if "/" in word), None)


@dataclass(frozen=True, slots=True)
class Page:
    """One document."""

    path: Path
    text: str

    @property
    def place(self) -> str:
        """Its path below the root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _FENCE.sub("", self.text)

    def headings(self) -> list[str]:
        """Every heading, without its marks."""
        return _HEADING.findall(self.prose)

    def anchors(self) -> set[str]:
        """What a link can lead to, as GitHub makes it of headings."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings()}

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next one of its level or above."""
        start = re.search(rf"^(#+) {re.escape(heading)}$", self.text, re.MULTILINE)
        assert start is not None, f"{self.place} has no heading {heading!r}"
        end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.MULTILINE).search(self.text, start.end())
        return self.text[start.end() : end.start() if end else None]

    def within(self, heading: str) -> "Page":
        """One chapter of it, as a page."""
        return Page(self.path, self.section(heading))

    def rows(self) -> dict[str, str]:
        """The rows of tables by the name, in backticks, that stands first in them."""
        return {found[1]: found[0] for found in re.finditer(r"^\| `([^`]+)`.*$", self.text, re.MULTILINE)}

    def blocks(self) -> Iterator[Block]:
        """Every block."""
        for found in _FENCE.finditer(self.text):
            language, *words = found[1].split() or [""]
            yield Block(language, tuple(words), found[2], self.text.count("\n", 0, found.start()) + 1)

    def links(self) -> Iterator[str]:
        """Every target of a link."""
        return (found[1] for found in _LINK.finditer(self.prose))


@lru_cache(maxsize=1)
def pages() -> tuple[Page, ...]:
    """Every document of the project."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return tuple(Page(path, path.read_text("utf-8")) for path in sorted(paths))


def page(place: str) -> Page:
    """The document at a path below the root."""
    path = ROOT / place
    return Page(path, path.read_text("utf-8"))
