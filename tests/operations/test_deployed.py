"""The unit and the container files agree with the program: its settings, its limits, its commands."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.agent.run import LAST_REPORTS_SECONDS, LEAVING_SECONDS
from gateway.settings import PREFIX, Settings
from gateway.workers import AFTER_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "gateway.service"
AGENT = DEPLOY / "systemd" / "gateway-agent.service"
WRITTEN = [
    UNIT,
    AGENT,
    *sorted((DEPLOY / "container").iterdir()),
    DEPLOY / "nginx" / "gateway.conf",
    Path("docs/nodes.md"),
]
MOST_EXPOSED = 20
"""Tenths: systemd's own measure of what a unit could still do, from 0 to 100; below 20 it says OK."""


def unit(path: Path = UNIT) -> configparser.SectionProxy:
    """What the unit says of the service."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their capitals
    parser.read(path, "utf-8")
    return parser["Service"]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_no_setting_is_misspelt(path: Path) -> None:
    """Every GATEWAY_ variable is a setting of the program."""
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+[A-Z]\b", path.read_text("utf-8")))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_systemd_waits_long_enough() -> None:
    """What runs at a stop has its time before systemd kills, and a worker its time to start."""
    held = unit()
    assert float(held["TimeoutStopSec"]) > Settings().shutdown_seconds + AFTER_SECONDS
    assert int(held["LimitNOFILE"]) > Settings().max_connections + Settings().max_in_progress
    assert (held["Type"], held["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")


def test_systemd_waits_for_an_agent() -> None:
    """What it has in hand at a stop has its time, and then what is still to be told."""
    held = unit(AGENT)
    after = LEAVING_SECONDS + LAST_REPORTS_SECONDS
    assert float(held["TimeoutStopSec"]) > Settings().shutdown_seconds + after
    assert (held["Type"], held["StateDirectoryMode"]) == ("notify", "0700")


@pytest.mark.parametrize("at", [UNIT, AGENT], ids=lambda at: at.stem)
def test_the_unit_is_hardened(at: Path) -> None:
    """By systemd's own measure; and it finds no line that it does not know."""
    program = shutil.which("systemd-analyze")
    if program is None:
        message = "systemd-analyze is not there: install systemd (Debian: apt-get install systemd)."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    asked = [program, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(at)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    known = subprocess.run([program, "verify", str(at)], capture_output=True, text=True, check=False)  # noqa: S603 - as above
    assert [line for line in known.stderr.splitlines() if "not executable" not in line and at.name in line] == []
