"""What a schema accepts where several agreements cut the same event differently, and what a receipt's names."""

from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from gateway.catalogue import disclosure
from gateway.core.minimise import cut_of, minimise
from gateway.core.model import Catalogue, Pointer, ServiceId, SystemId
from gateway.core.receipt import Receipt
from gateway.core.shape import Shape
from tests.fakes import idp
from tests.fakes.correspondents import ALERT, DESK, LAMPANG, POLITE, REGISTER, SECRET, SILA, WRITERS, catalogue_of

PLACE = {"type": "object", "required": ["code", "name"], "properties": {"code": {"$ref": "#/$defs/code"}, "name": {}}}
SCHEMA = {
    "type": "object",
    "required": ["level", "place", "officer"],
    "properties": {"level": {"$ref": "#/$defs/level"}, "place": PLACE, "officer": {"type": "string"}},
    "additionalProperties": False,
    "$defs": {"level": {"enum": ["red", "amber"]}, "code": {"type": "string"}, "rank": {"type": "integer"}},
}
WHOLE = {"level": "red", "place": {"code": "TH-20", "name": "Chonburi"}, "officer": "Chan Vanna"}


def disclosing(*cuts: tuple[str, ...] | None) -> Catalogue:
    """A town in which sila has one agreement on the event for each of the cuts."""
    made = catalogue_of({name: idp.key() for name in WRITERS}, POLITE)
    alert = replace(made.services[ServiceId(ALERT)], request=Shape(SCHEMA))
    (key,) = (each for each in made.grants if each[1:] == (ALERT, SILA))
    ((agreement, grant),) = made.grants[key]
    disclosed = (None if cut is None else tuple(map(Pointer, cut)) for cut in cuts)
    grants = tuple((agreement, replace(grant, disclosed=each)) for each in disclosed)
    return replace(made, services={**made.services, alert.id: alert}, grants={**made.grants, key: grants})


def seen(*cuts: tuple[str, ...] | None) -> Any:
    return disclosure.schema(disclosing(*cuts), SystemId(SILA), ALERT, "document")


@pytest.mark.parametrize(
    "cuts",
    [
        (("/level",),),
        (("/level",), ("/place/code", "/officer")),
        (("/place",), None),
        (("/place/name",), ("/place/code",), ("/level", "/officer")),
        (None, None),
    ],
)
def test_whatever_an_agreement_leaves_fits(cuts: tuple[tuple[str, ...] | None, ...]) -> None:
    """Under each of several agreements; and what no agreement would leave does not."""
    schema = seen(*cuts)
    jsonschema.Draft202012Validator.check_schema(schema)
    judge = jsonschema.Draft202012Validator(disclosure.identified(schema, "https://gateway.example/schemas/x"))
    for cut in cuts:
        judge.validate(WHOLE if cut is None else minimise(WHOLE, cut_of(cut)))
    assert not judge.is_valid({"level": "blue", "place": {"code": 1}, "officer": 1})


def test_what_is_in_no_agreement_is_not_told() -> None:
    """Neither a member nor a definition that only the rest needs."""
    text = str(seen(("/level",), ("/place/name",)))
    assert [word for word in ("officer", "code", "rank", "additionalProperties") if word in text] == []


def test_a_way_for_everything_tells_nothing_restricted() -> None:
    """Every agency of the town takes ``*``: of a restricted letter only those know whom an agreement names."""
    made = catalogue_of({name: idp.key() for name in WRITERS}, POLITE)
    sealed, systems = made.services[ServiceId(SECRET)], map(SystemId, (DESK, SILA, LAMPANG, REGISTER))
    known = {system for system in systems if disclosure.told(made, system, sealed)}
    assert known == {REGISTER}


def test_the_schema_of_receipts_names_every_claim() -> None:
    """Nothing that a receipt can say is missing, and nothing more is promised."""
    texts = ("instance", "document", "reference", "service", "sender", "on_behalf", "recipient", "state", "entry")
    plain: dict[str, Any] = dict.fromkeys((*texts, "by", "number", "reason"), "x")
    numbers = dict.fromkeys(("at", "late", "recipients", "unconfirmed", "overdue"), 1)
    said = Receipt(**plain, **numbers, digest=bytes(32), attachments=(bytes(32),))  # type: ignore[arg-type] # of any kind
    assert said.claims().keys() == disclosure.RECEIPT_SCHEMA["properties"].keys()
