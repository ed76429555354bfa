"""The schemas that ``dataschema`` names: who may fetch one, and whether what was handed over fits it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.core.shape import Shape
from tests.fakes.correspondents import (
    ALERT,
    ALERTS,
    ARCHIVE,
    DESK,
    FLOOD,
    LAMPANG,
    LETTER,
    PLATFORM,
    REGISTER,
    SECRET,
    SILA,
    TEXT,
    Letters,
)
from tests.fakes.parties import CHANGE, ISSUER, LOOK_UP, PERSON, PROTECTED, TAX
from tests.fakes.post_office import PostTown, claims_of
from tests.fakes.post_office import opened as post_opened
from tests.fakes.town import Reply, Town, opened


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[PostTown]:
    async with post_opened(tmp_path) as town:
        yield town


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Town]:
    """A town that exchanges records."""
    async with opened(tmp_path) as town:
        yield town


async def fetched(town: Town, system: str, service: str, part: str = "document", **headers: str) -> Reply:
    given = {"Authorization": f"Bearer {await town.token(system)}", **headers}
    return await town.ask("GET", f"/schemas/{service}/{part}.json", given)


def fits(schema: Mapping[str, Any], value: Any) -> None:
    """By a validator that knows nothing of the gateway; raises where it does not."""
    judge = jsonschema.Draft202012Validator
    judge.check_schema(schema)
    judge(schema, format_checker=judge.FORMAT_CHECKER).validate(value)


async def inbox(town: PostTown, system: str) -> Any:
    return (await town.say("GET", "/inbox?wait=5", system)).body["documents"]


async def test_what_is_handed_over_fits_its_schema(town: PostTown) -> None:
    """Its address is its ``$id``; it needs nothing else to be used."""
    await town.send(TEXT)
    (letter,) = await inbox(town, REGISTER)
    reply = await fetched(town, REGISTER, letter["service"])
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/schema+json")
    assert reply.body["$id"] == f"{ISSUER}/schemas/{LETTER}/document.json"
    assert reply.body["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    fits(reply.body, letter["body"])
    with pytest.raises(jsonschema.ValidationError):
        fits(reply.body, {**letter["body"], "case": 17})


async def test_a_part_of_an_event_fits_the_schema_of_whoever_gets_it(town: PostTown) -> None:
    """What is not disclosed is not named there; its publisher finds the whole."""
    assert (await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)).status == 202
    (alert,) = await inbox(town, SILA)
    seen = await fetched(town, SILA, ALERT)
    fits(seen.body, alert["body"])
    assert b"duty_officer" not in seen.raw
    whole = await fetched(town, ALERTS, ALERT)
    fits(whole.body, FLOOD)
    assert b"duty_officer" in whole.raw


async def test_every_system_of_an_agency_can_read_its_topic(town: PostTown) -> None:
    """The agreement names one of its systems; the other finds the same schema."""
    assert (await fetched(town, ARCHIVE, ALERT)).raw == (await fetched(town, DESK, ALERT)).raw
    assert (await fetched(town, REGISTER, ALERT)).raw == (await fetched(town, ALERTS, ALERT)).raw


async def test_what_is_restricted_is_not_there_for_others(town: PostTown) -> None:
    """Its sender and its recipient find it; everybody else gets the words for what does not exist."""
    statuses = [(await fetched(town, each, SECRET)).status for each in (SILA, REGISTER, DESK, LAMPANG)]
    assert statuses == [200, 200, 404, 404]
    hidden, missing = await fetched(town, DESK, SECRET), await fetched(town, DESK, "letters.no_such_letter.v1")
    assert (hidden.body["code"], hidden.body["detail"]) == (missing.body["code"], missing.body["detail"])
    assert hidden.body["code"] == "catalogue.unknown"


async def test_an_event_is_disclosed_by_agreement(town: PostTown) -> None:
    """Whoever has none is told so: that there is the service is no secret."""
    reply = await fetched(town, PLATFORM, ALERT)
    assert (reply.status, reply.body["code"]) == (403, "policy.no_agreement")
    assert "contact" in reply.body


@pytest.mark.parametrize("path", [f"{LETTER}/response.json", f"{LETTER}/document.yaml", f"{LETTER}/", "receipts.json"])
async def test_there_is_nothing_else(town: PostTown, path: str) -> None:
    """Other parts, other forms, the folder."""
    reply = await town.ask("GET", f"/schemas/{path}", {"Authorization": f"Bearer {await town.token(DESK)}"})
    assert (reply.status, reply.body["code"]) == (404, "catalogue.unknown")


@pytest.mark.parametrize("path", [f"{LETTER}/document.json", "nothing.v1/document.json", "receipt.json"])
async def test_nobody_reads_them_without_a_token(town: PostTown, path: str) -> None:
    """As for /openapi.json; whether there is such a service is not said."""
    reply = await town.ask("GET", f"/schemas/{path}")
    assert (reply.status, reply.body["code"]) == (401, "identity.missing")


async def test_it_need_not_be_fetched_twice(town: PostTown) -> None:
    """Its tag says whether it is the same, also in a list; to another system it is another one."""
    first = await fetched(town, SILA, ALERT)
    tag = first.headers["ETag"]
    assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("private, max-age=300", "Authorization")
    for given in (tag, f'"else", W/{tag}', "*"):
        again = await fetched(town, SILA, ALERT, **{"If-None-Match": given})
        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", tag)
    assert (await fetched(town, ALERTS, ALERT, **{"If-None-Match": tag})).status == 200


async def test_another_catalogue_has_another_schema(town: PostTown) -> None:
    """It is shown from the next call on, with another tag; an unchanged one keeps its own."""
    before, other = await fetched(town, DESK, LETTER), await fetched(town, SILA, ALERT)
    town.changed(replace(Letters(), services={LETTER: {"request": Shape({"type": "object"})}}))
    after = await fetched(town, DESK, LETTER, **{"If-None-Match": before.headers["ETag"]})
    assert (after.status, after.body["type"], "properties" in after.body) == (200, "object", False)
    assert (await fetched(town, SILA, ALERT)).headers["ETag"] == other.headers["ETag"]


async def test_a_receipt_fits_its_schema(town: PostTown) -> None:
    """Each of those that a document gets in its life, and no other text."""
    made = await town.send(TEXT)
    (letter,) = await inbox(town, REGISTER)
    lease = (await town.say("GET", "/inbox", REGISTER)).body["lease"]
    assert lease is None
    receipts = (await town.say("GET", f"/documents/{made.body['document']}", DESK)).body["receipts"]
    schema = (
        await town.ask("GET", "/schemas/receipt.json", {"Authorization": f"Bearer {await town.token(DESK)}"})
    ).body
    assert schema["$id"] == f"{ISSUER}/schemas/receipt.json"
    for receipt in (*receipts, letter["receipt"]):
        fits(schema, claims_of(receipt))
    with pytest.raises(jsonschema.ValidationError):
        fits(schema, {**claims_of(receipts[0]), "state": "lost"})


async def test_the_schemas_of_an_exchange(asking: Town) -> None:
    """What is asked is open to members, what is answered to those with an agreement, cut as their answers are."""
    asked = await fetched(asking, "finance.audit_office", LOOK_UP, "request")
    fits(asked.body, PERSON)
    answer = await asking.call(TAX, LOOK_UP, PERSON)
    seen = await fetched(asking, TAX, LOOK_UP, "response")
    fits(seen.body, answer.body)
    assert b"street" not in seen.raw
    without = await fetched(asking, "finance.audit_office", LOOK_UP, "response")
    assert (without.status, without.body["code"]) == (403, "policy.no_agreement")
    hidden = [(await fetched(asking, TAX, PROTECTED, part)).status for part in ("request", "response")]
    assert hidden == [404, 404]
    assert (await fetched(asking, "justice.courts", CHANGE, "response")).status == 200
