"""What recipients reply: POST /v1/inbox/{id}, from a mailbox's lease or after a push."""

import re

import orjson
from aiohttp import web

from gateway.core import document
from gateway.core.delivery import Refused
from gateway.core.model import AgencyId, ServiceId, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents import ends, mailbox, positions
from gateway.edge.documents.ends import Answer, Outcome
from gateway.edge.documents.outcomes import Said, Word, no_unit, no_way, read_outcome
from gateway.edge.documents.reception import Reception, refusal_of
from gateway.edge.documents.records import RECEIPT
from gateway.edge.evidence import Trail, shown
from gateway.edge.front import Released
from gateway.edge.store import LanesHeld

ANSWER = "/v1/inbox/{id}"
TRIES = 3
"""Times that an outcome is tried whose lane somebody else has in hand."""

_RECEIPT = re.compile(r"([0-9a-f-]{36})-([0-9]{1,18})-([0-9]{1,18})")
"""Its document and the entry of its step, as ``envelope.delivery_id`` writes them."""
_LANES = (
    f"select {positions.PAPER}, d.okey from deliveries d join documents p on p.id = d.document "  # noqa: S608
    "where d.document = $1 and d.recipient = $2"
)
_STANDING = (
    "select d.kind, d.service, d.unit, p.sender from deliveries d join documents p on p.id = d.document "
    "where d.document = $1 and d.recipient = $2"
)
_SERVICE = "select service from deliveries where document = $1 and recipient = $2 and kind <> 'receipt'"


class Replies:
    """``POST /v1/inbox/{id}``"""

    def __init__(self, reception: Reception) -> None:
        self._at = reception

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        answer = self._at.answering(f"POST {ANSWER}", "answer", self._answer)
        return (web.post(ANSWER, answer, expect_handler=body.expect_nothing),)

    async def _answer(self, request: web.Request, trail: Trail) -> Released:
        """What a recipient says of one document, or that it has taken a receipt."""
        caller = await self._at.caller(request, trail)
        agency = agency_of(caller.system)
        receipt = _RECEIPT.fullmatch(request.match_info["id"])
        trail.document = document.known_id(receipt[1] if receipt else request.match_info["id"])
        said = read_outcome(await self._at.read(request, trail))
        await self._hold_own(trail.document, caller.system, receipt=receipt is not None)
        if receipt:
            answer = await self._taken_out(agency, trail.document, f"{receipt[2]}.{receipt[3]}", said)
        else:
            answer = await self._said(agency, trail, said)
        if isinstance(answer, Refused):
            raise refusal_of(answer.code)
        self._at.meters.child(self._at.meters.inbox, agency, said.outcome).inc()
        told = {
            "document": request.match_info["id"],
            "state": answer.state,
            "receipt": answer.receipt.decode() if answer.receipt else None,
        }
        return Released(200, orjson.dumps(told), replayed=isinstance(answer, ends.Unchanged))

    async def _hold_own(self, of: str, system: SystemId, *, receipt: bool) -> None:
        """What a system may not fetch it does not speak about either. Raises Refusal document.unknown."""
        home = self._at.home(agency_of(system))
        if not home.documents_by_system and not any(each.systems for each in home.deliveries):
            return
        for kind, service, unit, sender in await self._at.rows(_STANDING, (of, home.id)):
            if receipt is (kind == RECEIPT):
                if receipt:
                    own = not home.documents_by_system or sender == system
                    may = own and (home.receipts is None or home.receipts.admits(system))
                else:
                    may = home.admits(system, ServiceId(service), unit or None)
                if not may:
                    raise document.unknown()

    async def _taken_out(self, agency: AgencyId, of: str, entry: str, said: Said) -> Answer:
        if said.outcome is not Word.RETRIEVED:
            raise Refusal("request.malformed", "A receipt can only be retrieved: nothing else becomes of it.")
        return await self._run(of, agency, mailbox.taken(agency, of, entry, said.lease))

    async def _said(self, agency: AgencyId, trail: Trail, said: Said) -> Answer:
        of = str(trail.document)
        outcome = Outcome(
            outcome=said.outcome,
            by=str(trail.consumer),
            number=said.number,
            reason=said.reason,
            text=said.text,
            lease=said.lease,
            person=shown(trail.person) if trail.person else None,
            ways={each.name: each.pulled for each in self._at.home(agency).deliveries},
            to_register=lambda service: document.to_register(trail.catalogue, service, trail.at),
        )
        if said.unit is None:
            return await self._run(of, agency, ends.outcome(of, agency, outcome, self._at.scribe))
        onward = await self._onward(of, agency, said.unit)
        return await self._run(of, agency, ends.forward(of, agency, outcome, onward, self._at.scribe))

    async def _onward(self, of: str, agency: AgencyId, unit: str) -> ends.Onward:
        """The way to another unit of the same agency. Raises Refusal."""
        rows = await self._at.rows(_SERVICE, (of, agency))
        if not rows:
            raise document.unknown()
        home = self._at.home(agency)
        way = home.way(ServiceId(rows[0][0]), unit)
        if unit not in home.units or way is None:
            raise no_unit(agency)
        if way.unit != unit:
            raise no_way(agency, unit, way.protocol)
        return ends.Onward(unit, way.name, lambda okey: self._at.mac(document.onward(okey, unit)).hex())

    async def _run(self, of: str, agency: AgencyId, work: positions.Work[Answer]) -> Answer:
        """Do it; again, where somebody else has the lane in hand for a moment. Raises Refusal."""
        for left in reversed(range(TRIES)):
            rows = await self._at.rows(_LANES, (of, agency))
            lanes = {(agency, str(row[-1])) for row in rows}
            lanes.update(key for row in rows for key in self._at.scribe.lanes(positions.paper_of(row[:-1])))
            try:
                return await self._at.post.run(work, lanes=lanes)
            except Refusal as refusal:
                if not left or not isinstance(refusal.__cause__, LanesHeld):
                    raise
        raise AssertionError  # the last try returns or raises
