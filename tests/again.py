"""Runs once more, alone, what failed beside other tests: ``python -m tests.again EXIT_STATUS``.

Thousands of tests with real parts share two processors; now and then one of them waits in vain for its turn. What
fails alone too has failed. A test that counts what is lost or doubled has no second try: once is a loss.
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
ONCE = ("tests/faults/", "tests/races/")
"""Folders of tests that have one try, beside files named ``test_races…``."""


def refused(failed: Sequence[str]) -> str:
    """Why these have no second try, and nothing where they have one."""
    if not failed:
        return "pytest failed, but no test did."
    if len(failed) > AT_MOST:
        return f"{len(failed)} tests failed; up to {AT_MOST} would run again."
    counting = [each for each in failed if each.startswith(ONCE) or _name(each).startswith("test_races")]
    return f"What counts losses has one try: {', '.join(counting)}" if counting else ""


def main(status: int, failed: Sequence[str]) -> int:
    """The exit status of both runs together; whatever ended the first one but a test has no second try either."""
    why = refused(failed) if status == pytest.ExitCode.TESTS_FAILED else f"pytest ended with {status}."
    if why:
        print(why, file=sys.stderr)
        return status
    print("Again, alone (why each failed beside others stands above):", *failed, sep="\n  ", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode  # noqa: S603 - our own


def _name(test: str) -> str:
    return PurePosixPath(test.partition("::")[0]).name


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sorted(orjson.loads(FAILED.read_bytes())) if FAILED.exists() else []))
