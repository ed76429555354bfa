"""Dual control: ``GET /v1/approvals`` shows what waits for a second person, ``POST /v1/approvals/{id}`` decides.

Who decides is a person whom an issuer of the approving agency asserts, in the post that the agreement names, and
another one than who asked. Only such a person sees what is to be decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from aiohttp import web

from gateway.core import document, policy
from gateway.core.delivery import Refused, State
from gateway.core.entry import Step as Entered
from gateway.core.identity import Caller
from gateway.core.line import NO_LINE, is_line
from gateway.core.model import AgencyId, Agreement, Catalogue, Grant, Person, agency_of
from gateway.core.receipt import instant
from gateway.core.refusal import Refusal, ShapeFault
from gateway.core.shape import Shape, parse
from gateway.edge.documents import addressing, records
from gateway.edge.documents.addressing import Letter, Permit
from gateway.edge.documents.approving import approve, decline
from gateway.edge.documents.asking import Asking
from gateway.edge.documents.bounds import Bounds
from gateway.edge.documents.positions import PAPER, paper_of
from gateway.edge.documents.records import Addressee, Paper, Seal, Step, Taken
from gateway.edge.documents.scribe import Scribe
from gateway.edge.evidence import Trail, shown
from gateway.edge.front import Released, permitted
from gateway.edge.journal import Journal
from gateway.edge.keys import NotOpened

ALL = "/v1/approvals"
ONE = "/v1/approvals/{document}"
MAX_HELD = 100
"""Documents in one answer, oldest first; what is decided makes room for more."""
MAX_HELD_BYTES = 2 * 2**20
"""Of their bodies together, beyond the first."""
MAX_REASON = 500
"""Characters."""

_SAID = f"{PAPER}, p.submitted, p.expires, p.recipient, p.role, p.requester, p.head, p.body, p.approver"
_WAIT = "p.approver = $1 and p.state = 'held' and p.role = $2 and p.expires > {now}"
_SIZES = f"select p.id, coalesce(length(p.body), 0) from documents p where {_WAIT} order by p.seq limit {MAX_HELD}"  # noqa: S608 - names of columns
_HELD = f"select {_SAID} from documents p where {_WAIT} and p.id in ({{ids}}) order by p.seq"  # noqa: S608 - the same
_ONE = f"select {_SAID} from documents p where p.id = $1"  # noqa: S608 - the same
_DECISION = Shape(
    {
        "type": "object",
        "required": ["decision"],
        "properties": {
            "decision": {"enum": ["approved", "declined"]},
            "reason": {"type": "string", "minLength": 1, "maxLength": MAX_REASON},
        },
        "additionalProperties": False,
    }
)
_NO_POST = (
    'The assertion names no post: its claim "post" must be a text, the role that the agreement asks for. Other claims '
    "such as role or roles are not read."
)
_WORDS = {
    "approval.same_person": "The person who asked for it cannot decide.",
    "approval.decided": "It does not wait for a decision any more.",
}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chamber:
    """What deciding works with."""

    asking: Asking
    in_force: Callable[[], Catalogue]
    """Raises Refusal journal.unavailable while nobody knows what is suspended."""
    post: Journal
    journal: Journal
    scribe: Scribe
    bounds: Bounds
    unseal: Seal
    mac: Callable[[bytes], bytes]
    arrived: Callable[[Sequence[Addressee]], None]


@dataclass(frozen=True, slots=True)
class Held:
    """A document that waits, opened."""

    paper: Paper
    submitted: float
    expires: float
    recipient: AgencyId
    role: str
    requester: bytes
    head: Mapping[str, Any]
    body: bytes | None
    approver: AgencyId

    @property
    def sender(self) -> AgencyId:
        """Or the agency on whose behalf it was sent."""
        return self.paper.on_behalf or agency_of(self.paper.sender)


class Approvals:
    """The second person's addresses."""

    def __init__(self, these: Chamber) -> None:
        self._these = these

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        asking = self._these.asking
        every, one = asking.route("GET", ALL, self._every), asking.route("POST", ONE, self._decided)
        return every, asking.others(ALL, "GET"), one, asking.others(ONE, "POST")

    async def _every(self, request: web.Request, trail: Trail) -> Released:
        these = self._these
        caller = await these.asking.caller(request, trail)
        person = _person(trail)
        if person.post is None:
            raise Refusal("approval.role", _NO_POST)
        found = await self._waiting(agency_of(caller.system), person.post)
        if found:  # what is shown is written down first, like everything that leaves
            ids = {"documents": [each.paper.id for each in found]}
            trail.stamp = await these.journal.append(trail.draft(Entered.SHOWN, status=200, more=ids))
        own = these.mac(document.of_person(person))
        told = {"approvals": [_shown(each, own) for each in found]}
        return Released(200, orjson.dumps(told), headers={"Cache-Control": "private, no-store"})

    async def _waiting(self, agency: AgencyId, post: str) -> list[Held]:
        """The oldest; their bodies are read only where there is room for them."""
        rows = await self._these.asking.rows(_SIZES, agency, post)
        ids: list[str] = []
        size = 0
        for identifier, length in rows:
            size += length
            if ids and size > MAX_HELD_BYTES:
                break
            ids.append(identifier)
        if not ids:
            return []
        places = ", ".join(f"${place + 3}" for place in range(len(ids)))
        found: list[Held] = []
        for row in await self._these.asking.rows(_HELD.replace("{ids}", places), agency, post, *ids):
            try:
                found.append(self._opened(row))
            except NotOpened:  # one must not hide the others
                log.error("held_unreadable", document=row[0])  # noqa: TRY400 - no traceback in a line
        return found

    def _opened(self, row: Sequence[Any]) -> Held:
        submitted, expires, recipient, role, requester, head, body, approver = row[7:15]
        paper = paper_of(row[:7])
        opened = self._these.unseal
        return Held(
            paper=paper,
            submitted=submitted,
            expires=expires,
            recipient=AgencyId(recipient),
            role=role,
            requester=bytes(requester or b""),  # purged: gone with its body
            head=records.opened_head(paper.id, head, opened),
            body=None if body is None else opened(bytes(body), records.body_context(paper.id)),
            approver=AgencyId(approver),
        )

    async def _decided(self, request: web.Request, trail: Trail) -> Released:
        these = self._these
        caller = await these.asking.caller(request, trail)
        trail.document = identifier = document.known_id(request.match_info["document"])
        person = _person(trail)
        said = await these.asking.said(request, trail, _DECISION)
        reason = _reason(said)
        held = await self._held(identifier, caller, person)
        if said["decision"] == "approved":
            answer = await self._approved(trail, held, person, reason)
        else:
            step = self._step(trail, held, State.DECLINED, reason)
            mac = these.mac(document.of_person(person))
            answer = await these.post.run(
                decline(mac, step, these.scribe),
                locks=("held", identifier),
                lanes=these.scribe.lanes(held.paper),
            )
        if isinstance(answer, Refused):
            raise document.unknown() if answer.code == "document.unknown" else Refusal(answer.code, _WORDS[answer.code])
        told = {"document": identifier, "state": answer.state, "receipt": answer.receipt.decode()}
        return Released(200, orjson.dumps(told), entry=answer.entry)

    async def _held(self, identifier: str, caller: Caller, person: Person) -> Held:
        """The document, where the caller's agency decides and the person has the post. Raises Refusal."""
        rows = await self._these.asking.rows(_ONE, identifier)
        if not rows or rows[0][14] != agency_of(caller.system):
            raise document.unknown()
        held = self._opened(rows[0])
        if person.post != held.role:
            raise Refusal(
                "approval.role",
                _NO_POST if person.post is None else f"The agreement asks for a person whose post is {held.role}.",
            )
        return held

    async def _approved(self, trail: Trail, held: Held, person: Person, reason: str | None) -> Taken | Refused:
        """Policy is asked again: what may not be sent today, or under another word, does not go out and waits on."""
        these, paper = self._these, held.paper
        now = these.in_force()  # the body may have taken seconds to arrive
        decision = policy.redecide(
            now,
            consumer=paper.sender,
            provider=held.recipient,
            service=paper.service,
            purpose=held.head.get("purpose"),
            on_behalf=paper.on_behalf,
            at=trail.at,
        )
        trail.agreement, trail.grant = decision.agreement, decision.grant
        permitted(decision)
        agreement, grant = trail.agreement, trail.grant = _agreed(policy.granted(now, decision.facts), held)
        service, way = now.services[paper.service], addressing.way_of(now, held.recipient, paper.service)
        if held.body is None:  # kept as long as it waits; never handed out without
            raise Refusal("approval.decided", _WORDS["approval.decided"])
        letter = Letter(paper.id, service, parse(held.body), held.sender, trail.at)
        permit = Permit(held.recipient, way, decision.facts, agreement, grant)
        addressee: Addressee = addressing.addressee(letter, permit, now, these.mac)
        seconds = document.seconds(document.life_of(service).deliver_within, trail.at, now)
        step = self._step(trail, held, State.SUBMITTED, reason)
        lanes = (addressee.lane, *these.scribe.lanes(paper))
        mac = these.mac(document.of_person(person))
        answer = await these.post.run(
            approve(mac, step, addressee, seconds, these.scribe), locks=("held", paper.id), lanes=lanes
        )
        if isinstance(answer, Taken):
            these.bounds.add([(addressee.recipient, addressee.way)])
            these.arrived([addressee])
        return answer

    def _step(self, trail: Trail, held: Held, state: State, reason: str | None) -> Step:
        assert trail.person is not None  # noqa: S101 - for the type checker; _person looked
        return Step(
            paper=held.paper,
            recipient=held.recipient,
            name=state.value,
            state=state,
            by=trail.consumer,
            text=reason,
            person=shown(trail.person),
            facts=trail.grounds(),
        )


def _agreed(granted: Sequence[tuple[Agreement, Grant]], held: Held) -> tuple[Agreement, Grant]:
    """Under what it goes out: a grant of today that asks for this second person, or where none asks for any.

    Raises Refusal: whom the agreement named when the document was sent may be nobody whom it names now.
    """
    asking = [(agreement, grant, grant.approval) for agreement, grant in granted if grant.approval is not None]
    for agreement, grant, asked in asking:
        if (addressing.approver_of(asked, held.recipient, held.sender), asked.role) == (held.approver, held.role):
            return agreement, grant
    if not asking:
        return granted[0]
    raise Refusal(
        "policy.obligation",
        f"{asking[0][0].id} asks for another second person than it did when this was sent: the sender recalls it and "
        "sends it anew.",
        agency=held.recipient,
    )


def _person(trail: Trail) -> Person:
    """Who decides. Raises Refusal."""
    if trail.person is None:
        raise Refusal("policy.obligation", "Send Exchange-User-Assertion: a person decides, in the post agreed upon.")
    return trail.person


def _reason(said: Mapping[str, Any]) -> str | None:
    """The person's words, which both sides see. Raises Refusal."""
    reason: str | None = said.get("reason")
    if reason is not None and not is_line(reason):
        fault = ShapeFault("/reason", NO_LINE)
        raise Refusal("shape.request", "The body does not fit the address.", errors=(fault,))
    return reason


def _shown(held: Held, person: bytes) -> dict[str, Any]:
    paper, head = held.paper, held.head
    return {
        "document": paper.id,
        "service": paper.service,
        "sender": paper.sender,
        "on_behalf": paper.on_behalf,
        "recipient": held.recipient,
        "role": held.role,
        "own": held.requester == person,
        "reference": paper.reference,
        "purpose": head.get("purpose"),
        "case": head.get("case"),
        "agreement": head.get("agreement"),
        "attachments": head.get("attachments") or [],
        "submitted": instant(held.submitted),
        "until": instant(held.expires),
        "body": orjson.Fragment(held.body) if held.body is not None else None,
    }
