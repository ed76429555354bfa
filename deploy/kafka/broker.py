"""A broker of Apache Kafka on this machine, for the demonstration and the tests: formatted, started, stopped.

``python -m deploy.kafka.broker [--port PORT] [command …]`` runs the command beside one; ``{kafka}`` is its address.
"""

import argparse
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from deploy.kafka.artefacts import NotThere, fetched, java
from deploy.kafka.settings import Ports, Settings, free_ports, here, read, written

START_SECONDS = 90
"""Usually two; a machine that is busy with other things needs more."""
STOP_SECONDS = 20
TOOL_SECONDS = 60
HEAP = "-Xms128m -Xmx400m"
"""Enough for a desk; ``KAFKA_HEAP_OPTS``, as Kafka's own scripts name it, replaces it."""
FAST = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Starts in half the time and takes less memory; under load it is slower than a broker at work."""
QUIET = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
STARTED = b"Kafka Server started"
TAKEN = "Address already in use"
GOES_WITH_US = 'exec 3<&0; (read -r _ <&3 || kill -KILL $$) & exec "$@" </dev/null 3<&-'
"""Shell: whoever started the broker holds the other end of its standard input; when that process dies, so does the
broker. A line says that it has ended already."""


class Unready(Exception):
    """The broker did not come up; says what it wrote last."""


class Broker:
    """One broker in a folder of its own; it may be killed and started again on what it has there."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._log = folder / "broker.log"
        self._read = 0
        """Bytes of the log that belong to earlier starts."""
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, cluster: str, *options: str) -> None:
        """Lay out its empty data folder (KRaft); ``options`` as ``kafka-storage.sh format`` takes them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = written(self.settings, self.folder / "broker.properties")
        run_tool("kafka.tools.StorageTool", *("format", "-t", cluster, "-c", str(path)), *options)

    def start(self) -> None:
        """Begin; ``wait`` says when it is there."""
        path = written(self.settings, self.folder / "broker.properties")
        self._read = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - Java, and jars whose digests were checked
                ["/bin/sh", "-c", GOES_WITH_US, "kafka", *_java("kafka.Kafka", str(path))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the program beside it, which still needs it for its own end
            )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it takes part in the cluster and serves clients."""
        give_up = time.monotonic() + seconds
        while STARTED not in (said := self._said()):
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > give_up:
                self.kill()
                what = "ended" if ended else f"was not ready after {seconds:g} s"
                raise Unready(f"The broker {what}; its log is {self._log}:\n{_last(said.decode(errors='replace'))}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As the machine's failure would; what it has on disk stays."""
        self._signal(signal.SIGKILL)
        self._reap(None)

    def pause(self) -> None:
        """Its connections stay, and nothing answers any more when this returns."""
        self._signal(signal.SIGSTOP)
        if self._process is not None and self._process.poll() is None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """As an administrator does; killed where that does not help."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        self._reap(STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _reap(self, seconds: float | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(BrokenPipeError):  # the watching shell may be gone as well
            process.communicate(b"\n")

    def _said(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._read)
            return log.read()


def _last(said: str) -> str:
    """Of its log, without Java's traces."""
    lines = [line for line in said.splitlines() if not line.startswith("\t")]
    taken = [line for line in lines if TAKEN in line]
    return "\n".join(taken[:1] or lines[-10:])


def new_id() -> str:
    """Of a cluster, or of a broker's folder in it: as ``kafka-storage.sh random-uuid`` makes them."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass  # would be taken for an option
    return made


def run_tool(main: str, *arguments: str) -> str:
    """What one of Kafka's own commands prints, by the class that its script names."""
    try:
        done = subprocess.run(  # noqa: S603 - as above
            _java(main, *arguments), capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unready(f"{main} did not end within {TOOL_SECONDS} s.") from error
    if done.returncode:
        raise Unready(f"{main} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def _java(main: str, *arguments: str) -> list[str]:
    heap = os.environ.get("KAFKA_HEAP_OPTS", HEAP).split()
    return [java(), *heap, *FAST, *QUIET, "-cp", f"{fetched()}/*", main, *arguments]


@contextlib.contextmanager
def started(folder: Path, port: int | None = None) -> Iterator[str]:
    """One broker as ``broker.properties`` has it, on the port or a free one, in an empty folder; gives its address."""
    made = free_ports()
    ports = Ports(port or made.clients, made.controller, made.brokers)
    own = here(1, [ports], folder / "data", {"CLIENTS": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"})
    broker = Broker(folder, {**read("broker.properties"), **own})
    broker.format(new_id(), "--standalone")
    broker.start()
    try:
        broker.wait()
        yield f"127.0.0.1:{ports.clients}"
    finally:
        broker.stop()


def run_beside(command: Sequence[str]) -> int:
    """Its exit code. Ctrl-C reaches it from the terminal; what asks us to end is passed on."""
    if shutil.which(command[0]) is None:
        raise NotThere(f"There is no program {command[0]} to run beside it.")
    with subprocess.Popen(command) as process:  # noqa: S603 - what the caller typed

        def pass_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return process.wait()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka.broker", description="One Kafka broker on loopback.")
    parser.add_argument("--port", type=int, default=9092, help="for clients; 0: a free one")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="runs beside it, {kafka} being its address")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that the folder is removed
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder, started(Path(folder), chosen.port) as address:
        if chosen.command:
            return run_beside([each.replace("{kafka}", address) for each in chosen.command])
        print(f"Apache Kafka at {address}. Ctrl-C ends it and removes what it holds.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (NotThere, Unready) as error:
        sys.exit(f"No broker: {error}")
