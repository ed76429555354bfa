"""What each caller is shown of documents and events: the list of services, and the addresses that are its own."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway.catalogue import openapi
from gateway.catalogue.snapshot import load
from gateway.core.model import Catalogue, SystemId
from tests.catalogue.conftest import HERE, NOW, ZONE

TAX, ARCHIVE, REGISTRY, DESK = map(
    SystemId, ("finance.local_tax", "finance.archive", "interior.civil_registry", "platform.desk")
)
FOLLOWED = {"/v1/documents", "/v1/documents/{id}", "/v1/documents/{id}/recall"}
INBOX = {"/v1/inbox", "/v1/inbox/lease", "/v1/inbox/{id}"}
FILES = {"/v1/attachments", "/v1/attachments/{id}"}
LETTERS = {f"/v1/documents/{where}letters.notice.v1" for where in ("", "saensuk/", "sila/")}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    root = tmp_path_factory.mktemp("openapi") / "catalogue"
    for layer in ("base", "post"):
        shutil.copytree(HERE / layer, root, dirs_exist_ok=True)
    loaded = load(root, instance="TEST", zone=ZONE, keys=root / "keys", at=NOW)
    assert loaded.catalogue is not None
    return loaded.catalogue


def document(catalogue: Catalogue, system: SystemId) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(orjson.dumps(openapi.document(catalogue, system, "https://gateway.example")))
    return made


@pytest.mark.parametrize(
    ("system", "addresses"),
    [
        (TAX, LETTERS | {"/v1/documents/interior/population.correction.v1"} | FOLLOWED | INBOX | FILES),
        (ARCHIVE, FOLLOWED | INBOX | {"/v1/subscriptions"}),
        (REGISTRY, {"/v1/events/disaster.alert.v1", "/v1/approvals", "/v1/approvals/{id}"} | FOLLOWED | INBOX),
        (DESK, LETTERS | FOLLOWED | FILES),
    ],
)
def test_each_caller_sees_its_own_addresses(sound: Catalogue, system: SystemId, addresses: set[str]) -> None:
    """What it may send in its own name or another's, what its agency takes, approves, publishes or is told."""
    paths = document(sound, system)["paths"]
    assert {path for path in paths if not path.startswith("/v1/exchange/")} == addresses


def references(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(inner)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        yield value["$ref"]


@pytest.mark.parametrize("system", [TAX, ARCHIVE, REGISTRY, DESK])
def test_the_document_holds_together(sound: Catalogue, system: SystemId) -> None:
    """Every reference leads somewhere, every operation has a name of its own, every place in an address a parameter."""
    made = document(sound, system)
    known = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert {each for each in references(made) if each.count("/") == 3} <= known
    operations = [(path, each) for path, item in made["paths"].items() for each in item.values()]
    assert len({each["operationId"] for _, each in operations}) == len(operations)
    for path, each in operations:
        inside = {one["name"] for one in each.get("parameters", []) if one["in"] == "path"}
        assert inside == set(re.findall(r"\{(\w+)\}", path))


def test_a_sender_is_told_what_its_agreement_asks(sound: Catalogue) -> None:
    """Purposes, required headers and scope are those of its own grants."""
    (post,) = document(sound, TAX)["paths"]["/v1/documents/interior/population.correction.v1"].values()
    required = {each["name"] for each in post["parameters"] if each["required"]}
    assert required == {"Exchange-Purpose", "Idempotency-Key", "Exchange-Case", "Exchange-User-Assertion"}
    assert post["security"] == [{"token": ["population:read"]}]


def row(catalogue: Catalogue, system: SystemId, service: str) -> dict[str, Any]:
    listed = orjson.loads(orjson.dumps(openapi.listing(catalogue, system)))["services"]
    found: dict[str, Any] = next(each for each in listed if each["service"] == service)
    return found


def test_the_list_says_how_a_document_lives(sound: Catalogue) -> None:
    """Order, deadlines, end and files; who takes it; and for whom the caller may send it."""
    letter = row(sound, DESK, "letters.notice.v1")
    assert (letter["kind"], letter["providers"]) == ("document", ["saensuk", "sila"])
    assert (letter["order_by"], letter["done_at"], letter["keep_days"]) == ("/file", "registered", 90)
    assert (letter["deliver_within"], letter["register_within"]) == ({"working_days": 3}, {"working_days": 10})
    assert letter["attachments"] == {"types": ["application/pdf"], "max_bytes": 10485760, "max_count": 3}
    assert {(each["provider"], each["on_behalf"]) for each in letter["terms"]} == {
        ("saensuk", "finance"),
        ("sila", "finance"),
    }


def test_the_list_says_who_must_approve(sound: Catalogue) -> None:
    """A sender knows beforehand that a second person decides."""
    (term,) = row(sound, TAX, "population.correction.v1")["terms"]
    assert (term["approval"], term["require"]) == ({"by": "provider", "role": "registrar"}, ["case", "person"])


@pytest.mark.parametrize(("system", "members"), [(REGISTRY, {"level", "note"}), (ARCHIVE, {"level"}), (DESK, None)])
def test_an_event_shows_as_it_reaches_the_caller(sound: Catalogue, system: SystemId, members: set[str] | None) -> None:
    """Whole to its publisher, cut to a subscriber, not at all without an agreement."""
    schema = row(sound, system, "disaster.alert.v1")["document"]
    assert (schema if schema is None else set(schema["properties"])) == members
