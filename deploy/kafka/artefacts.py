"""Apache Kafka in the cache folder: fetched by Maven once, and held against ``artefacts.sha256`` each time."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).resolve().parent
DIGESTS = HERE / "artefacts.sha256"
POM = HERE / "pom.xml"
FETCH_SECONDS = 600
"""For 44 MB: what takes longer does not come any more."""
OLDEST_JAVA = 17
"""What a broker of Kafka 4 needs."""


class NotThere(Exception):
    """Kafka cannot be had on this machine; says what to do."""


def version() -> str:
    """The one that ``pom.xml`` names."""
    return str(ET.parse(POM).findtext("{*}version"))  # noqa: S314 - our own file


def cache() -> Path:
    """Where the jars lie (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "exchange-gateway" / f"kafka-{version()}"


def fetched(folder: Path | None = None) -> Path:
    """The folder with exactly the jars of ``artefacts.sha256``, fetched if it is not there yet."""
    folder = folder or cache()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(folder.name + ".lock")):
            if not folder.exists():  # somebody else may have been first
                _fetch(folder)
    check(folder)
    return folder


def check(folder: Path) -> None:
    """Refuse a folder in which a jar is missing, unknown or another one."""
    wanted, found = digests(), {path.name: _digest(path) for path in folder.iterdir()}
    wrong = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if wrong:
        raise NotThere(
            f"{folder} holds other files than {DIGESTS.name} lists: {', '.join(wrong)}. Nothing of it was started. "
            "Remove the folder, and it is fetched again; if that does not help, what Maven fetches is not what was "
            "tested: ask why before you go on."
        )


def digests() -> Mapping[str, str]:
    """SHA-256 of each jar by its name."""
    lines = (line.split() for line in DIGESTS.read_text("utf-8").splitlines())
    return {name: digest for digest, name in lines}


def java() -> str:
    """The program; refused if it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    todo = f"Kafka needs Java {OLDEST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless)."
    if found is None:
        where = f"in {home}/bin, where JAVA_HOME points" if home else "on the PATH"
        raise NotThere(f"There is no java {where}. {todo}")
    try:
        said = subprocess.run(  # noqa: S603 - what the caller's PATH names
            [found, "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise NotThere(f"{found} -version does not answer: {error}. {todo}") from error
    number = re.search(r'version "(\d+)', said)
    if number is None or int(number[1]) < OLDEST_JAVA:
        raise NotThere(f"{found} is {said.partition(chr(10))[0] or 'of no known version'}. {todo}")
    return found


def _fetch(folder: Path) -> None:
    """Under a name of its own until everything is there and right: an interrupted download leaves no half folder."""
    partly = folder.with_name(folder.name + ".part")
    shutil.rmtree(partly, ignore_errors=True)
    _run_maven(partly)
    try:
        check(partly)
    except NotThere:
        shutil.rmtree(partly)
        raise
    partly.rename(folder)


def _run_maven(target: Path) -> None:
    program = shutil.which("mvn")
    if program is None:
        raise NotThere(
            f"Kafka {version()} is not in {target.parent} yet, and there is no mvn on the PATH to fetch it: "
            "install Maven (Debian: apt-get install maven)."
        )
    java()
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={target}")
    try:
        done = subprocess.run(  # noqa: S603 - what the caller's PATH names
            [program, "--batch-mode", "--quiet", f"--file={POM}", *goal],
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        late = f"Maven did not fetch Kafka within {FETCH_SECONDS} s: look at the network, then try again."
        raise NotThere(late) from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise NotThere(f"Maven could not fetch Kafka {version()}: {said[0] if said else done.returncode}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    with path.open("w") as lock:
        give_up = time.monotonic() + FETCH_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    told = f"Another process has been fetching Kafka for {FETCH_SECONDS} s: see who holds {path}."
                    raise NotThere(told) from error
                time.sleep(0.2)
        yield


if __name__ == "__main__":
    try:
        print(f"Apache Kafka {version()}: {fetched()}")
    except NotThere as error:
        raise SystemExit(str(error)) from None
