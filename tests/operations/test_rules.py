"""The rules as promtool sees them, and what every alert must have."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.docs.pages import page
from tests.fakes.prometheus import DEPLOYED, scaled, there

FILES = sorted((DEPLOYED / "rules").glob("*.yml"))
TESTS = sorted((DEPLOYED / "tests").glob("*.yml"))
METRIC = re.compile(r"\bgateway_[a-z_]+\b")


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))


RULES = [rule for path in FILES for group in read(path)["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})

ROWS = {name for name in page("docs/metrics.md").rows() if name.startswith("gateway_")}
ROWS |= {f"{name}_{part}" for name in ROWS for part in ("bucket", "sum", "count")}
"""Every series that the program has."""


def promtool(*words: str | Path) -> str:
    """What it prints; whatever is wrong fails the test."""
    done = subprocess.run([there("promtool"), *words], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_one() -> None:
    """promtool takes prometheus.yml and every rule that it names; an agency's own names the one file for agents."""
    assert promtool("check", "config", DEPLOYED / "prometheus.yml").count("SUCCESS") == 2 + len(FILES)
    assert promtool("check", "config", DEPLOYED / "agent.yml").count("SUCCESS") == 3


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_real_windows(path: Path) -> None:
    """Synthetic series, with hours and days, let alerts fire and be silent as the file says."""
    promtool("test", "rules", path)


def _expected() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Every expectation about a firing alert: its name, the query, and the labels; none where it is to be silent."""
    for path in TESTS:
        for group in read(path)["tests"]:
            for each in group["promql_expr_test"]:
                if named := re.search(r'ALERTS\{alertname="(\w+)"', each["expr"]):
                    samples = each["exp_samples"] or [{"labels": ""}]
                    yield from (
                        (named[1], each["expr"], dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"])))
                        for sample in samples
                    )


EXPECTED = list(_expected())


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_seen_firing_and_silent(name: str) -> None:
    """Each severity and window of it fires somewhere in the tests of the rules, and is silent somewhere."""
    fired = [labels for alert, _, labels in EXPECTED if alert == name and labels]
    assert any(alert == name and not labels for alert, _, labels in EXPECTED)
    for rule in (rule for rule in ALERTS if rule["alert"] == name):
        assert any(rule["labels"].items() <= labels.items() for labels in fired)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_whoever_gets_it_needs(rule: Mapping[str, Any]) -> None:
    """A severity, a sentence, what to do, a page; and every label that they name is one that the alert has."""
    said = rule["annotations"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == "{{ $externalLabels.runbooks }}/" + rule["alert"] + ".md"
    assert len(said["summary"]) < 100 < len(said["description"]) + 40
    fired = [labels for alert, _, labels in EXPECTED if alert == rule["alert"] and labels]
    fired = [labels for labels in fired if rule["labels"].items() <= labels.items()]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(said.values())))
    assert all(named <= labels.keys() for labels in fired), (named, fired)


def test_rules_name_metrics_that_exist() -> None:
    """A misspelt name would be an alert that never fires."""
    known = {rule["record"] for rule in RULES if "record" in rule}
    plain = "\n".join(re.sub(r"\w*:gateway_\w+:\w+", "", rule["expr"]) for rule in RULES)
    assert set(METRIC.findall(plain)) - ROWS == set()
    assert all(name in known for name in re.findall(r"\w*:gateway_\w+:\w+", "\n".join(rule["expr"] for rule in RULES)))


def test_windows_are_scaled_and_nothing_else() -> None:
    """What the tests with a real Prometheus change of the rules."""
    text = "expr: increase(gateway_x_total[5m]) > 300\nfor: 1m\nlabels: {window: 1h}\nscrape_interval: 15s\n"
    assert scaled(text) == (
        "expr: increase(gateway_x_total[3000ms]) > 300\nfor: 600ms\nlabels: {window: 1h}\nscrape_interval: 150ms\n"
    )
