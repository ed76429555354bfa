"""Broken catalogues, one folder each: what lies in it is laid over ``base/``, and every finding is compared whole.

``remove.txt`` names files and folders to take away, ``environment.txt`` gives variables as NAME=value lines. After a
deliberate change of a text: ``GOLDEN=write make test TESTS=tests/catalogue/test_cases.py``, and read the difference.
"""

import os
import shutil
from pathlib import Path

import pytest

from gateway.catalogue.reading import render
from tests.catalogue.conftest import Load

CASES = sorted(each for each in (Path(__file__).parent / "cases").iterdir() if each.is_dir())
NO_OVERLAY = ("expected.txt", "remove.txt", "environment.txt")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_catalogue_is_told_file_line_and_remedy(case: Path, base: Path, loading: Load) -> None:
    """Every mistake of the case is found in one run, and nothing else is."""
    shutil.copytree(case, base, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NO_OVERLAY))
    for name in _lines(case / "remove.txt"):
        _remove(base / name)
    pairs = (line.partition("=") for line in _lines(case / "environment.txt"))
    environment = {name: value for name, _, value in pairs} if (case / "environment.txt").exists() else None
    loaded = loading(base, environment=environment)
    text = render(loaded.findings)
    if os.environ.get("GOLDEN") == "write":
        (case / "expected.txt").write_text(text, "utf-8")
    assert text == (case / "expected.txt").read_text("utf-8")
    assert (loaded.catalogue is None) == (": error: " in text)


def test_the_sound_catalogue_has_no_finding(base: Path, loading: Load) -> None:
    """What the cases are laid over is not itself the reason for a finding."""
    loaded = loading(base, environment={"INTERIOR_URL": "https://registry.interior.example"})
    assert render(loaded.findings) == ""
    assert loaded.catalogue is not None


def test_there_are_enough_broken_catalogues() -> None:
    """Thirty ways to be wrong are held, and each has its text."""
    assert len(CASES) >= 30
    assert all((case / "expected.txt").read_text("utf-8") for case in CASES)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
