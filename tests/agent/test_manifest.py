"""agent.yaml: read for good at the agency, for its form at a hub; what is wrong has file, line and remedy."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.agent.manifest import NotReady
from gateway.catalogue.reading import render
from gateway.catalogue.snapshot import load
from tests.fakes.premises import Premises, premises

HTTP = {"services": ["*"], "protocol": "http", "url": "http://127.0.0.1:9"}


def refused(at: Premises) -> str:
    """What somebody is told who starts it."""
    with pytest.raises(NotReady) as wrong:
        at.setup()
    return f"{wrong.value}\n{render(wrong.value.findings)}"


def test_what_stands_there_is_read(tmp_path: Path) -> None:
    """Variables are filled in, the system's key is named, and its own machine may be called."""
    at = premises(tmp_path, deliveries=[{**HTTP, "url": "${TREASURY_URL}/documents", "takes_key": True}])
    made = at.setup()
    (served,) = made.plan.deliveries
    assert (made.client_id, made.plan.gateway, made.key.name) == (
        "treasury.agent",
        "http://127.0.0.1:9",
        "treasury.agent.jwk.json",
    )
    assert (served.way.options["url"], served.way.options["allow"], served.takes_key) == (
        "http://127.0.0.1:9/documents",
        ["loopback"],
        True,
    )
    assert (made.plan.kafka.bootstrap, made.plan.attached.hours) == (("127.0.0.1:9",), 7 * 24)


def test_without_a_file_it_is_told_where_it_belongs(tmp_path: Path) -> None:
    """The path, the page, the variable."""
    said = refused(Premises(tmp_path))
    assert "adapters/treasury/agent.yaml is missing" in said
    assert "GATEWAY_CATALOGUE" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instance": None}, 'the required key "instance" is missing'),
        ({"instance": "demo"}, '"demo" has not the form of "instance"'),
        ({"gatway": "https://g.example"}, 'Did you mean "gateway"?'),
        ({"gateway": "http://gateway.example"}, "the gateway's address is not https"),
        ({"gateway": "https://gateway.example/?a=1"}, "more than host and path"),
        ({"gateway": "${INTERIOR_GATEWAY}"}, "INTERIOR_GATEWAY is not this agency's"),
        ({"gateway": "${TREASURY_OTHER}"}, "TREASURY_OTHER is not set"),
        ({"agency": "interior"}, 'the agent is of "interior"'),
        ({"deliveries": []}, '"deliveries" needs at least 1'),
        ({"deliveries": [{**HTTP, "protocol": "mailbox"}]}, 'unknown protocol "mailbox"'),
        ({"deliveries": [{**HTTP, "protocol": "kafka"}]}, 'unknown protocol "kafka"'),
        ({"deliveries": [HTTP, dict(HTTP, services=["permits.*"])]}, 'the way "http" stands already in line'),
        ({"deliveries": [{**HTTP, "secret_headers": {"X-Key": "interior.key"}}]}, "is not this agency's"),
        ({"deliveries": [{"services": ["*"], "protocol": "python", "class": "Registry"}]}, "has no adapter.py"),
        ({"deliveries": [{"services": ["*"], "protocol": "webhook", "url": "http://a"}]}, '"secret" is missing'),
        ({"kafka": {"bootstrap": ["kafka.example:9092"]}}, "nothing is encrypted"),
        ({"kafka": {"bootstrap": ["${KAFKA_BOOTSTRAP}"]}}, "does not begin with TREASURY_"),
        ({"kafka": {"bootstrap": ["127.0.0.1:9"], "tls": {"ca": "treasury.ca"}}}, "treasury.ca is not there"),
        ({"tls": {"ca": "treasury.gateway_ca"}}, "treasury.gateway_ca is not there"),
        ({"attachments": {"keep": "a week"}}, '"keep" must be a number of days'),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """With file, line and remedy."""
    told = refused(premises(tmp_path, **changes))
    assert said in told
    assert "adapters/treasury/agent.yaml:" in told


def test_the_key_must_be_there(tmp_path: Path) -> None:
    """It is told which command makes it."""
    at = Premises(tmp_path)
    at.write()
    assert "gateway keys party treasury.agent --instance DEMO" in refused(at)


def test_a_key_that_everybody_may_read_is_not_taken(tmp_path: Path) -> None:
    """Nor one of another instance, nor what is no JSON; nothing of it is told."""
    at = Premises(tmp_path)
    at.write(instance="KH")
    at.own_key(instance="KH")
    key = at.setup().key
    key.chmod(0o644)
    assert "chmod 600" in refused(at)
    key.chmod(0o600)
    key.write_text('{"instance": "KH-TEST", "d": "very-secret"}')
    assert "no key of the instance KH" in refused(at)
    key.write_text("very-secret")
    assert "is no JSON" in refused(at)
    assert "very-secret" not in refused(at)


HUB = Path(__file__).parents[1] / "catalogue" / "base"
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def hub(folder: Path, **changes: Any) -> str:
    """What a hub's check finds where the interior ministry's agent.yaml lies in its catalogue."""
    root = Path(shutil.copytree(HUB, folder / "hub", ignore=shutil.ignore_patterns("__pycache__")))
    own = {"agency": "interior", "instance": "TEST", "gateway": "${INTERIOR_GATEWAY}", "system": "civil_registry"}
    kafka = {"bootstrap": ["${INTERIOR_KAFKA}"], "tls": {"ca": "interior.kafka_ca"}}
    deliveries = [{"services": ["*"], "protocol": "python", "class": "Registry"}]
    Premises(root, "interior").write(**{**own, "kafka": kafka, "deliveries": deliveries, **changes})
    made = load(root, instance="TEST", zone=ZoneInfo("Asia/Phnom_Penh"), keys=root / "keys", at=NOW)
    return render(each for each in made.findings if each.level == "error")


def test_a_hub_looks_at_its_form_alone(tmp_path: Path) -> None:
    """It has neither the agency's variables nor its secrets nor its code."""
    assert hub(tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instance": "KH"}, 'the agent is of another instance than "TEST"'),
        ({"system": "agent"}, 'the agency has no system "agent"'),
        ({"deliveries": [{"protocol": "python", "class": "Registry"}]}, 'the required key "services" is missing'),
        ({"gateway": "http://gateway.example"}, "the gateway's address is not https"),
    ],
)
def test_a_hub_says_what_does_not_fit(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """With file and line, before anything is brought to the agency."""
    told = hub(tmp_path, **changes)
    assert said in told
    assert "adapters/interior/agent.yaml:" in told
