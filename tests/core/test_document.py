"""One submission: whom it names, what it must agree with when repeated, what keeps its order, how long it waits."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import document
from gateway.core.document import Target
from gateway.core.exchange import Head
from gateway.core.life import Calendar, End, Span
from gateway.core.model import AgencyId, Catalogue, Kind, Person, ServiceId
from gateway.core.refusal import Refusal
from tests.fakes import catalogues
from tests.fakes.correspondents import LETTER, SERVICES

TARGET = Target(Kind.DOCUMENT, ServiceId(LETTER), ("interior", "sila"))
HEAD = Head("correspondence", "C-1", "dara", None, "OUT-1")
SERVICE = next(each for each in SERVICES if each.id == LETTER)
DIGEST = bytes(32)


def town(**groups: str) -> Catalogue:
    return catalogues.of(
        *(replace(catalogues.agency(name), groups=frozenset(of.split())) for name, of in groups.items())
    )


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("sila", ("sila",)),
        ("sila, interior ,sila", ("interior", "sila")),
        ("group:municipalities,interior", ("group:municipalities", "interior")),
    ],
)
def test_names_are_read_in_any_order(header: str, found: tuple[str, ...]) -> None:
    """The same recipients are the same submission, however they are listed."""
    assert document.names(header) == found


@pytest.mark.parametrize(
    "header", [None, "", ",", "Interior", "group:", "group:group:x", "a b", "é", ",".join(f"a{n}" for n in range(201))]
)
def test_what_names_nobody_is_refused(header: str | None) -> None:
    """Without quoting what was sent."""
    with pytest.raises(Refusal, match="Exchange-To"):
        document.names(header)


def test_a_group_means_its_members_without_the_sender() -> None:
    """Each agency once, whether it is named or in the group; a group of nobody else is refused."""
    catalogue = town(interior="ministries", sila="m", lampang="m", saensuk="m")
    found = document.addressed(catalogue, ("group:m", "interior", "sila"), AgencyId("saensuk"))
    assert found == ("lampang", "sila", "interior")
    with pytest.raises(Refusal, match="ministries"):
        document.addressed(catalogue, ("group:ministries",), AgencyId("interior"))


@pytest.mark.parametrize(
    ("preferences", "seconds"),
    [
        ([], 0),
        (["wait=20"], 20),
        (['respond-async, wait="5"'], 5),
        (["handling=lenient", "Wait = 7; x=1"], 7),
        (["wait=99999"], 60),
        (["wait=-1"], 0),
        (["wait=1e9"], 0),
        (["wait"], 0),
        (["wait=3, wait=9"], 3),
    ],
)
def test_waiting_is_a_preference(preferences: list[str], seconds: float) -> None:
    """What cannot be understood is passed over, and nobody waits for longer than the bound."""
    assert document.wait(preferences) == seconds


CHANGES = {
    "kind": (replace(TARGET, kind=Kind.EVENT), HEAD, (), DIGEST),
    "service": (replace(TARGET, service=ServiceId("letters.other.v1")), HEAD, (), DIGEST),
    "recipients": (replace(TARGET, named=("interior",)), HEAD, (), DIGEST),
    "purpose": (TARGET, replace(HEAD, purpose="audit"), (), DIGEST),
    "case": (TARGET, replace(HEAD, case=None), (), DIGEST),
    "mandate": (TARGET, replace(HEAD, on_behalf=AgencyId("sila")), (), DIGEST),
    "attachments": (TARGET, HEAD, ("01a20181-268c-7e58-8061-9596f9fcd137",), DIGEST),
    "body": (TARGET, HEAD, (), bytes(31) + b"1"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_repetition_must_agree_in_everything(what: str) -> None:
    """Each part changes the fingerprint."""
    assert document.fingerprint(*CHANGES[what]) != document.fingerprint(TARGET, HEAD, (), DIGEST)


def test_a_repetition_may_name_another_user() -> None:
    """Another clerk may press the button again."""
    again = document.fingerprint(TARGET, replace(HEAD, user="sok", key="other"), (), DIGEST)
    assert again == document.fingerprint(TARGET, HEAD, (), DIGEST)


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_what_is_hashed_is_never_taken_for_something_else(one: list[bytes], other: list[bytes]) -> None:
    """Different parts give different bytes, wherever one ends and the next begins."""
    assert (document._framed("k", *one) == document._framed("k", *other)) == (one == other)


def order(value: object, *, sender: str = "saensuk", to: str = "interior") -> bytes | None:
    return document.ordering(SERVICE, value, AgencyId(sender), AgencyId(to))


def test_order_is_kept_for_sender_recipient_and_case() -> None:
    """The value at ``order_by`` decides; what has none keeps no order."""
    assert order({"case": "A"}) == order({"case": "A"})
    keys = {
        order({"case": "A"}),
        order({"case": "B"}),
        order({"case": "A"}, sender="sila"),
        order({"case": "A"}, to="sila"),
    }
    assert len({*keys, order({"case": "A"}, sender="sila", to="sila")}) == 5
    assert order({}) is None


def test_persons_are_their_issuers_subjects() -> None:
    """Post, unit and level may differ; issuer and subject make the person."""
    person = Person("https://idp.example", "17", "clerk", "north", "high")
    assert document.of_person(person) == document.of_person(replace(person, post="registrar", unit=None, level=None))
    assert document.of_person(person) != document.of_person(replace(person, subject="18"))
    assert document.of_person(person) != document.of_person(replace(person, issuer="https://idp.other.example"))
    moved = replace(person, issuer="https://idp.example1", subject="7")
    assert document.of_person(person) != document.of_person(moved)


def test_working_days_are_the_instances() -> None:
    """Two working days from a Friday before a holiday on Monday: until the end of Wednesday."""
    catalogue = replace(catalogues.of(), calendar=Calendar(holidays=frozenset({date(2026, 11, 23)})))
    friday = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert document.seconds(Span(working_days=2), friday, catalogue) == 6 * 86400 - 12 * 3600
    assert document.seconds(Span(seconds=90), friday, catalogue) == 90


def test_a_summary_counts_every_recipient() -> None:
    """By state, and all of them."""
    assert document.summary(["registered", "arrived", "registered"]) == {"of": 3, "registered": 2, "arrived": 1}
    assert document.summary([]) == {"of": 0}


@pytest.mark.parametrize(
    "text", ["", "x", "01A20181-268C-7E58-8061-9596F9FCD137", "01a20181-268c-7e58-8061-9596f9fcd137\n"]
)
def test_an_id_that_is_none_is_an_unknown_document(text: str) -> None:
    """In the same words as one that is not there."""
    with pytest.raises(Refusal) as caught:
        document.known_id(text)
    assert (caught.value.code, caught.value.detail) == ("document.unknown", document.unknown().detail)


def test_as_many_names_as_are_promised_fit_into_a_header() -> None:
    """Sixty-four groups with the longest names are one Exchange-To; one more is refused, as the description says."""
    longest = [f"group:{'x' * 61}{number:02}" for number in range(document.MAX_NAMED + 1)]
    header = ", ".join(longest[:-1])
    assert len(document.names(header)) == document.MAX_NAMED == 64
    assert len(f"Exchange-To: {header}") < 8190
    with pytest.raises(Refusal, match="64 at most"):
        document.names(", ".join(longest))


DONE = {
    "arrived and registered": (End.ARRIVED, ["arrived", "registered"]),
    "retrieved": (End.RETRIEVED, ["retrieved"]),
}
NOT_DONE = {
    "one has only arrived": (End.REGISTERED, ["arrived", "registered"]),
    "rejected": (End.ARRIVED, ["rejected"]),
    "nobody": (End.ARRIVED, []),
}


@pytest.mark.parametrize("case", DONE)
def test_a_document_is_done_where_every_recipient_brought_it_far_enough(case: str) -> None:
    """What came further has come as far."""
    assert document.is_done(*DONE[case])


@pytest.mark.parametrize("case", NOT_DONE)
def test_what_ended_otherwise_is_never_done(case: str) -> None:
    """Nor what goes to nobody."""
    assert not document.is_done(*NOT_DONE[case])
