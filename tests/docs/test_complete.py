"""What exists has its heading or its row: settings, metrics, commands, refusals, keys of manifests, public names."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import Counter
from pydantic import BaseModel
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

import gateway.adapter
import gateway.client
from gateway.__main__ import app
from gateway.catalogue import manifests
from gateway.catalogue.refusal_page import markdown
from gateway.core.refusal import TABLE
from gateway.edge.telemetry import Meters
from gateway.settings import PREFIX, Settings
from tests.docs.pages import ROOT, page


def test_every_setting_has_its_row() -> None:
    """docs/settings.md: name, default, and no setting that is none."""
    rows = {name: row for name, row in page("docs/settings.md").rows().items() if name.startswith(PREFIX)}
    assert rows.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = "none" if field.default is None else f"`{_written(field.default)}`"
        assert f"| {default} |" in rows[PREFIX + name.upper()]


def _written(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metrics() -> Iterator[tuple[str, tuple[str, ...]]]:
    for metric in vars(Meters()).values():
        labels = getattr(metric, "_labelnames", None)
        if labels is not None:
            yield metric.describe()[0].name + ("_total" if isinstance(metric, Counter) else ""), labels


def test_every_metric_has_its_row() -> None:
    """docs/metrics.md: each name as Prometheus shows it, with its labels, and none that is not there."""
    rows = {name: row for name, row in page("docs/metrics.md").rows().items() if name.startswith("gateway_")}
    assert rows.keys() == {name for name, _ in _metrics()}
    for name, labels in _metrics():
        assert [label for label in labels if f"`{label}`" not in rows[name]] == []


def _commands(group: TyperGroup, before: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{before} {name}")
        elif isinstance(command, TyperCommand):
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


MANIFESTS = {
    "docs/adapters.md": (
        *(manifests.Service, manifests.Subjects, manifests.Agency, manifests.Contacts, manifests.System),
        *(manifests.Signatory, manifests.Issuer, manifests.Maintenance, manifests.HttpEndpoint),
        *(manifests.PythonEndpoint, manifests.Tls),
    ),
    "docs/agreements.md": (
        *(manifests.Agreement, manifests.Valid, manifests.Grant, manifests.Limits, manifests.Signature),
        *(manifests.Decision, manifests.Purpose, manifests.Purposes),
    ),
}


@pytest.mark.parametrize("place", MANIFESTS)
def test_every_key_of_a_manifest_is_named(place: str) -> None:
    """Whoever writes a manifest finds each of its keys."""
    text = page(place).text
    keys = {field.alias or name for form in MANIFESTS[place] for name, field in _fields(form)}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def _fields(form: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    yield from form.model_fields.items()


@pytest.mark.parametrize("name", gateway.client.__all__)
def test_every_name_of_the_client_is_named(name: str) -> None:
    """docs/client.md knows each public name of gateway.client."""
    assert f"`{name}" in page("docs/client.md").text or f"import {name}" in page("docs/client.md").text


def test_every_method_and_argument_of_the_client_is_named() -> None:
    """docs/client.md knows what GatewayClient can do, and what an answer and a refusal carry."""
    text = page("docs/client.md").text
    methods = {name for name in vars(gateway.client.GatewayClient) if not name.startswith("_")}
    arguments = set(gateway.client.GatewayClient.exchange.__kwdefaults__ or {})
    fields = {field.name for kind in (gateway.client.Answer, gateway.client.Problem) for field in _values(kind)}
    assert [name for name in sorted(methods) if f".{name}(" not in text and f"`{name}" not in text] == []
    assert [name for name in sorted(arguments | fields) if f"`{name}`" not in text] == []


def _values(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


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
