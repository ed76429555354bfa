"""What recipients may say of a document, and how they are told what is wrong with it."""

import orjson
import pytest

from gateway.core.delivery import BY_RECIPIENT
from gateway.core.refusal import Refusal
from gateway.edge.documents.outcomes import Said, Word, no_unit, read_outcome, read_renewal

LEASE = "01a20183-10c7-7ee7-8096-f9f9824d3851"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"outcome": "retrieved", "lease": LEASE}, Said(Word.RETRIEVED, lease=LEASE)),
        ({"outcome": "registered", "number": "សជណ ៧៧/២៦"}, Said(Word.REGISTERED, number="សជណ ៧៧/២៦")),
        (
            {"outcome": "rejected", "reason": "wrongly_addressed", "text": "Not ours."},
            Said(Word.REJECTED, reason="wrongly_addressed", text="Not ours."),
        ),
        ({"outcome": "forwarded", "unit": "permits"}, Said(Word.FORWARDED, unit="permits")),
    ],
)
def test_an_outcome_is_read(said: dict[str, str], read: Said) -> None:
    """Each of the four, with what belongs to it; letters of any script."""
    assert read_outcome(orjson.dumps(said)) == read


@pytest.mark.parametrize("reason", sorted(BY_RECIPIENT))
def test_every_reason_of_a_recipient_is_taken(reason: str) -> None:
    """core.delivery lists them."""
    assert read_outcome(orjson.dumps({"outcome": "rejected", "reason": reason})).reason == reason


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ({"outcome": "eaten"}, "/outcome"),
        ({"outcome": "retrieved", "colour": "red"}, ""),
        ({"outcome": "registered"}, "/number"),
        ({"outcome": "registered", "number": 77}, "/number"),
        ({"outcome": "registered", "number": "7" * 65}, "/number"),
        ({"outcome": "registered", "number": " "}, "/number"),
        ({"outcome": "registered", "number": "77\n78"}, "/number"),
        ({"outcome": "registered", "number": "77\u202e87"}, "/number"),
        ({"outcome": "registered", "number": "77", "reason": "other"}, "/reason"),
        ({"outcome": "rejected"}, "/reason"),
        ({"outcome": "rejected", "reason": "no_way"}, "/reason"),
        ({"outcome": "rejected", "reason": "other", "text": "x" * 501}, "/text"),
        ({"outcome": "forwarded"}, "/unit"),
        ({"outcome": "forwarded", "unit": "Permits!"}, "/unit"),
        ({"outcome": "retrieved", "unit": "permits"}, "/unit"),
        ({"outcome": "retrieved", "lease": "a b"}, "/lease"),
    ],
)
def test_what_does_not_fit_is_pointed_to(said: object, pointer: str) -> None:
    """Nothing is guessed and nothing passed over; the value is not repeated."""
    with pytest.raises(Refusal) as refused:
        read_outcome(orjson.dumps(said))
    assert refused.value.code == "shape.request"
    assert pointer in [fault.pointer for fault in refused.value.errors]
    assert "87" not in str(refused.value.errors)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"outcome":"retrieved","outcome":"rejected"}', b"\xff"])
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    """Also an outcome that is said twice."""
    with pytest.raises(Refusal) as refused:
        read_outcome(raw)
    assert refused.value.code == "request.malformed"


def test_a_renewal_names_its_lease_and_nothing_else() -> None:
    """POST /v1/inbox/lease is as strict."""
    assert read_renewal(orjson.dumps({"lease": LEASE})) == LEASE
    for said in ({}, {"lease": LEASE, "seconds": 3600}, {"lease": ""}):
        with pytest.raises(Refusal) as refused:
            read_renewal(orjson.dumps(said))
        assert refused.value.code == "shape.request"


def test_a_unit_that_is_none_is_pointed_to() -> None:
    """The refusal names the agency, whose folder says which there are."""
    refusal = no_unit("interior")
    assert [(fault.pointer, "interior" in fault.detail) for fault in refusal.errors] == [("/unit", True)]
