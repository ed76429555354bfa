"""A second try, and what has none: real runs of pytest over files of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import AT_MOST, refused

HERE = Path(__file__).parent.parent
SECOND_TIME = """
from pathlib import Path

def test_it():
    seen = Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
NEVER = "def test_it(): assert False"


def tried(folder: Path, **files: str) -> list[int]:
    """How pytest ends in a folder with these tests, and then the second try of what failed."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    first = _run(folder, "pytest")
    return [first, _run(folder, "tests.again", str(first))]


def _run(folder: Path, module: str, *arguments: str) -> int:
    """The exit status."""
    said, here = [sys.executable, "-m", module, *arguments], {"PYTHONPATH": str(HERE)}
    return subprocess.run(said, cwd=folder, env=here, capture_output=True, check=False).returncode  # noqa: S603 - ours


def test_what_passes_alone_has_passed(tmp_path: Path) -> None:
    """It failed once, beside others; both runs are seen."""
    assert tried(tmp_path, test_one=SECOND_TIME) == [1, 0]


def test_what_fails_alone_has_failed(tmp_path: Path) -> None:
    """Beside another one, which passes the second time."""
    assert tried(tmp_path, test_one=SECOND_TIME.replace("seen", "other"), test_two=NEVER) == [1, 1]


def test_what_counts_losses_has_one_try(tmp_path: Path) -> None:
    """A loss that is seen once is one."""
    assert tried(tmp_path, test_races_one=SECOND_TIME) == [1, 1]


def test_a_file_that_cannot_be_read_has_one_try(tmp_path: Path) -> None:
    """That is no chance."""
    assert tried(tmp_path, test_one="import nothing_of_the_kind") == [2, 2]


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        ([], "no test did"),
        (["tests/edge/test_one.py::test_it[a::b]"] * AT_MOST, ""),
        (["tests/edge/test_one.py::test_it"] * (AT_MOST + 1), "up to 3"),
        (["tests/faults/test_kill.py::test_it"], "tests/faults/test_kill.py::test_it"),
        (["tests/races/test_races_writes.py::test_it"], "one try"),
        (["tests/agent/test_races_killed.py::test_it"], "one try"),
    ],
)
def test_reasons(failed: list[str], why: str) -> None:
    """Each is said."""
    assert why in refused(failed)
    assert bool(why) == bool(refused(failed))
