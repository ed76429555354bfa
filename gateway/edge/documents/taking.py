"""Taking documents and events in: who, what, to whom, right, shape, durable, receipt (DESIGN section 6).

The checks run in the order of section 5, and the first failure answers. A reference that was taken in before gets its
receipt again whatever has become of agreements and bounds since.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import orjson
import structlog
from aiohttp import web

from gateway.core import attachment, document, policy
from gateway.core.attachment import File
from gateway.core.document import Target
from gateway.core.exchange import Head, address, once, read_head, shaped
from gateway.core.identity import Caller
from gateway.core.model import AgencyId, Kind, Service, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents import addressing, records
from gateway.edge.documents.addressing import Letter, Permit
from gateway.edge.documents.asking import Asking
from gateway.edge.documents.attachments import Attachments
from gateway.edge.documents.bounds import Bounds
from gateway.edge.documents.files import viewer
from gateway.edge.documents.post import Post
from gateway.edge.documents.records import Addressee, Paper, Reused, Seal, Submission, Taken
from gateway.edge.evidence import Trail, new_id, shown
from gateway.edge.front import Call, Front, Released
from gateway.edge.journal import Journal, unavailable
from gateway.edge.limits import Charge, Limits
from gateway.edge.telemetry import UNKNOWN

TO_ONE = "/v1/documents/{agency}/{service}"
TO_SEVERAL = "/v1/documents/{service}"
EVENT = "/v1/events/{service}"
MAX_BODY = 2**20
"""Bytes of a body whose service is not known any more; no service takes larger ones."""

_RECIPIENTS = (
    "select d.recipient, x.recipient from documents d left join deliveries x "
    "on x.document = d.id and x.kind <> 'receipt' where d.id = $1 order by x.seq"
)
_EXCUSED = ("policy.", "catalogue.", "recipient.", "identity.not_mandated")
"""Refusals that do not concern what was taken in before."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What taking in works with."""

    limits: Limits
    post: Journal
    submitting: Post
    asking: Asking
    attachments: Attachments
    bounds: Bounds
    seal: Seal
    mac: Callable[[bytes], bytes]
    arrived: Callable[[Iterable[Addressee]], None]
    """Told whom this process took something in for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A submission that may be made, but for its body."""

    target: Target
    service: Service
    head: Head
    attachments: tuple[str, ...]
    permits: tuple[Permit, ...]
    sender: AgencyId
    """Or the agency on whose behalf it is sent."""


class Taking:
    """``POST /v1/documents/…`` and ``POST /v1/events/{service}``"""

    def __init__(self, front: Front, these: Counter) -> None:
        self._front = front
        self._these = these
        self._log = log.bind()  # bound once: the lazy one is built anew for each line

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it; after the addresses that look at documents, as these are wider."""
        others = self._these.asking.others
        wrong = (others(TO_ONE, "POST"), others(TO_SEVERAL, "GET", "POST"), others(EVENT, "POST"))
        return (*(self._route(path, kind) for path, kind in ADDRESSES), *wrong)

    def _route(self, path: str, kind: Kind) -> web.RouteDef:
        call = Call(f"POST {path}", partial(self._released, kind), self._count)
        return web.post(path, partial(self._front.answer, call=call), expect_handler=body.expect_nothing)

    async def _released(self, kind: Kind, request: web.Request, trail: Trail) -> Released:
        self._front.hold_place()
        target = _target(kind, request, trail)
        caller = await self._front.caller(request, trail)
        if kind is Kind.DOCUMENT and "agency" not in request.match_info:
            target = Target(kind, target.service, document.names(_one(request, "Exchange-To")))
        try:
            wish = await self._wish(request, trail, caller, target)
        except Refusal as refusal:
            return await self._excused(request, trail, target, refusal)
        trail.received = raw = await body.read(request, wish.service.max_bytes)
        value = shaped(wish.service, raw)
        trail.note_subjects(wish.service.request_subjects, value)
        await self._front.hold_still(request, trail, partial(addressing.hold_still, wish.permits, target))
        who = viewer(trail.catalogue.agencies[agency_of(caller.system)], caller.system)
        files = await self._these.attachments.accepted(wish.service, who, wish.attachments)
        if self._these.post.failing:
            raise unavailable()
        submission = self._submission(trail, wish, Letter(new_id(), wish.service, value, wish.sender, trail.at), files)
        taken = await self._these.submitting.submit(submission)
        if isinstance(taken, Reused):
            raise _reused()
        if not taken.new:
            return await self._again(trail, target, taken)
        return self._new(trail, wish, submission, taken)

    async def _wish(self, request: web.Request, trail: Trail, caller: Caller, target: Target) -> Wish:
        """Everything that is asked before the body. Raises Refusal."""
        own = agency_of(caller.system)
        if target.kind is Kind.EVENT:
            policy.may_publish(trail.catalogue, caller.system, target.service)
        elif len(target.named) == 1 and not target.named[0].startswith(document.GROUP):
            policy.visible(trail.catalogue, AgencyId(target.named[0]), target.service, caller.system, Kind.DOCUMENT)
        _hold_form(request)
        trail.head = head = read_head(request.headers)
        files = attachment.listed(_one(request, "Exchange-Attachments"))
        sender = head.on_behalf or own
        if target.kind is Kind.EVENT:
            found = await self._subscribers(trail, own, target)
        else:
            to = document.addressed(trail.catalogue, target.named, sender)
            found = addressing.permits(trail, caller, target.service, to)
            await _spend(self._these, trail, caller, head, found)
        return Wish(
            target=target,
            service=trail.catalogue.services[target.service],
            head=head,
            attachments=files,
            permits=found,
            sender=sender,
        )

    async def _subscribers(self, trail: Trail, publisher: AgencyId, target: Target) -> tuple[Permit, ...]:
        if trail.head and trail.head.on_behalf not in (None, publisher):
            raise Refusal("identity.not_mandated", "Nobody publishes events for another agency.")
        rows = await self._these.asking.rows(addressing.SUBSCRIBED, target.service, publisher)
        return addressing.subscribers(trail.catalogue, publisher, target.service, trail.at, rows)

    def _submission(self, trail: Trail, wish: Wish, letter: Letter, files: tuple[File, ...]) -> Submission:
        head, these, life = wish.head, self._these, document.life_of(wish.service)
        if head.key is None:
            raise Refusal("idempotency.key_missing", "Send your reference of the document as Idempotency-Key.")
        assert trail.received is not None  # noqa: S101 - for the type checker; it was read
        assert trail.consumer is not None  # noqa: S101 - the same
        raw, digest = trail.received, hashlib.sha256(trail.received).digest()
        behalf = head.on_behalf if head.on_behalf != agency_of(trail.consumer) else None
        sealed = {
            "purpose": head.purpose,
            "case": head.case,
            "user": head.user,
            "person": shown(trail.person) if trail.person else None,
            "traceparent": trail.span.traceparent,
            "agreement": None,
            "attachments": [each.shown for each in files],
            **addressing.agreements(wish.permits),
        }
        return Submission(
            paper=Paper(
                id=letter.id,
                kind=wish.target.kind,
                sender=trail.consumer,
                on_behalf=behalf,
                service=wish.service.id,
                reference=head.key,
                digest=digest,
            ),
            fingerprint=these.mac(document.fingerprint(wish.target, head, wish.attachments, digest)),
            case_tag=None if head.case is None else these.mac(document.of_case(head.case)),
            head=these.seal(orjson.dumps(sealed), records.head_context(letter.id)),
            body=these.seal(raw, records.body_context(letter.id)),
            catalogue=trail.catalogue.digest,
            seconds=document.seconds(life.deliver_within, trail.at, trail.catalogue),
            to=tuple(_addressee(these, trail, letter, each) for each in wish.permits),
            hold=addressing.hold(trail, wish.permits, wish.sender, these.mac),
            attachments=files,
            facts=addressing.grounds(trail, wish.permits),
            particulars=trail.particulars(),
            raw=raw,
            plain=sealed,
        )

    def _new(self, trail: Trail, wish: Wish, submission: Submission, taken: Taken) -> Released:
        trail.document = taken.id
        these = self._these
        if submission.hold is None:
            paper = submission.paper
            bound = records.bound_of(paper.kind, paper.sender)
            these.bounds.add(((each.recipient, each.way) for each in submission.to if not each.full), bound)
            begun = {lane.key for lane in taken.lanes}
            these.arrived([each for each in submission.to if each.lane not in begun])
        return _accepted(taken, wish.target, submission.paper.reference, [each.recipient for each in wish.permits])

    async def _excused(self, request: web.Request, trail: Trail, target: Target, refusal: Refusal) -> Released:
        """What was refused is answered all the same where it was taken in before. Raises the refusal otherwise."""
        head = trail.head or _readable(request)
        if head is None or head.key is None or trail.consumer is None or not refusal.code.startswith(_EXCUSED):
            raise refusal
        trail.head = head
        known = await self._these.submitting.known(trail.consumer, head.key)
        if known is None:
            raise refusal
        taken, fingerprint = known
        service = trail.catalogue.services.get(target.service)
        raw = await body.read(request, service.max_bytes if service else MAX_BODY)
        files = attachment.listed(_one(request, "Exchange-Attachments"))
        if self._these.mac(document.fingerprint(target, head, files, hashlib.sha256(raw).digest())) != fingerprint:
            raise _reused()
        return await self._again(trail, target, taken)

    async def _again(self, trail: Trail, target: Target, taken: Taken) -> Released:
        assert trail.head is not None  # noqa: S101 - for the type checker; who asks has read it
        assert trail.head.key is not None  # noqa: S101 - the same
        trail.document = taken.id
        rows = await self._these.asking.rows(_RECIPIENTS, taken.id)
        to = [recipient or held for held, recipient in rows if recipient or held]
        return _accepted(taken, target, trail.head.key, to)

    def _count(self, trail: Trail, released: Released) -> None:
        code = released.refusal.code if released.refusal else None
        service = trail.service if trail.service in trail.catalogue.services else UNKNOWN
        outcome = code or ("replayed" if released.replayed else "taken")
        whose = {"consumer": trail.consumer, "provider": _provider(trail), "service": service}
        trail.span.end(released.status, exchange=trail.exchange, outcome=outcome, **whose)
        self._log.info(
            "document",
            **trail.ids,
            **whose,
            document=trail.document,
            status=released.status,
            code=code,
            entry=(released.entry or str(trail.stamp or "")).partition(" ")[0] or None,
            ms=round((time.monotonic() - trail.begun) * 1000, 2),
        )


async def _spend(these: Counter, trail: Trail, caller: Caller, head: Head, found: tuple[Permit, ...]) -> None:
    """What was taken in under the reference before spends nothing, and takes no room; nor does what is refused here.

    Raises Refusal.
    """
    these.bounds.hold(each.way for each in found)
    counted = any(each.grant.rate or each.grant.quota for each in found)
    if counted and head.key is not None and await these.submitting.known(caller.system, head.key):
        return
    charges = [Charge(each.agreement, each.grant, each.facts.spender) for each in found]
    await these.limits.spend(charges, trail.at, trail.catalogue.zone)


ADDRESSES = ((TO_ONE, Kind.DOCUMENT), (TO_SEVERAL, Kind.DOCUMENT), (EVENT, Kind.EVENT))


def _addressee(these: Counter, trail: Trail, letter: Letter, permit: Permit) -> Addressee:
    """An event does not go where as many of its publisher's wait as may; a letter would have been refused."""
    made = addressing.addressee(letter, permit, trail.catalogue, these.mac)
    if permit.subscriber is None or trail.consumer is None:
        return made
    return replace(made, full=these.bounds.full(permit.way, records.bound_of(Kind.EVENT, trail.consumer)))


def _target(kind: Kind, request: web.Request, trail: Trail) -> Target:
    """What the address says. Raises Refusal catalogue.unknown."""
    agency = request.match_info.get("agency")
    provider, trail.service = address(agency or "nobody", request.match_info["service"])
    if agency is not None:
        trail.provider = provider
    if request.query_string:
        raise Refusal("request.malformed", "The address takes no query: what identifies a person travels in the body.")
    return Target(kind, trail.service, (agency,) if agency is not None else ())


def _provider(trail: Trail) -> str | None:
    """The one that the address names, where the catalogue knows it."""
    return trail.provider if trail.provider is None or trail.provider in trail.catalogue.agencies else UNKNOWN


def _hold_form(request: web.Request) -> None:
    once([name.lower() for name, _ in request.raw_headers])
    if "agency" in request.match_info and "Exchange-To" in request.headers:
        raise Refusal("request.malformed", "The address names the recipient: leave Exchange-To out, or the agency.")


def _one(request: web.Request, name: str) -> str | None:
    values = request.headers.getall(name, ())
    if len(values) > 1:
        raise Refusal("request.malformed", f"The header {name} was sent more than once.")
    return values[0] if values else None


def _readable(request: web.Request) -> Head | None:
    try:
        return read_head(request.headers)
    except Refusal:
        return None


def _reused() -> Refusal:
    return Refusal(
        "idempotency.reused",
        "The Idempotency-Key belongs to another document of your system: body, recipients, purpose, case, mandate or "
        "attachments are not the same.",
    )


def _accepted(taken: Taken, target: Target, reference: str, to: Iterable[str]) -> Released:
    """202, whether it was taken in now or before."""
    recipients = list(to)
    said = {
        "document": taken.id,
        "state": taken.state,
        "reference": reference,
        "receipt": taken.receipt.decode(),
        "recipients": len(recipients) if target.kind is Kind.EVENT else recipients,
    }
    location = {"Location": f"/v1/documents/{taken.id}"}
    return Released(202, orjson.dumps(said), headers=location, entry=taken.entry, replayed=not taken.new)
