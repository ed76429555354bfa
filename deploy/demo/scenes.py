"""The story that the demonstration plays: who asks whom for what, and what must come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deploy.demo.ministries import CUT_OFF, NONSENSE, SLOW, UNAVAILABLE, WRONG
from deploy.demo.people import BY_SERIAL, identified, identifier

LOOK_UP = "population.person_lookup.v1"
CHANGE = "population.change_address.v1"
PROTECTED = "population.protected_record_lookup.v1"
COMPLIANCE = "tax.compliance_check.v1"
OFFICES = "places.office_directory.v1"

DARA = BY_SERIAL[90010001].identifier
VICHET = BY_SERIAL[90010005].identifier
SOVANN = BY_SERIAL[90010020].identifier
NOBODY = identifier(90019999)


class Way(StrEnum):
    """How the call is made."""

    CLIENT = "client"
    """With gateway.client, as a ministry would."""
    FORGED = "forged"
    """With a token that somebody made up, signed with a key of their own."""
    BARE = "bare"
    """Plain HTTP with a good token, to leave something out that the client never leaves out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One call and what must come of it."""

    title: str
    why: str
    client: str
    agency: str
    service: str
    body: Mapping[str, Any]
    purpose: str
    status: int
    code: str | None = None
    case: str | None = None
    user: str | None = None
    key: str | None = None
    scope: str | None = None
    way: Way = Way.CLIENT
    replayed: bool = False
    fields: tuple[str, ...] | None = None
    """The members that the answer must have: these and no others."""
    pointers: tuple[str, ...] = field(default=())
    """Where a malformed body must be found at fault."""
    chapter: str | None = None
    """A new part of the story begins."""


def _person(number: str) -> dict[str, Any]:
    return {"identifier": identified(number)}


def _look_up(title: str, why: str, number: str, status: int, code: str | None = None, **other: Any) -> Scene:
    """The tax system looks somebody up as its agreement asks, but for what ``other`` says."""
    usual: dict[str, Any] = {
        "client": "finance.local_tax",
        "agency": "interior",
        "service": LOOK_UP,
        "body": _person(number),
        "purpose": "tax_assessment",
        "case": "T-2026-118",
        "user": "clerk 7",
    }
    return Scene(title, why, status=status, code=code, **{**usual, **other})


def _move(title: str, why: str, status: int, code: str | None = None, **other: Any) -> Scene:
    """The taxpayers' desk tells the register that somebody moved."""
    usual: dict[str, Any] = {
        "client": "finance.taxpayer_desk",
        "agency": "interior",
        "service": CHANGE,
        "body": MOVED,
        "purpose": "address_change",
        "case": "A-2026-7",
        "user": "clerk 2",
        "key": "move-of-dara",
    }
    return Scene(title, why, status=status, code=code, **{**usual, **other})


MOVED: Mapping[str, Any] = {
    "identifier": identified(DARA),
    "address": {"lines": ["House 5, Street 902"], "locality": "Phnom Penh", "subdivision": "KH-12", "country": "KH"},
    "record_version": BY_SERIAL[90010001].version,
}
_ELSEWHERE = {**MOVED, "address": {**MOVED["address"], "lines": ["House 6, Street 903"]}}
_DISCLOSED = ("identifier", "name", "birth_date", "address")

PERMITTED = (
    _look_up(
        "The tax office looks up a resident",
        "MOI-FIN-2026-014 permits it for tax assessment and discloses four members of the record. Sex, parents, "
        "marital status and the rest never leave the gateway.",
        DARA,
        200,
        fields=_DISCLOSED,
        chapter="What agreements permit",
    ),
    _look_up(
        "A record that was once kept on paper",
        "Only the year of birth is known. The register says so, and the answer is that year: no day is invented.",
        VICHET,
        200,
        fields=_DISCLOSED,
    ),
    Scene(
        "A municipality asks whether an applicant owes taxes",
        "It gets a yes or a no and a certificate number, but no amount. The provider is a Python adapter.",
        client="saensuk.permits",
        agency="finance",
        service=COMPLIANCE,
        body=_person(DARA),
        purpose="permit_application",
        status=200,
        case="P-2026-31",
        fields=("as_of", "certificate", "compliant"),
    ),
    Scene(
        "A municipality reads another one's opening hours",
        "No personal data, so nothing is signed and nothing cut: an agreement with a group of members is enough.",
        client="sila.front_desk",
        agency="saensuk",
        service=OFFICES,
        body={"subdivision": "TH-20"},
        purpose="public_information",
        status=200,
        fields=("as_of", "offices"),
    ),
    Scene(
        "A court learns how to reach a protected person",
        "The service is restricted: only who has an agreement can see that it exists.",
        client="justice.courts",
        agency="interior",
        service=PROTECTED,
        body=_person(SOVANN),
        purpose="court_proceedings",
        status=200,
        case="C-2026-2",
        user="judge 4",
        fields=("identifier", "reached_through"),
    ),
)

REFUSED = (
    _look_up(
        "The same look-up for another purpose",
        "The same system, person and token. Only the purpose differs, and no agreement covers it.",
        DARA,
        403,
        "policy.purpose",
        purpose="statistics",
        chapter="What is refused, and why",
    ),
    _look_up(
        "The same look-up by another system of the same ministry",
        "An agreement names systems, not ministries: the audit office is not a party to this one.",
        DARA,
        403,
        "policy.no_agreement",
        client="finance.audit_office",
    ),
    _look_up(
        "A municipality whose agreement has expired",
        "It ended on 2025-12-31. Nobody has to remember to switch it off.",
        DARA,
        403,
        "policy.expired",
        client="saensuk.front_desk",
        purpose="civil_registration",
    ),
    _look_up(
        "A municipality whose agreement is suspended",
        "It is in force and signed; a suspension beats every permit.",
        DARA,
        403,
        "policy.suspended",
        client="lampang.front_desk",
        purpose="social_benefit",
    ),
    _look_up(
        "A token that lacks the scope",
        "The system asked for a token for something else.",
        DARA,
        403,
        "policy.scope",
        client="finance.taxpayer_desk",
        purpose="address_change",
        scope="population:write",
    ),
    _look_up(
        "No case number",
        "The agreement asks for the case and the clerk with each look-up, so that it can be explained years later.",
        DARA,
        403,
        "policy.obligation",
        case=None,
    ),
    _look_up(
        "A forged token",
        "It says all the right things and is signed, but with a key of the forger's own.",
        DARA,
        401,
        "identity.invalid",
        way=Way.FORGED,
    ),
    _look_up(
        "A service that this caller must not know of",
        "The answer is the same as for a service that does not exist.",
        SOVANN,
        404,
        "catalogue.unknown",
        service=PROTECTED,
    ),
    _look_up(
        "A malformed request",
        "Each mistake is pointed at; the values that were sent are not repeated.",
        DARA,
        422,
        "shape.request",
        body={"identifier": {"scheme": "KH-DEMO", "value": 900100011}, "reason": "tax"},
        pointers=("", "/identifier/value"),
    ),
)

FAILING = (
    Scene(
        "A provider that is down",
        "Nothing was sent. The answer says when to try again.",
        client="sila.front_desk",
        agency="lampang",
        service=OFFICES,
        body={"subdivision": "TH-52"},
        purpose="public_information",
        status=503,
        code="provider.unavailable",
        chapter="When a provider's system fails",
    ),
    _look_up(
        "A provider that is too slow",
        "The endpoint's deadline is one second; the gateway does not wait longer, nor does the consumer.",
        SLOW,
        504,
        "provider.timeout",
    ),
    _look_up(
        "A provider that answers nonsense",
        "A page for people came instead of a record.",
        NONSENSE,
        502,
        "provider.wrong_answer",
    ),
    _look_up(
        "A provider that answers more than was agreed",
        "The record breaks the agreed schema and carries an internal note. Nothing of it leaves the gateway.",
        WRONG,
        502,
        "provider.wrong_answer",
    ),
    _look_up(
        "A provider that hangs up",
        "A look-up changes nothing, so the gateway asked once more before it gave up.",
        CUT_OFF,
        502,
        "provider.broken",
    ),
    _look_up(
        "A provider that asks for patience",
        "It named the time, and the consumer learns it.",
        UNAVAILABLE,
        503,
        "provider.unavailable",
    ),
    _look_up(
        "Nobody has this identifier",
        "That is an answer, not a failure.",
        NOBODY,
        404,
        "provider.not_found",
    ),
)

WRITES = (
    _move(
        "A resident moved: the taxpayers' desk tells the register",
        "The call and its idempotency key are written down before the register is asked. The old register has its own "
        "names for everything; the gateway translates.",
        200,
        fields=("changed_on", "record_version"),
        chapter="Writes happen once",
    ),
    _move(
        "The same write again, because the first answer was lost",
        "The stored answer is given again, cut to what the agreement discloses today. The register is not asked.",
        200,
        fields=("changed_on", "record_version"),
        replayed=True,
    ),
    _move(
        "The same key for another address",
        "A key belongs to one call. This is a mistake in the consumer's system, and it is told so.",
        422,
        "idempotency.reused",
        body=_ELSEWHERE,
    ),
    _move(
        "A write without a key",
        "Without one, nobody could tell a repetition from a second move.",
        400,
        "idempotency.key_missing",
        key=None,
        way=Way.BARE,
    ),
    _move(
        "A change made from a stale record",
        "The register has a newer version by now and refuses; its own words stay inside.",
        502,
        "provider.refused",
        body=_ELSEWHERE,
        key="stale-move",
    ),
)

SCENES = PERMITTED + REFUSED + FAILING + WRITES
