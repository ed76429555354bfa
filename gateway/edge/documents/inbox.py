"""The recipients' mailboxes: an agency's systems fetch what there is for it, or wait until there is something."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson
from aiohttp import web

from gateway.core import document
from gateway.core.entry import Step
from gateway.core.exchange import AGENCY
from gateway.core.model import Agency, AgencyId, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents import mailbox
from gateway.edge.documents.leasing import LEASE_SECONDS, Leased, Leases, Wanted
from gateway.edge.documents.outcomes import read_renewal
from gateway.edge.documents.reception import Reception, hold_standing, refusal_of
from gateway.edge.documents.records import RECEIPT, Addressee
from gateway.edge.documents.waiting import Waiters
from gateway.edge.evidence import Trail
from gateway.edge.front import Released
from gateway.edge.journal import unavailable
from gateway.edge.store import StoreFailed, StoreRefused

FETCH = "/v1/inbox"
RENEW = "/v1/inbox/lease"
MAX_POLLERS = 32
"""Calls of one agency that wait for documents at once; one more is answered at once."""

_THERE = (
    "with v(k, r, w, u, s) as ({rows text text text text text}) select distinct v.k from v where exists "  # noqa: S608 - words
    "(select 1 from lanes l where l.recipient = v.r and l.way = v.w and (v.u = '' or l.unit = v.u) and l.opened > 0 "
    "and l.due <= {now} and l.lease < {now} and (v.s = '' or not " + mailbox.FOREIGN.format("l", "v.s") + "))"
)


class Inbox:
    """``GET /v1/inbox``, ``POST /v1/inbox/lease``"""

    def __init__(self, reception: Reception, leases: Leases) -> None:
        self._at = reception
        self._leases = leases
        self.waiters = Waiters(self._look)
        self._pollers: Counter[AgencyId] = Counter()

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        fetch = self._at.answering(f"GET {FETCH}", "fetch", self._fetch)
        renew = self._at.answering(f"POST {RENEW}", "renew", self._renew)
        return (
            web.get(FETCH, fetch, expect_handler=body.expect_nothing),
            web.post(RENEW, renew, expect_handler=body.expect_nothing),
        )

    def arrived(self, addressees: Iterable[Addressee]) -> None:
        """This process took something in for these: who waits here need not wait for the next look."""
        agencies = self._at.catalogue().agencies
        for each in addressees:
            if each.pulled and (home := agencies.get(each.recipient)):
                systems = {_distinct(home, system) for system in home.systems}
                self.waiters.tell({_key(home.id, unit, system) for unit in (None, each.unit) for system in systems})

    async def _fetch(self, request: web.Request, trail: Trail) -> Released:
        """Leased documents; none at once, the first that come within ``wait`` seconds, or none."""
        caller = await self._at.caller(request, trail)
        asked = _asked(request)
        leased = await self._taken(caller.system, asked)
        if not leased.given and asked.wait:
            leased = await self._awaited(request, trail, caller.system, asked)
        if leased.given:
            await self._write_down(trail, leased)
            self._count(leased)
        claim = leased.claim if leased.given else None
        told = {"lease": claim, "seconds": LEASE_SECONDS, "documents": [each.shown for each in leased.given]}
        return Released(200, orjson.dumps(told), headers={"Cache-Control": "no-store"})

    async def _awaited(self, request: web.Request, trail: Trail, system: SystemId, asked: "Asked") -> Leased:
        """What comes while the caller waits. Whether it still may is asked again each time that it gets something."""
        loop, front = asyncio.get_running_loop(), self._at.front
        end = loop.time() + asked.wait
        leased, agency = Leased("", (), ()), agency_of(system)
        with self._place(agency) as free:
            while free and not leased.given and not _gone(request):
                key = _key(agency, asked.unit, _distinct(self._at.home(agency), system))
                with front.aside(trail):
                    waited = await self.waiters.wait(key, end - loop.time(), None)
                if not waited or _gone(request):
                    break
                await front.hold_still(request, trail, hold_standing)
                leased = await self._taken(system, asked)
        return leased

    @contextlib.contextmanager
    def _place(self, agency: AgencyId) -> Iterator[bool]:
        """Whether one more call of the agency may wait."""
        self._pollers[agency] += 1
        try:
            yield self._pollers[agency] <= MAX_POLLERS
        finally:
            self._pollers[agency] -= 1

    async def _taken(self, system: SystemId, asked: "Asked") -> Leased:
        home = self._at.home(agency_of(system))
        if asked.unit is not None and asked.unit not in home.units:
            raise Refusal("request.malformed", f"unit must be one that {home.id} names in its folder.")
        try:
            return await self._leases.take(Wanted(home, system, asked.unit, asked.most))
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error

    async def _write_down(self, trail: Trail, leased: Leased) -> None:
        """Nothing is handed out that is not in the journal; what cannot be written is given back."""
        facts = {"documents": [each.told["id"] for each in leased.given]}
        try:
            trail.stamp = await self._at.post.append(trail.draft(Step.LEASED, status=200, more=facts))
        except BaseException:
            with contextlib.suppress(Refusal):
                await self._leases.give_back(leased.lanes)
            raise

    def _count(self, leased: Leased) -> None:
        """How long what is fetched for the first time lay there."""
        now = time.time()
        for out in (out for lane in leased.lanes for out in lane.out):
            if out.kind != RECEIPT and not out.touched:
                self._at.meters.arrived("mailbox", now - out.since)

    async def _renew(self, request: web.Request, trail: Trail) -> Released:
        """The lease, for as long again from now on."""
        caller = await self._at.caller(request, trail)
        lease = read_renewal(await self._at.read(request, trail))
        held = await self._at.post.run(mailbox.renew(agency_of(caller.system), lease, LEASE_SECONDS))
        if not held:
            raise refusal_of("document.lease")
        return Released(200, orjson.dumps({"lease": lease, "seconds": LEASE_SECONDS}))

    async def _look(self, keys: Collection[str]) -> Mapping[str, Hashable]:
        """For which of the callers that wait something may be leased now."""
        agencies = self._at.catalogue().agencies
        values: list[str] = []
        for key in keys:
            name, unit, system = key.split(" ")
            home = agencies.get(AgencyId(name))
            own = system if home and home.documents_by_system else ""
            for way in home.deliveries if home else ():
                if way.pulled and (not system or way.admits(SystemId(system))):
                    values += (key, name, way.name, unit, own)
        rows = await self._at.reader.read(_THERE, values) if values else ()
        return {str(row[0]): True for row in rows}


@dataclass(frozen=True, slots=True)
class Asked:
    """The query of a fetch."""

    most: int
    wait: float
    """Seconds."""
    unit: str | None


_NUMBER = re.compile("[0-9]{1,4}")


def _asked(request: web.Request) -> Asked:
    """Raises Refusal request.malformed."""
    query = request.query
    if len(query) != len(set(query)) or not set(query) <= {"max", "wait", "unit"}:
        raise Refusal("request.malformed", "The address takes max, wait and unit, each once, and nothing else.")
    unit = query.get("unit")
    if unit is not None and AGENCY.fullmatch(unit) is None:
        raise Refusal("request.malformed", "unit must be the name of a unit, such as permits.")
    return Asked(_number(query.get("max", "10"), "max", mailbox.MAX_LEASED), _wait(query.get("wait", "0")), unit)


def _number(text: str, name: str, most: int) -> int:
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= most:
        raise Refusal("request.malformed", f"{name} must be a whole number from 1 to {most}.")
    return int(text)


def _wait(text: str) -> float:
    if _NUMBER.fullmatch(text) is None or int(text) > document.MAX_WAIT:
        raise Refusal("request.malformed", f"wait must be whole seconds from 0 to {document.MAX_WAIT:.0f}.")
    return float(text)


def _key(agency: AgencyId, unit: str | None, system: str) -> str:
    """What a caller waits for."""
    return f"{agency} {unit or ''} {system}"


def _distinct(home: Agency, system: SystemId) -> str:
    """The system, where not all of the agency's get the same; most agencies cost one look for all of them."""
    return system if home.documents_by_system or any(each.systems for each in home.deliveries) else ""


def _gone(request: web.Request) -> bool:
    """Nobody reads the answer any more: what would be leased would be kept from others."""
    return request.transport is None or request.transport.is_closing()
