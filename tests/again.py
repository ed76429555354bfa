"""Runs again, alone, what failed beside other tests: ``python -m tests.again EXIT_STATUS``.

Thousands of tests with real parts share two processors; now and then one of them waits in vain for its turn. What
fails alone too has failed. A test that counts what is lost or doubled must hold several times in a row.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import orjson
import pytest

FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest writes what failed (its plugin ``cacheprovider``)."""
AT_MOST = 3
"""More than so many at once are no chance."""
COUNTING = ("tests/faults/", "tests/races/")
"""Folders of tests that count losses, beside files named ``test_races…``."""
TIMES = 5
"""How often these must hold."""


def refused(failed: Sequence[str]) -> str:
    """Why these have no second try, and nothing where they have one."""
    if not failed:
        return "pytest failed, but no test did."
    return f"{len(failed)} tests failed; up to {AT_MOST} would run again." if len(failed) > AT_MOST else ""


def times(failed: Sequence[str]) -> int:
    """How often they must hold."""
    return TIMES if any(each.startswith(COUNTING) or _name(each).startswith("test_races") for each in failed) else 1


def main(status: int, failed: Sequence[str]) -> int:
    """The exit status of all runs together; whatever ended the first one but a test has no second try either."""
    why = refused(failed) if status == pytest.ExitCode.TESTS_FAILED else f"pytest ended with {status}."
    if why:
        print(why, file=sys.stderr)
        return status
    print("Again, alone (why each failed beside others stands above):", *failed, sep="\n  ", flush=True)
    again = [sys.executable, "-m", "pytest", *failed]
    runs = (subprocess.run(again, check=False).returncode for _ in range(times(failed)))  # noqa: S603 - our own
    return next(filter(None, runs), 0)


def _name(test: str) -> str:
    return PurePosixPath(test.partition("::")[0]).name


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sorted(orjson.loads(FAILED.read_bytes())) if FAILED.exists() else []))
