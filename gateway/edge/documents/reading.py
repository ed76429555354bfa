"""One document as somebody may see it: ``GET /v1/documents/{id}``, which can wait, and the sender's recall.

A document shows to the sender's side, to the agency on whose behalf it was sent, to its recipients once it has
reached them, and to the agency that approves it; to everybody else it is not there.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from time import monotonic

import orjson
from aiohttp import web

from gateway.core import delivery, document, policy
from gateway.core.document import Side
from gateway.core.identity import Caller
from gateway.core.model import Agency, AgencyId, ServiceId, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.core.shape import Shape
from gateway.edge.documents import ends, view
from gateway.edge.documents.asking import Asking, home
from gateway.edge.documents.positions import lanes_of, paper_of
from gateway.edge.documents.records import Seal
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.view import Found
from gateway.edge.documents.waiting import Waiters
from gateway.edge.evidence import Trail
from gateway.edge.front import Released
from gateway.edge.journal import Journal, unavailable
from gateway.edge.store import Driver, StoreFailed, StoreRefused

ONE = "/v1/documents/{document}"
MAX_WAITS = 100
"""Calls of one agency that wait at once; one more is answered without waiting."""
RECALL = "/v1/documents/{document}/recall"

_QUERY = frozenset({"recipient"})
_RECALL = Shape(
    {
        "type": "object",
        "properties": {"recipient": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}},
        "additionalProperties": False,
    }
)
_WORDS = {
    "document.may_have_arrived": "The document has reached its recipient, or may have.",
    "document.ended": "The document's life has ended otherwise.",
    "document.state": "The document does not stand so that it could be recalled.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What reading works with."""

    asking: Asking
    reader: Driver
    post: Journal
    scribe: Scribe
    unseal: Seal
    waiters: Waiters


class Reading:
    """``GET /v1/documents/{id}`` and ``POST /v1/documents/{id}/recall``"""

    def __init__(self, these: Shelf) -> None:
        self._these = these
        self._waiting: Counter[AgencyId] = Counter()

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it: before the submissions, whose addresses are wider."""
        asking = self._these.asking
        recall = asking.route("POST", RECALL, self._recall)
        return asking.route("GET", ONE, self._one), recall, asking.others(RECALL, "POST")

    async def _one(self, request: web.Request, trail: Trail) -> Released:
        these = self._these
        caller = await these.asking.caller(request, trail, _QUERY)
        at = request.query.get("recipient")
        own, seconds = home(trail, caller), document.wait(request.headers.getall("Prefer", ()))
        until = monotonic() + seconds
        trail.document = document.known_id(request.match_info["document"])
        found, side = await self._found(trail.document, caller.system, own, at)
        shown = await self._shown(trail, caller, found, side, at)
        seen = tag = _tag(shown)
        given, waited = request.headers.get("If-None-Match"), False
        while (left := until - monotonic()) > 0 and not found.ended and tag == seen and given in (None, seen):
            with these.asking.front.aside(trail):
                if not await self._waited(found, left, own.id):
                    break
            waited = True
            found, side = await self._found(found.id, caller.system, own, at)
            shown = await self._shown(trail, caller, found, side, at)
            tag = _tag(shown)  # the same where it happened to somebody whom the caller does not see, or ask for
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if waited:
            headers["Preference-Applied"] = f"wait={seconds:g}"
        return Released(304, b"", headers=headers) if given == tag else Released(200, shown, headers=headers)

    async def _waited(self, found: Found, seconds: float, agency: AgencyId) -> bool:
        if self._waiting[agency] >= MAX_WAITS:
            return False
        self._waiting[agency] += 1
        try:
            return await self._these.waiters.wait(found.id, seconds, found.last)
        finally:
            self._waiting[agency] -= 1

    async def _found(self, identifier: str, system: SystemId, own: Agency, at: str | None = None) -> tuple[Found, Side]:
        """The document, or what concerns the one recipient. Raises Refusal document.unknown."""
        try:
            found = await view.find(self._these.reader, identifier)
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error
        side = found.side(system, own) if found else None
        if found is None or side is None:
            raise document.unknown()
        one = tuple(each for each in found.of(side, own.id) if each.recipient == at)
        if at not in (None, found.recipient) and not one:
            raise document.unknown()
        return replace(found, at=one) if one else found, side

    async def _shown(self, trail: Trail, caller: Caller, found: Found, side: Side, at: str | None) -> bytes:
        own = home(trail, caller)
        with_files = view.whole(found, side) and view.open_to(found, side, caller.system, own)
        try:
            only = at if side is Side.SENDER else own.id
            happened = await view.steps(self._these.reader, found, self._these.unseal, only)
            standing = await view.standing(self._these.reader, found, self._these.unseal, happened)
            attached = await view.files(self._these.reader, found, self._these.unseal) if with_files else ()
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error
        told = view.shown(found, side, own.id, view.Kept(happened, standing, attached))
        service = trail.catalogue.services.get(ServiceId(found.service))
        states = [each.state for each in found.of(side, own.id)]
        told["done"] = document.is_done(service.life.done_at, states) if service and service.life else None
        return orjson.dumps(told)

    async def _recall(self, request: web.Request, trail: Trail) -> Released:
        """The sender withdraws it, from one recipient or wherever it has not been handed over."""
        these = self._these
        caller = await these.asking.caller(request, trail)
        trail.document = document.known_id(request.match_info["document"])
        said = await these.asking.said(request, trail, _RECALL) if request.body_exists else {}
        found, side = await self._found(trail.document, caller.system, home(trail, caller))
        if side is not Side.SENDER:
            raise document.unknown()
        _hold_mandate(trail, agency_of(caller.system), found)
        recipient = AgencyId(said["recipient"]) if "recipient" in said else None
        stands = (found.sender, found.on_behalf, found.service, found.reference, found.digest)
        try:
            lanes = await lanes_of(these.reader, found.id, recipient)
            lanes += these.scribe.lanes(paper_of((found.id, found.kind, *stands)))
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error
        answer = await these.post.run(
            ends.recall(found.id, recipient, caller.system, these.scribe), locks=("held", found.id), lanes=lanes
        )
        if isinstance(answer, delivery.Refused):
            raise _refusal(answer.code, recipient or found.recipient)
        told = {
            "document": found.id,
            "state": answer.state,
            "receipt": answer.receipt.decode() if answer.receipt else None,
            "kept": list(answer.kept) if isinstance(answer, ends.Changed) else [],
        }
        return Released(200, orjson.dumps(told))


def _hold_mandate(trail: Trail, agency: AgencyId, found: Found) -> None:
    """Who sent it for another agency withdraws it as long as it acts for that one. Raises Refusal."""
    behalf, service = found.on_behalf, ServiceId(found.service)
    if behalf in (None, agency):
        return
    today = trail.at.astimezone(trail.catalogue.zone).date()
    if policy.mandate(trail.catalogue, agency, behalf, service, today) is None:
        sentence = f"{agency} holds no mandate to act for {behalf} in {service} today; {behalf} itself may withdraw it."
        raise Refusal("identity.not_mandated", sentence, agency=behalf)


def _refusal(code: str, agency: str | None) -> Refusal:
    return document.unknown() if code == "document.unknown" else Refusal(code, _WORDS[code], agency=agency)


def _tag(shown: bytes) -> str:
    """A strong validator (RFC 9110, section 8.8.3) of what somebody sees."""
    return f'"{hashlib.sha256(shown).hexdigest()[:32]}"'
