"""What systems subscribe to by themselves, beside what their folders say: ``/v1/subscriptions``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gateway.core import policy
from gateway.core.entry import Draft, Stamp
from gateway.core.exchange import AGENCY, SERVICE
from gateway.core.identity import Caller
from gateway.core.model import AgencyId, Kind, ServiceId, SystemId
from gateway.core.receipt import instant
from gateway.core.refusal import Refusal
from gateway.core.shape import Shape
from gateway.edge.documents.asking import Asking, home
from gateway.edge.evidence import Trail, administered
from gateway.edge.front import Released, permitted
from gateway.edge.journal import Book, Journal
from gateway.edge.store import Plan

ADDRESS = "/v1/subscriptions"
MAX_SUBSCRIPTIONS = 1000
"""Of one system, by the API."""

_AGENCY = {"type": "string", "pattern": f"^{AGENCY.pattern}$"}
_SERVICE = {"type": "string", "pattern": f"^{SERVICE.pattern}$"}
_NEW = Shape(
    {
        "type": "object",
        "required": ["publisher", "service", "purpose"],
        "properties": {
            "publisher": _AGENCY,
            "service": _SERVICE,
            "purpose": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"},
        },
        "additionalProperties": False,
    }
)
_OLD = Shape(
    {
        "type": "object",
        "required": ["publisher", "service"],
        "properties": {"publisher": _AGENCY, "service": _SERVICE},
        "additionalProperties": False,
    }
)
_MINE = "select publisher, service, purpose, since from subscriptions where system = $1 order by publisher, service"
_ROOM = "select count(*) from subscriptions where system = $1 and not (publisher = $2 and service = $3)"
_TAKE = (
    "insert into subscriptions (system, publisher, service, purpose, since) values ($1, $2, $3, $4, {now}) "
    "on conflict (system, publisher, service) do update set purpose = excluded.purpose "
    "where subscriptions.purpose <> excluded.purpose returning since"
)
_STANDS = "select since from subscriptions where system = $1 and publisher = $2 and service = $3"
_DROP = "delete from subscriptions where system = $1 and publisher = $2 and service = $3 returning since"


@dataclass(frozen=True, slots=True)
class Wish:
    """One subscription."""

    system: SystemId
    publisher: AgencyId
    service: ServiceId
    purpose: str


class Subscriptions:
    """``GET``, ``POST`` and ``DELETE /v1/subscriptions``"""

    def __init__(self, asking: Asking, post: Journal) -> None:
        self._asking = asking
        self._post = post

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        asking = self._asking
        return (
            asking.route("GET", ADDRESS, self._mine),
            asking.route("POST", ADDRESS, self._new),
            asking.route("DELETE", ADDRESS, self._gone),
            asking.others(ADDRESS, "GET", "POST", "DELETE"),
        )

    async def _mine(self, request: web.Request, trail: Trail) -> Released:
        caller = await self._asking.caller(request, trail)
        rows = await self._asking.rows(_MINE, caller.system)
        by_folder = [each for each in home(trail, caller).subscriptions if each.system == caller.system]
        told = [_shown(each.publisher, each.service, each.purpose) for each in by_folder]
        told += [_shown(publisher, service, purpose, instant(since)) for publisher, service, purpose, since in rows]
        return Released(200, orjson.dumps({"subscriptions": told}), headers={"Cache-Control": "private, no-store"})

    async def _new(self, request: web.Request, trail: Trail) -> Released:
        """Only what an agreement permits now, and what can reach the agency."""
        caller = await self._asking.caller(request, trail)
        said = await self._asking.said(request, trail, _NEW)
        wish = Wish(caller.system, AgencyId(said["publisher"]), ServiceId(said["service"]), said["purpose"])
        trail.provider, trail.service = wish.publisher, wish.service
        self._hold(trail, caller, wish)
        drafted = administered(trail.catalogue, "subscribed", **_facts(trail, wish), purpose=wish.purpose)
        since, stamp = await self._post.run(_taken(wish, drafted))
        if since is None:
            raise Refusal("subscription.not_possible", f"A system has at most {MAX_SUBSCRIPTIONS} subscriptions.")
        trail.stamp = stamp
        return Released(201, orjson.dumps(_shown(wish.publisher, wish.service, wish.purpose, instant(since))))

    def _hold(self, trail: Trail, caller: Caller, wish: Wish) -> None:
        now = trail.catalogue
        policy.visible(now, wish.publisher, wish.service, caller.system, Kind.EVENT)
        decision = policy.redecide(
            now,
            consumer=wish.system,
            provider=wish.publisher,
            service=wish.service,
            purpose=wish.purpose,
            on_behalf=None,
            at=trail.at,
        )
        trail.agreement, trail.grant = decision.agreement, decision.grant
        permitted(decision)
        if home(trail, caller).way(wish.service) is None:
            raise Refusal("subscription.not_possible", f"Your agency's folder names no way for {wish.service}.")

    async def _gone(self, request: web.Request, trail: Trail) -> Released:
        """What the folder says stays: it is ended there."""
        caller = await self._asking.caller(request, trail)
        said = await self._asking.said(request, trail, _OLD)
        wish = Wish(caller.system, AgencyId(said["publisher"]), ServiceId(said["service"]), "")
        of_folder = home(trail, caller).subscriptions
        if any(
            (each.system, each.publisher, each.service) == (wish.system, wish.publisher, wish.service)
            for each in of_folder
        ):
            raise Refusal("subscription.not_possible", "Your agency's folder subscribes to it: take it out there.")
        drafted = administered(trail.catalogue, "unsubscribed", **_facts(trail, wish))
        trail.stamp = await self._post.run(_dropped(wish, drafted))
        return Released(204, b"")


def _facts(trail: Trail, wish: Wish) -> Mapping[str, str]:
    """What the entry names; nothing that the catalogue does not know."""
    known = trail.catalogue
    return {
        "exchange": trail.exchange,
        "consumer": wish.system,
        "provider": wish.publisher if wish.publisher in known.agencies else "unknown",
        "service": wish.service if wish.service in known.services else "unknown",
    }


def _taken(wish: Wish, drafted: Draft) -> Callable[[Book], Plan[tuple[float | None, Stamp | None]]]:
    """Since when it stands, None where the system has too many. One that stands for the same purpose makes no entry."""

    def plan(book: Book) -> Plan[tuple[float | None, Stamp | None]]:
        rows = yield _ROOM, (wish.system, wish.publisher, wish.service)
        if rows[0][0] >= MAX_SUBSCRIPTIONS:
            return None, None
        changed = yield _TAKE, (wish.system, wish.publisher, wish.service, wish.purpose)
        stands = changed or (yield _STANDS, (wish.system, wish.publisher, wish.service))
        return float(stands[0][0]), book.write(drafted) if changed else None

    return plan


def _dropped(wish: Wish, drafted: Draft) -> Callable[[Book], Plan[Stamp | None]]:
    def plan(book: Book) -> Plan[Stamp | None]:
        gone = yield _DROP, (wish.system, wish.publisher, wish.service)
        return book.write(drafted) if gone else None

    return plan


def _shown(publisher: str, service: str, purpose: str, since: str | None = None) -> dict[str, Any]:
    """``since`` of one by the API; one of the folder has none."""
    return {
        "publisher": publisher,
        "service": service,
        "purpose": purpose,
        "since": since,
        "by": "api" if since else "folder",
    }
