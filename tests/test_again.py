"""A second try, and what has none: real runs of pytest over files of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import AT_MOST, TIMES, refused, times

HERE = Path(__file__).parent.parent
AT_TIMES = """
from pathlib import Path

def test_it():
    seen = Path("seen")
    seen.touch()
    seen.write_text(seen.read_text() + "x")
    assert len(seen.read_text()) not in BAD
"""


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


def failing(*at: int, name: str = "seen") -> str:
    """A test that fails when it runs for these times, counted from one."""
    return AT_TIMES.replace("BAD", str(at)).replace("seen", name)


def test_what_passes_alone_has_passed(tmp_path: Path) -> None:
    """It failed once, beside others; both runs are seen."""
    assert tried(tmp_path, test_one=failing(1)) == [1, 0]
    assert (tmp_path / "seen").read_text() == "xx"


def test_what_fails_alone_has_failed(tmp_path: Path) -> None:
    """Beside another one, which passes the second time."""
    assert tried(tmp_path, test_one=failing(1), test_two=failing(1, 2, name="other")) == [1, 1]


def test_what_counts_losses_must_hold_several_times(tmp_path: Path) -> None:
    """A loss that is seen once more is one."""
    assert tried(tmp_path, test_races_one=failing(1)) == [1, 0]
    assert (tmp_path / "seen").read_text() == "x" * (1 + TIMES)


def test_what_counts_losses_fails_for_one_time(tmp_path: Path) -> None:
    """Of several, and the others are not run."""
    assert tried(tmp_path, test_races_one=failing(1, 3)) == [1, 1]
    assert (tmp_path / "seen").read_text() == "xxx"


def test_a_file_that_cannot_be_read_has_one_try(tmp_path: Path) -> None:
    """That is no chance."""
    assert tried(tmp_path, test_one="import nothing_of_the_kind") == [2, 2]


@pytest.mark.parametrize(("failed", "why"), [(0, "no test did"), (1, ""), (AT_MOST, ""), (AT_MOST + 1, "up to 3")])
def test_how_many(failed: int, why: str) -> None:
    """Some, not many, and not none."""
    said = refused(["tests/edge/test_one.py::test_it[a::b]"] * failed)
    assert why in said
    assert bool(why) == bool(said)


@pytest.mark.parametrize(
    ("test", "often"),
    [
        ("tests/edge/test_one.py::test_races", 1),
        ("tests/faults/test_kill.py::test_it", TIMES),
        ("tests/races/test_writes.py::test_it", TIMES),
        ("tests/agent/test_races_killed.py::test_it[a/b]", TIMES),
    ],
)
def test_how_often(test: str, often: int) -> None:
    """Beside one that counts nothing."""
    assert times(["tests/edge/test_one.py::test_it", test]) == often
