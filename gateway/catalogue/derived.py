"""Files that are made of the program and kept beside it: JSON Schemas for editors, the page on refusals."""

import json
from pathlib import Path

from gateway.catalogue.manifests import FORMS, form
from gateway.catalogue.reading import Finding
from gateway.catalogue.refusal_page import markdown

FOLDER = "docs/reference/manifests"
REFUSALS = "docs/reference/refusals.md"


def files() -> dict[str, str]:
    """The text of every derived file, by its path below the root."""
    schemas = {
        f"{FOLDER}/{kind}.schema.json": json.dumps(form(kind), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for kind in FORMS
    }
    return {**schemas, REFUSALS: markdown()}


def stale(root: Path) -> tuple[Finding, ...]:
    """An error for each derived file that differs from what the program makes now.

    None where the catalogue lies apart from the program and nobody asked for its derived files.
    """
    if not (root / FOLDER).is_dir():
        return ()
    return tuple(
        Finding("error", name, 1, "is derived and differs from its source", "Run gateway check --write.")
        for name, text in files().items()
        if _text(root / name) != text
    )


def refresh(root: Path) -> tuple[str, ...]:
    """Write the derived files that differ, where the root has a docs/ for them. Gives their paths below the root."""
    written: list[str] = []
    if not (root / "docs").is_dir():
        return ()
    for name, text in files().items():
        path = root / name
        if _text(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written.append(name)
    return tuple(written)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
