"""The Kafka cluster in a catalogue: what a sound kafka.yaml means, and every way in which one can be wrong.

``kafka/`` is laid over ``post/`` and ``base/``; each case lies over all three, as in ``test_cases.py``, and is written
anew the same way.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.catalogue import files, kafka
from gateway.catalogue.files import Files
from gateway.catalogue.reading import render
from gateway.catalogue.renewal import renewed
from gateway.catalogue.snapshot import Loader
from gateway.commands.holdings import lacking
from gateway.core.kafka import Cluster, Connection, Layout, Sasl, Share
from gateway.core.model import KAFKA, AgencyId, ServiceId
from tests.catalogue.conftest import HERE, NOW, ZONE, Load

CASES = sorted(each for each in (HERE / "kafka_cases").iterdir() if each.is_dir())
ENVIRONMENT = {
    "INTERIOR_URL": "https://registry.interior.example",
    "KAFKA_OTHERS": "kafka-2.example:9093, kafka-3.example:9093",
    "KAFKA_WRONG": "kafka-4.example",
}
SILA = AgencyId("sila")


@pytest.fixture
def read(base: Path) -> Path:
    """A copy of the sound catalogue with a cluster."""
    shutil.copytree(HERE / "post", base, dirs_exist_ok=True)
    return Path(shutil.copytree(HERE / "kafka", base, dirs_exist_ok=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_told_with_file_line_and_remedy(case: Path, read: Path, loading: Load) -> None:
    """Every mistake of the case is found in one run, and nothing else is."""
    shutil.copytree(case, read, dirs_exist_ok=True, ignore=shutil.ignore_patterns("expected.txt", "remove.txt"))
    if (case / "remove.txt").exists():
        (read / "kafka.yaml").unlink()
    loaded = loading(read, environment=ENVIRONMENT)
    text = render(loaded.findings)
    if os.environ.get("GOLDEN") == "write":
        (case / "expected.txt").write_text(text, "utf-8")
    assert text == (case / "expected.txt").read_text("utf-8")
    assert (loaded.catalogue is None) == (": error: " in text)


def test_there_are_enough_broken_clusters() -> None:
    """Twenty ways to be wrong are held."""
    assert len(CASES) >= 20


def test_a_cluster_is_as_the_file_says(read: Path, loading: Load) -> None:
    """What is left out has its default; an agency that differs keeps what it does not name."""
    loaded = loading(read, environment=ENVIRONMENT)
    assert (render(loaded.findings), loaded.catalogue is None) == ("", False)
    assert loaded.catalogue is not None
    brokers = tuple(f"kafka-{number}.example:9093" for number in (1, 2, 3))
    sasl = Sasl("SCRAM-SHA-512", "gateway", "gateway.kafka")
    assert loaded.catalogue.kafka == Cluster(
        Connection(brokers, {"ca": "gateway.kafka_ca"}, sasl),
        "User:gateway",
        Layout(partitions=12, replication=3, min_insync=2, retention=30 * 86400.0, max_bytes=1048576),
        {"sila": Share("User:CN=sila, O=Municipalities", 24, 10485760)},
    )
    assert loaded.catalogue.kafka.share("interior") == Share("User:interior", 12)


def test_a_catalogue_without_the_file_has_no_cluster(base: Path, loading: Load) -> None:
    """And nothing is said about it."""
    loaded = loading(base)
    assert loaded.catalogue is not None
    assert loaded.catalogue.kafka is None


def test_a_way_by_kafka_is_a_way(read: Path, loading: Load) -> None:
    """It takes what its patterns say, hands over, and has no option."""
    catalogue = loading(read, environment=ENVIRONMENT).catalogue
    assert catalogue is not None
    way = catalogue.agencies[SILA].way(ServiceId("letters.notice.v1"))
    assert way is not None
    assert (way.protocol, way.options, way.receipts, way.pulled) == (KAFKA, {}, True, False)


def test_variables_are_filled_in_where_they_are_known(read: Path, loading: Load) -> None:
    """A catalogue that was read without an environment names them; a command fills them in, or says what is missing."""
    catalogue = loading(read).catalogue
    assert catalogue is not None
    assert catalogue.kafka is not None
    given = catalogue.kafka.connection
    assert given.bootstrap == ("kafka-1.example:9093", "${KAFKA_OTHERS}")
    located = kafka.located(given, ENVIRONMENT)
    assert located == replace(given, bootstrap=tuple(f"kafka-{number}.example:9093" for number in (1, 2, 3)))
    for environment, why in (({}, "KAFKA_OTHERS is not set"), ({"KAFKA_OTHERS": "kafka-2"}, "is no address of a brok")):
        with pytest.raises(ValueError, match=why):
            kafka.located(given, environment)
    with pytest.raises(ValueError, match="nothing is encrypted"):
        kafka.located(replace(given, tls=None), ENVIRONMENT)


def test_the_file_and_its_secrets_are_one_unit(read: Path) -> None:
    """A password that changes is a change of the cluster, and of no agency; another one's is not."""
    before = _files(read)
    secrets = read / "keys" / "secrets"
    secrets.mkdir()
    (secrets / "gateway.kafka").write_text("one", "utf-8")
    after = _files(read)
    assert after.changed(before) == {"kafka.yaml"}
    (secrets / "gateway.kafka").write_text("two", "utf-8")
    assert _files(read).seals()["kafka.yaml"] != after.seals()["kafka.yaml"]
    (secrets / "sila.webhook").write_text("x", "utf-8")
    assert _files(read).changed(after) == {"kafka.yaml", "adapters/sila"}


def test_the_digest_covers_the_file(read: Path, loading: Load) -> None:
    """Another layout is another catalogue, and a look sees it."""
    first, look = loading(read, environment=ENVIRONMENT).catalogue, files.look(read, read / "keys")
    path = read / "kafka.yaml"
    path.write_text(path.read_text("utf-8") + "topics: {partitions: 6}\n", "utf-8")
    second = loading(read, environment=ENVIRONMENT).catalogue
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    assert files.look(read, read / "keys")["kafka.yaml"] != look["kafka.yaml"]


@pytest.mark.parametrize("broken", ["bootstrap: [", None])
def test_a_broken_file_keeps_its_last_good_version(read: Path, broken: str | None) -> None:
    """While the gateway runs, neither a mistake in it nor its loss stops anything."""
    loader, good = Loader("TEST", ZONE, ENVIRONMENT), _files(read)
    path = read / "kafka.yaml"
    path.unlink() if broken is None else path.write_text(broken, "utf-8")
    found = renewed(good, _files(read), lambda given: loader.load(given, NOW))
    assert found is not None
    assert found.loaded.catalogue is not None
    assert found.loaded.catalogue.kafka is not None
    assert list(found.kept) == ["kafka.yaml"]


def test_a_file_and_the_first_way_come_together(read: Path) -> None:
    """Each alone would be refused or useless; both in one change are taken over."""
    loader, new = Loader("TEST", ZONE, ENVIRONMENT), _files(read)
    shutil.copy(HERE / "post" / "adapters" / "sila" / "agency.yaml", read / "adapters" / "sila" / "agency.yaml")
    (read / "kafka.yaml").unlink()
    found = renewed(_files(read), new, lambda given: loader.load(given, NOW))
    assert found is not None
    assert (found.kept, found.files.same(new)) == ({}, True)


def test_check_looks_for_the_secrets_where_the_keys_are(read: Path, loading: Load) -> None:
    """What `gateway serve` could not use is an error with its line, on the machine that has the gateway's own keys."""
    catalogue, keys = loading(read, environment=ENVIRONMENT).catalogue, read / "keys"
    assert catalogue is not None
    (keys / "gateway").mkdir()
    (keys / "secrets").mkdir()
    for name in ("gateway.kafka", "sila.webhook", "interior.register"):
        (keys / "secrets" / name).write_text("x", "utf-8")
    (only,) = lacking(read, keys, catalogue)
    assert (only.file, only.line) == ("kafka.yaml", 2)
    assert only.message == "the secret gateway.kafka_ca is missing from the keys folder"


def _files(root: Path) -> Files:
    return files.read(root, root / "keys")
