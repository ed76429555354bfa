"""Where documents are played: a copy of the catalogue, the demonstration running in it, commands as they are typed."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.catalogue import derived
from tests.docs.pages import ROOT

FOLDERS = ("schemas", "adapters", "policies", "deploy", "docs/reference")
UP = "The gateway stays up"

_VARYING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:\+00:00|Z)"), "<time>"),
    (re.compile(r"\b[0-9a-f]{16,64}\b"), "<digest>"),
    (re.compile(r"eyJ[\w-]+\.\.[\w-]+"), "<jws>"),
    (re.compile(r"(today is|changed_on\": \") ?[0-9]{4}-[0-9]{2}-[0-9]{2}"), r"\1 <day>"),
    (re.compile(r"\b[0-9.]+ s\b"), "<seconds>"),
    (re.compile(r"\b[0-9]+ entries\b"), "<n> entries"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


def settled(text: str) -> str:
    """The text with what differs from run to run taken out."""
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text.strip("\n")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and what the block says that it prints."""

    line: str
    printed: str

    def shows(self, output: str) -> bool:
        """Whether it printed that. A line with nothing but … stands for any lines."""
        pieces = re.split(r"^…$", settled(self.printed), flags=re.MULTILINE)
        pattern = r"[\s\S]*".join(re.escape(piece.strip("\n")) for piece in pieces)
        return re.fullmatch(rf"\s*{pattern}\s*", settled(output)) is not None


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block."""
    for piece in re.split(r"^\$ ", text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        line, _, printed = piece.partition("\n")
        yield Command(line, printed)


def copied(folder: Path) -> Path:
    """A copy of the catalogue that a page may change; what is derived in it is fresh."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "kafka.yaml", folder)
    derived.refresh(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Stage:
    """The folder in which a page is played, and what the demonstration printed when it started there."""

    folder: Path
    story: str

    def run(self, line: str) -> str:
        """What the command prints, on both streams, or mv does. ``gateway demo`` was run already."""
        program, *arguments = shlex.split(line)
        if program == "mv":
            source, target = (self.folder / name for name in arguments)
            shutil.move(source, target)
            return ""
        assert program == "gateway"
        if arguments[0] == "demo":
            return self.story
        with contextlib.chdir(self.folder):
            return CliRunner().invoke(app, arguments, catch_exceptions=False).output


@contextlib.contextmanager
def demonstration(folder: Path) -> Iterator[str]:
    """The demonstration, staying up in the folder; gives what it printed."""
    program = [str(Path(sys.executable).with_name("gateway")), "demo", "--port", "0", "--ops-port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    with subprocess.Popen(  # noqa: S603 - our own program
        program, cwd=folder, env={**environment, "PYTHONUTF8": "1"}, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        try:
            story = ""
            for line in process.stdout:
                story += line
                if UP in line:
                    break
            assert UP in story, story
            yield story.rpartition("╭")[0]
        finally:
            process.terminate()
            process.communicate(timeout=20)
