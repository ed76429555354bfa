"""How clients of Kafka are connected: what comes of a manifest and of files, and what is refused."""

import re
import ssl
from pathlib import Path

import pytest

from gateway.catalogue import files
from gateway.core.kafka import Connection, Sasl
from gateway.protocols.kafka_link import client_options
from tests.fakes.certificates import AUTHORITY

BROKERS = ("kafka-1.example:9093", "kafka-2.example:9093")
SASL = Sasl("SCRAM-SHA-512", "gateway", "gateway.kafka")


@pytest.fixture
def held(tmp_path: Path) -> files.Files:
    """A keys folder with a password, an authority, and what can be neither."""
    secrets = tmp_path / "keys" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "gateway.kafka").write_bytes(b"open sesame \r\n")
    (secrets / "gateway.empty").write_bytes(b"\n")
    AUTHORITY.cert_pem.write_to_path(secrets / "gateway.ca")
    AUTHORITY.issue_cert("gateway.example").private_key_and_cert_chain_pem.write_to_path(secrets / "gateway.client")
    return files.read(tmp_path, tmp_path / "keys")


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [
        (None, None, "PLAINTEXT"),
        ({}, None, "SSL"),
        ({"client": "gateway.client", "ca": "gateway.ca"}, None, "SSL"),
        (None, SASL, "SASL_PLAINTEXT"),
        ({"ca": "gateway.ca"}, SASL, "SASL_SSL"),
    ],
)
def test_what_is_written_is_what_is_spoken(
    held: files.Files, tls: dict[str, str] | None, sasl: Sasl | None, protocol: str
) -> None:
    """Nothing is encrypted by accident, and nothing unencrypted."""
    made = client_options(Connection(BROKERS, tls, sasl), held)
    assert (made["bootstrap_servers"], made["security_protocol"]) == (list(BROKERS), protocol)
    assert ("ssl_context" in made, "sasl_mechanism" in made) == (tls is not None, sasl is not None)


def test_a_password_is_the_files_first_line(held: files.Files) -> None:
    """Without the end of the line that editors add, and with everything else."""
    made = client_options(Connection(BROKERS, sasl=SASL), held)
    assert (made["sasl_mechanism"], made["sasl_plain_username"]) == ("SCRAM-SHA-512", "gateway")
    assert made["sasl_plain_password"] == "open sesame "


def test_brokers_are_always_verified(held: files.Files) -> None:
    """By name and authority, over TLS 1.2 or newer."""
    context = client_options(Connection(BROKERS, {"ca": "gateway.ca"}), held)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("tls", "password", "why"),
    [
        (None, "gateway.missing", "the secret 'gateway.missing' cannot be read"),
        (None, "gateway.empty", "the secret 'gateway.empty' is empty"),
        (None, "../gateway.kafka", "must be the name of a file"),
        ({"ca": "gateway.missing"}, "gateway.kafka", "the secret 'gateway.missing' cannot be read"),
        ({"ca": "gateway.kafka"}, "gateway.kafka", "gateway.kafka in keys/secrets cannot be read as PEM"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named(
    held: files.Files, tls: dict[str, str] | None, password: str, why: str
) -> None:
    """By its name, and without what is in it."""
    connection = Connection(BROKERS, tls, Sasl("SCRAM-SHA-512", "gateway", password))
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        client_options(connection, held)

    assert "sesame" not in str(caught.value)


def test_a_password_that_changed_meanwhile_is_not_used(held: files.Files) -> None:
    """It is taken over with the catalogue that it belongs to, and not before."""
    held.path("keys/secrets/gateway.kafka").write_text("another", "utf-8")
    with pytest.raises(ValueError, match="is another one than when its folder was read"):
        client_options(Connection(BROKERS, sasl=SASL), held)
