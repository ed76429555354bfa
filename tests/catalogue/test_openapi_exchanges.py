"""What each caller is shown of exchanges: its own agency's as well, and schemas that every answer it can get fits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import jsonschema
import orjson
import pytest

from gateway.catalogue import openapi
from gateway.core import policy
from gateway.core.minimise import cut_of, minimise
from gateway.core.model import AgencyId, Catalogue, Mandate, Pointer, ServiceId, SystemId
from gateway.core.shape import Shape
from tests.fakes import catalogues, idp
from tests.fakes.parties import LOOK_UP, PARTIES, PROTECTED, SERVICES, TAX, Terms, catalogue_of

KEYS = {name: idp.key() for name in PARTIES}
REGISTER, PLATFORM = SystemId("interior.civil_registry"), SystemId("saensuk.front_desk")
"""Of the agency that provides; and of one that may act for the tax office's ministry."""
WHOLE = {"identifier": "KH-1", "name": "Chan", "address": {"city": "Battambang", "street": "1"}}
PLACE = {"type": "object", "required": ["city", "street"], "properties": {"city": {"type": "string"}, "street": {}}}
SCHEMA = {
    "type": "object",
    "required": ["identifier", "name", "address"],
    "properties": {"identifier": {"type": "string"}, "name": {"type": "string"}, "address": PLACE},
    "additionalProperties": False,
}

Cut = Sequence[str] | None


def town(*cuts: Cut, mandates: tuple[Mandate, ...] = ()) -> Catalogue:
    """The interior ministry has a system too; the tax office has a grant on the look-up for each of the cuts."""
    made = catalogue_of("http://interior.example", KEYS, Terms(mandates=mandates))
    (key,) = (each for each in made.grants if each[1:] == (LOOK_UP, TAX))
    ((agreement, grant),) = made.grants[key]
    pointers = [None if cut is None else tuple(map(Pointer, cut)) for cut in cuts]
    grants = tuple((agreement, replace(grant, disclosed=each)) for each in pointers)
    own = catalogues.system(REGISTER)
    interior = replace(made.agencies[AgencyId("interior")], systems={REGISTER: own})
    look_up = replace(made.services[ServiceId(LOOK_UP)], response=Shape(SCHEMA))
    return replace(
        made,
        agencies={**made.agencies, interior.id: interior},
        systems={**made.systems, REGISTER: own},
        services={**made.services, look_up.id: look_up},
        grants={**made.grants, key: grants},
    )


def listed(made: Catalogue, system: str, service: str) -> list[Any]:
    rows = orjson.loads(orjson.dumps(openapi.listing(made, SystemId(system))))["services"]
    return [row for row in rows if row["service"] == service]


def answers(made: Catalogue, system: str) -> Iterable[Any]:
    """The schema of what is answered, in the list and in the OpenAPI document."""
    yield listed(made, system, LOOK_UP)[0]["response"]
    document = orjson.loads(orjson.dumps(openapi.document(made, SystemId(system), "https://gateway.example")))
    schemas = document["components"]["schemas"]
    (content,) = document["paths"][f"/v1/exchange/interior/{LOOK_UP}"]["post"]["responses"]["200"]["content"].values()
    yield {**content["schema"], "components": {"schemas": schemas}}


@pytest.mark.parametrize(
    "cuts",
    [
        [("/name",)],
        [("/name",), ("/identifier", "/address/city")],
        [("/name",), None],
        [("/address/city",), ("/address/street",), ("/identifier",)],
    ],
)
def test_an_answer_under_any_of_the_agreements_fits(cuts: list[Cut]) -> None:
    """What one of two different cuts leaves out is not asked for; what breaks the schema still does."""
    for schema in answers(town(*cuts), TAX):
        judge = jsonschema.Draft202012Validator(schema)
        for cut in cuts:
            judge.validate(WHOLE if cut is None else minimise(WHOLE, cut_of(cut)))
        assert not judge.is_valid({"identifier": 1, "name": 1, "address": {"city": 1}})


def test_an_agency_sees_the_restricted_service_that_it_provides() -> None:
    """With all that it answers and without terms, and a call says that an agreement is missing; others see nothing."""
    made = town(("/name",))
    restricted = next(each for each in SERVICES if each.id == PROTECTED)
    (row,) = listed(made, REGISTER, PROTECTED)
    assert (row["providers"], row["terms"], row["response"]) == (["interior"], [], restricted.response.schema)
    assert f"/v1/exchange/interior/{PROTECTED}" in openapi.document(made, REGISTER, "https://gateway.example")["paths"]
    assert policy.visible(made, AgencyId("interior"), restricted.id, REGISTER)[1] is restricted
    assert (len(listed(made, "justice.courts", PROTECTED)), listed(made, TAX, PROTECTED)) == (1, [])


def test_who_acts_for_another_sees_what_it_gets_for_it() -> None:
    """Under a mandate: the terms, the answer as it is cut for that agency, and the header that says for whom."""
    until = date(2199, 12, 31)
    mandate = Mandate(
        AgencyId("finance"), AgencyId("saensuk"), frozenset({ServiceId(LOOK_UP)}), date(2024, 1, 1), until
    )
    made = town(("/name",), mandates=(mandate,))
    made = replace(made, mandates={(mandate.to, ServiceId(LOOK_UP)): (mandate,)})
    for schema in answers(made, PLATFORM):
        jsonschema.Draft202012Validator(schema).validate({"name": "Chan"})
    post = openapi.document(made, PLATFORM, "https://gateway.example")["paths"][f"/v1/exchange/interior/{LOOK_UP}"]
    assert "Exchange-For" in {each["name"] for each in post["post"]["parameters"]}
