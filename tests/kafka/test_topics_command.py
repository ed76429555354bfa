"""`gateway topics` as an operator types it, on a real cluster: exit codes, what is printed, what waits for a word."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from kafka.admin import ACLOperation
from typer.testing import CliRunner

from gateway.__main__ import app
from tests.catalogue.conftest import HERE
from tests.fakes.guarded import Estate, allow

Typing = Callable[..., tuple[int, str]]


@pytest.fixture
def instance() -> str:
    """Of the test's own: all share the cluster."""
    return f"T{uuid4().hex[:8].upper()}"


@pytest.fixture
def typed(guarded: Estate, instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Types a command on a catalogue whose agency ``sila`` reads this cluster."""
    for part in ("base/schemas", "post/schemas"):
        shutil.copytree(HERE / part, tmp_path / "schemas", dirs_exist_ok=True)
    shutil.copytree(HERE / "kafka" / "adapters", tmp_path / "adapters")
    (tmp_path / "keys" / "agencies").mkdir(parents=True)
    shutil.copytree(guarded.keys / "secrets", tmp_path / "keys" / "secrets")
    text = """
bootstrap: ["${KAFKA_BOOTSTRAP}"]
sasl: {mechanism: SCRAM-SHA-512, username: gateway, password: gateway.gateway}
topics: {partitions: 2, replication: 1, min_insync: 1}
"""
    share = f"agencies: {{sila: {{principal: 'User:CN=sila, O={instance}', consume: 4096}}}}\n"
    (tmp_path / "kafka.yaml").write_text(text + share, "utf-8")
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    settings = {
        "GATEWAY_INSTANCE": instance,
        "GATEWAY_KEYS": str(tmp_path / "keys"),
        "KAFKA_BOOTSTRAP": guarded.brokers.bootstrap,
    }

    def run(*arguments: str, **more: str) -> tuple[int, str]:
        line = ["topics", *arguments, "--root", str(tmp_path)]
        result = CliRunner().invoke(app, line, env={**settings, **more}, catch_exceptions=False)
        assert not any(password in result.output for password in guarded.brokers.users.values())
        return result.exit_code, result.output

    return run


ADMIN = ("--user", "admin", "--password", "gateway.admin")


def test_an_operator_plans_applies_and_checks(typed: Typing, instance: str) -> None:
    """The plan changes nothing; a check ends with 1 until it was applied; nobody but an administrator may."""
    code, said = typed("plan", *ADMIN)
    assert (code, said.splitlines()[-1]) == (
        0,
        "13 to add, 0 to change, 0 to take away (with --revoke), 0 that no program mends",
    )
    assert f"+ create topic {instance}.agency.sila: 2 partitions, replication 1," in said
    code, said = typed("check", *ADMIN)
    assert (code, said.splitlines()[-1]) == (1, "refused: 13 findings; topics needed: 2, agencies: 1")
    code, said = typed("apply")
    assert (code, said.startswith("gateway may not list access. Name somebody")) == (1, True)
    code, said = typed("apply", *ADMIN)
    assert (code, said.splitlines()[-1]) == (0, "13 changes made, 0 failed, 0 left (with --revoke)")
    assert typed("plan", *ADMIN) == (0, "nothing to do\n")
    assert typed("check", *ADMIN) == (0, "accepted: 0 findings; topics needed: 2, agencies: 1\n")


def test_what_takes_something_away_waits_for_revoke(typed: Typing, instance: str, guarded: Estate) -> None:
    """It is printed, marked, and left; then done."""
    typed("apply", *ADMIN)
    allow(guarded, "User:other", f"{instance}.agency.sila", ACLOperation.READ)
    taken = f"- revoke: User:other may Read topic {instance}.agency.sila"
    code, said = typed("apply", *ADMIN)
    assert (code, f"{taken} (with --revoke)" in said) == (0, True)
    assert typed("check", *ADMIN)[0] == 1
    code, said = typed("apply", *ADMIN, "--revoke")
    assert (code, said) == (0, f"{taken}\n1 changes made, 0 failed, 0 left (with --revoke)\n")
    assert typed("check", *ADMIN)[0] == 0


def test_export_asks_no_cluster(typed: Typing) -> None:
    """It knows no address, prints no name of a secret, and can be run by a shell."""
    code, said = typed("export", KAFKA_BOOTSTRAP="")
    assert (code, said.startswith("#!/bin/sh\n")) == (0, True)
    assert "gateway.gateway" not in said
    assert subprocess.run(["/bin/sh", "-n"], input=said, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("plan", "--user", "admin"), "Name both --user and --password, or neither."),
        (("plan", "--client", "gateway.admin"), "--client needs tls: write it into kafka.yaml."),
        (("check", "--user", "admin", "--password", "gateway.none"), "the secret 'gateway.none' cannot be read"),
    ],
)
def test_a_login_that_cannot_be_is_told(typed: Typing, arguments: tuple[str, ...], says: str) -> None:
    """In a sentence, with exit code 1."""
    code, said = typed(*arguments)
    assert (code, says in said) == (1, True)


def test_a_variable_that_is_not_set_is_told(typed: Typing, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is to hold."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    code, said = typed("check", KAFKA_BOOTSTRAP="")
    assert (code, "the environment variable KAFKA_BOOTSTRAP is not set. Set KAFKA_BOOTSTRAP to host:port" in said) == (
        1,
        True,
    )


def test_a_catalogue_without_a_cluster_is_told(tmp_path: Path) -> None:
    """And which file it is that is missing."""
    shutil.copytree(HERE / "base", tmp_path, dirs_exist_ok=True)
    settings = {"GATEWAY_INSTANCE": "TEST", "GATEWAY_KEYS": str(tmp_path / "keys")}
    result = CliRunner().invoke(app, ["topics", "plan", "--root", str(tmp_path)], env=settings)
    assert (result.exit_code, "The catalogue names no Kafka cluster" in result.output) == (1, True)


def test_other_commands_load_no_client_of_kafka() -> None:
    """Whoever starts a gateway without Kafka pays nothing for it."""
    program = "import sys, gateway.commands.serve; sys.exit('kafka' in sys.modules or 'aiokafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603 - our own words
