"""The chapter on an instance of one's own is played in an empty folder, by the shell that its reader uses."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.docs.pages import page
from tests.docs.stage import Command
from tests.fakes.ports import free

CHAPTER = page("docs/operations.md").within("An instance of your own, from an empty folder")
SHELL = shutil.which("sh") or "/bin/sh"
PORTS = ("8080", "8081", "9090")


def _free() -> dict[str, str]:
    """Ports that are free here, for those of the chapter."""
    return dict(zip(PORTS, map(str, free()), strict=False))


def _blocks(language: str, ports: Mapping[str, str]) -> list[str]:
    texts = [block.text for block in CHAPTER.blocks() if block.language == language]
    for port, ours in ports.items():
        texts = [text.replace(port, ours) for text in texts]
    return texts


def _environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**plain, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}", "PYTHONUTF8": "1"}


def _shell(script: str, folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - our own documents
        [SHELL, "-euc", script], cwd=folder, env=_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def _serving(script: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(  # noqa: S603 - our own documents
        [SHELL, "-euc", script], cwd=folder, env=_environment(), stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_instance_of_ones_own_answers(tmp_path: Path) -> None:
    """From mkdir to a record and a document: nothing is needed that it does not say, and it prints what it shows."""
    ports = _free()
    *steps, serve, ask, add, send = _blocks("sh", ports)
    checked, asked, sent = _blocks("text", ports)
    assert Command("gateway check", f"…\n{checked}").shows(_shell("\n".join(steps), tmp_path))
    with _serving(f"cd exchange; set -a; . ./settings.sh; set +a; exec {serve}", tmp_path) as process:
        assert process.stdout is not None
        assert orjson.loads(process.stdout.readline())["event"] == "started"
        assert Command("python ask.py", asked).shows(_shell(ask, tmp_path / "exchange"))
        _shell(add, tmp_path / "exchange")
        assert Command("gateway send", sent).shows(_shell(send, tmp_path / "exchange"))
        process.terminate()
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("port", PORTS)
def test_ports_of_the_chapter_are_the_usual_ones(port: str) -> None:
    """Only these are replaced by free ones: another one could be in use where the test runs."""
    assert any(f":{port}" in text or f" {port}" in text for text in _blocks("sh", {}))
