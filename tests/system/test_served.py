"""What is served beside exchanges: the catalogue and OpenAPI of each caller, the refusals' page, metrics, health."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.refusal import TABLE
from tests.fakes.parties import LOOK_UP, PERSON, PROTECTED, TAX
from tests.fakes.town import Town, opened

DISCLOSED = {"identifier", "name", "address"}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with opened(tmp_path) as town:
        yield town


def references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for token in reference[2:].split("/"):
        document = document[token.replace("~1", "/").replace("~0", "~")]
    return document


async def shown_to(town: Town, system: str, path: str) -> Any:
    return (await town.ask("GET", path, {"Authorization": f"Bearer {await town.token(system)}"})).body


@pytest.mark.parametrize("system", [TAX, "justice.courts", "finance.audit_office"])
async def test_the_openapi_document_holds_together(town: Town, system: str) -> None:
    """3.1 in structure: every reference leads somewhere, every operation is named once and has its answers."""
    document = await shown_to(town, system, "/openapi.json")
    assert (document["openapi"], set(document["info"]) >= {"title", "version"}) == ("3.1.0", True)
    assert all(resolved(document, reference) is not None for reference in references(document))
    operations = [item["post"] for path, item in document["paths"].items() if path.startswith("/v1/exchange/")]
    assert len({operation["operationId"] for operation in operations}) == len(document["paths"]) > 0
    assert all({"200", "default"} <= set(operation["responses"]) for operation in operations)
    assert all(operation["requestBody"]["content"]["application/json"]["schema"] for operation in operations)


async def test_a_caller_sees_the_schema_of_what_it_gets(town: Town) -> None:
    """The response schema is cut as the answer is; without an agreement there is none."""
    schemas = (await shown_to(town, TAX, "/openapi.json"))["components"]["schemas"]
    seen = schemas[f"interior.{LOOK_UP}.response"]
    assert set(seen["properties"]) == DISCLOSED
    assert set(seen["properties"]["address"]["properties"]) == {"city"}
    without = await shown_to(town, "finance.audit_office", "/openapi.json")
    assert "content" not in without["paths"][f"/v1/exchange/interior/{LOOK_UP}"]["post"]["responses"]["200"]


@pytest.mark.parametrize(("system", "sees"), [(TAX, False), ("justice.courts", True)])
async def test_what_is_restricted_shows_only_to_its_partners(town: Town, system: str, *, sees: bool) -> None:
    """Neither the list nor the document has a word of it for others."""
    catalogue = await shown_to(town, system, "/v1/catalogue")
    document = await shown_to(town, system, "/openapi.json")
    assert (PROTECTED in {row["service"] for row in catalogue["services"]}) is sees
    assert ("protected_lookup" in orjson.dumps(document).decode()) is sees


async def test_the_catalogue_lists_what_there_is(town: Town) -> None:
    """Instance, digest and services, with what each says and who provides it."""
    catalogue = await shown_to(town, TAX, "/v1/catalogue")
    (row,) = [row for row in catalogue["services"] if row["service"] == LOOK_UP]
    assert (catalogue["instance"], catalogue["digest"]) == ("DEMO", "0" * 64)
    assert (row["kind"], row["effect"], row["providers"]) == ("exchange", "read", ["interior"])
    assert set(row["response"]["properties"]) == DISCLOSED


@pytest.mark.parametrize("path", ["/v1/catalogue", "/openapi.json", "/asyncapi.json"])
async def test_nobody_reads_the_catalogue_without_a_token(town: Town, path: str) -> None:
    """It is for members."""
    reply = await town.ask("GET", path)
    assert (reply.status, reply.body["code"]) == (401, "identity.missing")


async def test_every_code_has_its_place_on_the_refusals_page(town: Town) -> None:
    """What a problem's type links to is there, for anybody to read."""
    page = await town.ask("GET", "/docs/refusals")
    assert page.status == 200
    assert all(f'id="{code}"'.encode() in page.raw for code in TABLE)


async def test_metrics_of_an_exchange(town: Town) -> None:
    """Outcome, durations, sizes, journal and catalogue are there; names that nobody registered share one label."""
    await town.call(TAX, LOOK_UP, PERSON)
    await town.call(TAX, "population.no_such_thing.v1", PERSON, agency="nobody")
    metrics = await town.metrics()
    where = f'provider="interior",service="{LOOK_UP}"'
    assert metrics[f'gateway_exchanges_total{{consumer="{TAX}",outcome="answered",{where}}}'] == 1
    assert metrics[f"gateway_exchange_duration_seconds_count{{{where}}}"] == 1
    assert metrics[f'gateway_body_bytes_sum{{direction="response",{where}}}'] > 0
    assert metrics['gateway_refusals_total{code="catalogue.unknown"}'] == 1
    assert (metrics["gateway_exchanges_in_progress"], metrics["gateway_journal_failing"]) == (0, 0)
    assert metrics["gateway_journal_entries_total"] >= 3
    assert "no_such_thing" not in str(metrics)


async def test_health(town: Town) -> None:
    """Live as long as it answers; ready until the journal cannot be written, and again when it can."""
    assert (await town.ask("GET", f"{town.at.operations}/health/live")).body == {"status": "live"}
    ready = f"{town.at.operations}/health/ready"
    assert (await town.ask("GET", ready)).body["status"] == "ready"
    await town.token(TAX)
    town.valve.failing = True
    await town.call(TAX, LOOK_UP, PERSON)
    unready = await town.ask("GET", ready)
    assert (unready.status, unready.body["checks"]["journal"]) == (503, "cannot be written")
    town.valve.failing = False
    await town.upkeep()
    assert (await town.ask("GET", ready)).status == 200


async def test_operations_are_not_public(town: Town) -> None:
    """The public listener knows no metrics and no health."""
    for path in ("/metrics", "/health/live", "/health/ready", "/console"):
        assert (await town.ask("GET", path)).body["code"] == "catalogue.unknown"


async def test_no_answer_names_what_the_gateway_is_made_of(town: Town) -> None:
    """Neither a good answer nor the HTTP library's own 400 tells versions to whoever asks."""
    good = await town.ask("GET", "/.well-known/jwks.json")
    assert good.headers["Server"] == "gateway"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(town.at.public.rpartition(":")[2]))
    writer.write(b"no http at all\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert b"400" in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
