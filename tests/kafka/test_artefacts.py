"""Apache Kafka in the cache folder: what is fetched, what is refused, and what a machine without the tools is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.kafka.artefacts import NotThere, cache, check, digests, fetched, java
from tests.fakes.brokers import kafka_here

ROOT = Path(__file__).parents[2]
COPIES = """for each; do case "$each" in -DoutputDirectory=*) to="${each#*=}";; esac; done; echo run >> "$RUNS"
mkdir -p "$to"; """
"""What a pretend Maven begins with."""


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    """A folder as it was fetched."""
    return Path(shutil.copytree(kafka_here(), tmp_path / "fetched"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found before all others."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def pretend(folder: Path, program: str, script: str) -> None:
    """A program of this name that does this."""
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def test_what_was_fetched_is_what_the_list_says(jars: Path) -> None:
    """Every jar of the list is there, no other, and one version of Kafka only."""
    check(jars)
    kafkas = [name for name in digests() if name.startswith(("kafka", "connect"))]
    assert {name.rpartition("-")[2] for name in kafkas} == {"4.3.1.jar"}


def test_a_changed_jar_is_refused(jars: Path) -> None:
    """One byte suffices, and the sentence names the jar."""
    with (jars / "kafka-clients-4.3.1.jar").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(NotThere, match=r"kafka-clients-4\.3\.1\.jar.*Remove the folder"):
        fetched(jars)


def test_an_unknown_jar_is_refused(jars: Path) -> None:
    """Everything in the folder would be on the class path."""
    (jars / "aaa.jar").write_bytes(b"")
    with pytest.raises(NotThere, match=r"aaa\.jar"):
        fetched(jars)


def test_a_missing_jar_is_refused(jars: Path) -> None:
    """A broker would fail late and strangely."""
    (jars / "slf4j-simple-1.7.36.jar").unlink()
    with pytest.raises(NotThere, match=r"slf4j-simple"):
        fetched(jars)


def test_an_interrupted_download_is_begun_anew(jars: Path, programs: Path, tmp_path: Path) -> None:
    """Half a folder never gets the name of a whole one."""
    pretend(programs, "mvn", COPIES + f"cp {jars}/k*.jar $to; echo '[ERROR] connection reset'; exit 1")
    with pytest.raises(NotThere, match="connection reset"):
        fetched(tmp_path / "cache" / "kafka")
    assert not (tmp_path / "cache" / "kafka").exists()
    pretend(programs, "mvn", COPIES + f"cp {jars}/*.jar $to")
    check(fetched(tmp_path / "cache" / "kafka"))


def test_what_maven_brings_is_checked_before_it_is_kept(jars: Path, programs: Path, tmp_path: Path) -> None:
    """A repository that gives something else leaves nothing behind."""
    pretend(programs, "mvn", COPIES + f"cp {jars}/*.jar $to; echo >> $to/kafka-clients-4.3.1.jar")
    with pytest.raises(NotThere, match="kafka-clients"):
        fetched(tmp_path / "cache" / "kafka")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.lock"]


def test_two_at_once_fetch_once(jars: Path, programs: Path, tmp_path: Path) -> None:
    """The second waits for the first, and finds what it fetched."""
    pretend(programs, "mvn", COPIES + f"cp {jars}/*.jar $to")
    code = "import sys, pathlib; from deploy.kafka.artefacts import fetched; fetched(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "cache" / "kafka")]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]  # noqa: S603 - our own program
    assert [each.wait(60) for each in both] == [0, 0]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_machine_without_maven_is_told(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the folder, the program and Debian's package."""
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(NotThere, match=r"no mvn on the PATH.*apt-get install maven"):
        fetched(tmp_path / "kafka")


def test_a_machine_without_java_is_told(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is looked for."""
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(NotThere, match=r"no java on the PATH.*openjdk-17-jre-headless"):
        java()
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(NotThere, match=r"no java in /nowhere/bin, where JAVA_HOME points"):
        java()


@pytest.mark.parametrize(
    ("said", "good"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('openjdk version "21"', True),
        ('java version "1.8.0_412"', False),
    ],
)
def test_java_must_be_new_enough(programs: Path, said: str, *, good: bool) -> None:
    """17 and later; what is older is named."""
    pretend(programs, "java", f"echo '{said}' >&2")
    if good:
        assert java() == str(programs / "java")
    else:
        with pytest.raises(NotThere, match=r"1\.8\.0_412.*Java 17 or newer"):
            java()


def test_the_cache_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_CACHE_HOME, or ~/.cache; the version is part of the name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "exchange-gateway" / "kafka-4.3.1"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache() == Path.home() / ".cache" / "exchange-gateway" / "kafka-4.3.1"
