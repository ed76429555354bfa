"""The agent.yaml that docs/agent.md shows is one with which an agent starts."""

from pathlib import Path

from gateway.agent.manifest import setup
from tests.docs.pages import page
from tests.fakes.premises import Premises


def test_the_example_of_the_guide_is_taken(tmp_path: Path) -> None:
    """With the variable, the secrets, the key and the class that the page names."""
    (shown,) = (each.text for each in page("docs/agent.md").blocks() if each.text.startswith("agency: treasury"))
    at = Premises(tmp_path)
    at.write().write_text(shown, "utf-8")
    at.adapter("class Registry:\n    pass\n")
    at.own_key(instance="KH")
    at.secret("treasury.kafka", "very-secret")
    at.secret("treasury.kafka_ca", "-----BEGIN CERTIFICATE-----")
    plan = setup(at.folder, at.keys, "treasury", {"TREASURY_URL": "http://127.0.0.1:8000"}).plan
    assert [(each.way.name, each.takes_key) for each in plan.deliveries] == [("http", True), ("python", False)]
    assert (plan.gateway, len(plan.kafka.bootstrap)) == ("https://gateway.example", 2)
