"""What exists has its heading or its row: settings, metrics, commands, refusals, keys of manifests, public names."""

import dataclasses
import html
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import typer
from prometheus_client import Counter
from pydantic import BaseModel
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

import gateway.adapter
import gateway.client
from gateway.__main__ import app
from gateway.agent.meters import AgentMeters
from gateway.catalogue import agent_form, clusters, manifests, members
from gateway.catalogue.refusal_page import markdown
from gateway.catalogue.refusal_page import page as served
from gateway.core.entry import Step
from gateway.core.refusal import TABLE
from gateway.edge import archive
from gateway.edge.roster import ParentMeters
from gateway.edge.telemetry import Meters
from gateway.settings import PREFIX, Settings
from tests.docs.pages import ROOT, page
from tests.docs.stage import Stage


def test_every_setting_has_its_row() -> None:
    """docs/settings.md: name, default, and no setting that is none."""
    rows = {name: row for name, row in page("docs/settings.md").rows().items() if name.startswith(PREFIX)}
    assert rows.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = "none" if field.default in (None, ()) else f"`{_written(field.default)}`"
        assert f"| {default} |" in rows[PREFIX + name.upper()]


def _written(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metrics() -> Iterator[tuple[str, tuple[str, ...]]]:
    agents = AgentMeters("treasury", "DEMO")
    for metric in (*vars(Meters()).values(), *vars(ParentMeters()).values(), *vars(agents).values()):
        labels = getattr(metric, "_labelnames", None)
        if labels is not None:
            yield metric.describe()[0].name + ("_total" if isinstance(metric, Counter) else ""), labels


def test_every_metric_has_its_row() -> None:
    """docs/metrics.md: each name as Prometheus shows it, with its labels, and none that is not there."""
    rows = {name: row for name, row in page("docs/metrics.md").rows().items() if name.startswith("gateway_")}
    assert rows.keys() == {name for name, _ in _metrics()}
    for name, labels in _metrics():
        assert [label for label in labels if f"`{label}`" not in rows[name]] == []


def _commands(group: TyperGroup, before: str) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{before} {name}")
            if command.invoke_without_command:
                yield f"{before} {name}", command
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{before} {name}", command


def _program() -> TyperGroup:
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    return program


COMMANDS = dict(_commands(_program(), "gateway"))


def test_every_command_has_its_heading() -> None:
    """docs/commands.md has a heading for each command and for nothing else."""
    headings = [heading for heading in page("docs/commands.md").headings() if heading.startswith("gateway ")]
    assert sorted(headings) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_row(name: str) -> None:
    """The section of a command names each of its options and arguments, and no other option."""
    section = page("docs/commands.md").section(name)
    options = {each.opts[0] for each in COMMANDS[name].params if isinstance(each, TyperOption)} - {"--help"}
    rows = {line.split("`")[1].split()[0] for line in section.splitlines() if line.startswith("| `")}
    arguments = {str(each.name).upper() for each in COMMANDS[name].params if isinstance(each, TyperArgument)}
    assert rows == options | arguments


def test_every_refusal_has_its_heading() -> None:
    """docs/reference/refusals.md is what the table makes."""
    path = ROOT / "docs/reference/refusals.md"
    assert path.read_text("utf-8") == markdown()
    assert [code for code in TABLE if f"\n### {code}\n" not in markdown()] == []


def test_the_served_page_on_refusals_says_the_same() -> None:
    """/docs/refusals has the words of docs/reference/refusals.md in the same order, and a link on each heading."""
    said = re.sub(r"[#*`\s]", "", markdown()).partition("problemleads.")[2]
    shown = html.unescape(re.sub(r"<[^>]+>|\s", "", served()))
    assert said
    assert shown.endswith(said)
    assert [code for code in TABLE if f'<a href="#{code}">' not in served()] == []


MANIFESTS = {
    "docs/adapters.md": (
        *(manifests.Service, manifests.Subjects, manifests.Attachments, manifests.Calendar, manifests.Holiday),
        *(members.Agency, members.Contacts, members.System, members.Signatory, members.Issuer, members.Maintenance),
        *(members.HttpEndpoint, members.PythonEndpoint, members.Tls, members.MailboxDelivery),
        *(members.WebhookDelivery, members.HttpDelivery, members.PythonDelivery, members.Publication),
        *(members.Subscription,),
    ),
    "docs/agent.md": (
        *(agent_form.Agent, agent_form.Attached, agent_form.HttpWay, agent_form.WebhookWay, agent_form.PythonWay),
        *(clusters.Connection, clusters.Sasl),
    ),
    "docs/topics.md": (clusters.Kafka, clusters.Sasl, clusters.Topics, clusters.Share),
    "docs/agreements.md": (
        *(manifests.Agreement, members.Valid, manifests.Grant, manifests.Limits, manifests.Signature),
        *(manifests.Decision, manifests.Purpose, manifests.Purposes, members.Mandate, members.MandateSignature),
    ),
}


@pytest.mark.parametrize("place", MANIFESTS)
def test_every_key_of_a_manifest_is_named(place: str) -> None:
    """Whoever writes a manifest finds each of its keys."""
    text = page(place).text
    forms: tuple[type[BaseModel], ...] = MANIFESTS[place]
    keys = {field.alias or name for form in forms for name, field in form.model_fields.items()}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


@pytest.mark.parametrize("name", gateway.client.__all__)
def test_every_name_of_the_client_is_named(name: str) -> None:
    """docs/client.md knows each public name of gateway.client."""
    assert f"`{name}" in page("docs/client.md").text or f"import {name}" in page("docs/client.md").text


def test_every_method_and_argument_of_the_client_is_named() -> None:
    """docs/client.md knows what GatewayClient can do, and what an answer and a refusal carry."""
    text = page("docs/client.md").text
    methods = {name for name in dir(gateway.client.GatewayClient) if not name.startswith("_")}
    arguments = set(gateway.client.GatewayClient.exchange.__kwdefaults__ or {})
    fields = {
        field.name for kind in (gateway.client.Answer, gateway.client.Problem) for field in dataclasses.fields(kind)
    }
    assert [name for name in sorted(methods) if f".{name}(" not in text and f"`{name}" not in text] == []
    assert [name for name in sorted(arguments | fields) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", gateway.adapter.__all__)
def test_every_name_for_adapters_is_named(name: str) -> None:
    """docs/adapters.md knows each public name of gateway.adapter."""
    assert f"`{name}`" in page("docs/adapters.md").text


def test_what_an_adapter_is_asked_is_named() -> None:
    """docs/adapters.md knows each field of a request, and each method of an adapter."""
    text = page("docs/adapters.md").text
    fields = {field.name for field in dataclasses.fields(gateway.adapter.Request)}
    methods = {name for name in vars(gateway.adapter.Adapter) if not name.startswith("_")}
    assert [name for name in sorted(fields | methods) if f"`{name}`" not in text] == []


def test_every_decision_is_numbered_once_and_says_what_is_bad_about_it() -> None:
    """docs/decisions/ counts without gaps, and each record has its negative consequences."""
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [path.name[:4] for path in paths] == [f"{number:04}" for number in range(1, len(paths) + 1)]
    assert [path.name for path in paths if not _honest(path)] == []


def _honest(path: Path) -> bool:
    return any(mark in path.read_text("utf-8").lower() for mark in ("*negative:*", "negative consequences"))


def _constants() -> Iterator[tuple[str, float]]:
    for name in page("docs/security.md").rows():
        module, _, constant = name.rpartition(".")
        if module and constant.isupper():
            yield name, getattr(importlib.import_module(f"gateway.{module}"), constant)


def test_limits_are_those_of_the_program() -> None:
    """docs/security.md: each row of its table names a constant, with its value."""
    rows = page("docs/security.md").rows()
    found = dict(_constants())
    assert len(found) > 30
    assert [name for name, value in found.items() if f"| {value:.0f} |" not in rows[name]] == []


def test_every_limit_has_its_row() -> None:
    """A constant that is called MAX of the program's own side stands in docs/security.md."""
    layers = ("gateway/core", "gateway/protocols", "gateway/edge", "gateway/agent")
    text = "\n".join(
        f"{path.stem}.{line}" for layer in layers for path in (ROOT / layer).glob("*.py") for line in _lines(path)
    )
    names = {f"{module}.{name}" for module, name in re.findall(r"^(\w+)\.(MAX_\w+) = ", text, re.MULTILINE)}
    rows = {".".join(name.split(".")[-2:]) for name in page("docs/security.md").rows()}
    assert names - rows == set()


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_every_log_event_has_its_row() -> None:
    """docs/operations.md knows every line that the program logs, with its level, and no other."""
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    events = {(name, level) for level, name in re.findall(r"\b_?log\.(debug|info|warning|error)\(\s*\"(\w+)\"", text)}
    section = page("docs/operations.md").section("Logs")
    assert set(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)) == events
    assert section.count("\n| `") == len(events)


def test_every_member_of_an_entry_has_its_row(running: Stage) -> None:
    """docs/journal.md explains whatever the demonstration's entries hold."""
    text = page("docs/journal.md").text
    kept = list(archive.entries(running.folder / "demo-data" / "gateway.sqlite3"))
    members = {name for each in kept for name in (*archive.shown(each), *orjson.loads(each.particulars or b"{}"))}
    members |= {name for each in kept for name in archive.shown(each).get("digests", {})}  # type: ignore[attr-defined] # JSON
    assert len(members) > 20
    assert [name for name in sorted(members) if f"`{name}`" not in text] == []
    assert [step for step in Step if f"| `{step}` |" not in text] == []
