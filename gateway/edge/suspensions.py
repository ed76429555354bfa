"""Operators' suspensions: how they are ordered and lifted, and how every process learns of them within two seconds."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa
import structlog

from gateway.core.model import Catalogue, Standing
from gateway.core.refusal import Refusal
from gateway.core.standing import Suspendable, Suspension, kinds_of, meant, names
from gateway.edge.control import BadOrder, Orders, Outcome, hold_fields
from gateway.edge.evidence import ordered
from gateway.edge.journal import Book
from gateway.edge.store import Driver, Plan, Rows, StoreFailed, reader
from gateway.edge.telemetry import UNKNOWN, Meters, place

POLL = 1.0
"""Seconds between two looks at the table."""
LATE = 10.0
"""Seconds without a look that was laid over, after which nothing is let through."""
MAX_SUSPENSIONS = 1000
"""At once: each process reads all of them every second."""

log = structlog.get_logger()

_READ = "select kind, name, standing from suspensions order by kind, name"
_COUNT = "select count(*), count(case when kind = $1 and name = $2 then 1 end) from suspensions"
_LIST = "select kind, name, standing, reason, who, since from suspensions order by since, kind, name"
_INSERT = (
    "insert into suspensions (kind, name, standing, reason, who, since) values ($1, $2, $3, $4, $5, {now}) "
    "on conflict (kind, name) do update set standing = excluded.standing, reason = excluded.reason, "
    "who = excluded.who, since = excluded.since "
    "where suspensions.standing = 'suspended' and excluded.standing = 'revoked' returning name"
)
"""What is suspended can be revoked; a mere suspension changes nothing of what stands there."""


class Suspensions:
    """What operators suspended, as this process read it last."""

    def __init__(self, driver: Driver, meters: Meters, clock: Callable[[], float] = time.monotonic) -> None:
        self.known: tuple[Suspension, ...] = ()
        """What is to be laid over the catalogue."""
        self._laid: tuple[Suspension, ...] = ()
        self._driver = driver
        self._meters = meters
        self._clock = clock
        self._sure_at = clock()
        """When the last look began whose news was laid over."""
        self._unknown = 0
        self._failing = False
        self._count()
        meters.suspensions_late.set_function(lambda: float(self.late))

    @property
    def late(self) -> bool:
        """What is in force may be out of date: nobody could ask, or lay over what was found, for too long."""
        return self._clock() - self._sure_at > LATE

    def sure(self, laid_over: Catalogue) -> Catalogue:
        """The same, as long as what was laid over it is known. Raises Refusal journal.unavailable."""
        if self.late:
            detail = "The gateway cannot read now who and what is suspended, so that nothing is let through."
            raise Refusal("journal.unavailable", detail, retry_after=2)
        return laid_over

    async def look(self, catalogue: Callable[[], Catalogue], adopt: Callable[[], None]) -> None:
        """Read, have ``adopt`` lay over what is new, then tell of it. Raises StoreFailed, or what ``adopt`` raises.

        What was not laid over is tried again with the next look; a failure to tell undoes nothing.
        """
        begun = self._clock()
        found, unknown = _understood(await self._driver.read(_READ))
        before, self.known = self._laid, found
        if found != before:
            adopt()
            self._laid = found
        self._sure_at = begun
        if unknown != self._unknown:
            self._unknown = unknown
            log.warning("suspensions_unknown", count=unknown)
        self._count()
        _tell("suspended", set(found) - set(before), catalogue())
        still = {(each.kind, each.name) for each in found}
        _tell("lifted", {each for each in before if (each.kind, each.name) not in still}, catalogue())

    def _count(self) -> None:
        many = Counter(each.kind for each in self.known)
        for kind in Suspendable:
            self._meters.suspensions.labels(kind).set(many[kind])
        self._meters.suspensions.labels(UNKNOWN).set(self._unknown)

    async def go_on(self, catalogue: Callable[[], Catalogue], adopt: Callable[[], None]) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.look(catalogue, adopt)
            except Exception as error:  # noqa: BLE001 - the next look must come
                self._note(str(error) if isinstance(error, StoreFailed) else str(place(error)))
            else:
                self._note(None)

    def _note(self, why: str | None) -> None:
        """Tell when looking begins to fail, and when it succeeds again."""
        if why is not None and not self._failing:
            log.warning("suspensions_unread", why=why)
        if why is None and self._failing:
            log.info("suspensions_read")
        self._failing = why is not None


def _understood(rows: Rows) -> tuple[tuple[Suspension, ...], int]:
    """What the rows suspend, and how many of them suspend nothing that this version could name."""
    each = [meant(*row) for row in rows]
    return tuple(dict.fromkeys(one for some in each for one in some)), each.count(())


def _tell(event: str, whom: set[Suspension], catalogue: Catalogue) -> None:
    for each in sorted(whom, key=lambda one: (one.kind, one.name)):
        name = each.name if each.name in names(catalogue, each.kind) else UNKNOWN
        if event == "suspended":
            log.info("suspended", kind=each.kind, name=name, standing=each.standing)
        else:
            log.info("lifted", kind=each.kind, name=name)


@dataclass(frozen=True, slots=True)
class Listed:
    """A suspension as people read it."""

    kind: str
    name: str
    standing: str
    reason: str
    who: str
    since: float
    """Seconds since 1970."""


async def listed(driver: Driver) -> tuple[Listed, ...]:
    """All of them, the oldest first. Raises StoreFailed."""
    return tuple(Listed(*row) for row in await driver.read(_LIST))


def listed_in(path: Path) -> tuple[Listed, ...]:
    """The same of a SQLite file that another process may have in use. Raises StoreFailed."""
    engine = reader(path)
    try:
        with engine.connect() as connection:
            return tuple(Listed(*row) for row in connection.execute(sa.text(_LIST)))
    except sa.exc.SQLAlchemyError as error:
        raise StoreFailed(
            f"{path} cannot be read: is it the gateway's database, and of this version (`gateway migrate`)?"
        ) from error
    finally:
        engine.dispose()


def orders(instance: str) -> Orders:
    """What an operator can order here: ``suspend`` and ``lift``."""
    return {"suspend": partial(_suspend, instance), "lift": partial(_lift, instance)}


def _suspend(instance: str, fields: Mapping[str, str]) -> Callable[[Book], Plan[Outcome]]:
    hold_fields(fields, ("kind", "name", "standing", "reason", "who"))
    kind, name = _target(fields)
    standing, reason, who = fields["standing"], fields["reason"], fields["who"]
    if standing not in (Standing.SUSPENDED, Standing.REVOKED):
        raise BadOrder("standing must be suspended or revoked")
    if standing == Standing.REVOKED and kind is not Suspendable.SYSTEM:
        raise BadOrder(f"{name} is no system: only what gets tokens can be revoked. Suspend it.")

    def plan(book: Book) -> Plan[Outcome]:
        rows = yield _COUNT, (kind, name)
        many, there = rows[0]
        if many >= MAX_SUSPENSIONS and not there:
            return Outcome(
                done=False, text=f"{MAX_SUSPENSIONS} suspensions are in force, which is the most: lift some."
            )
        rows = yield _INSERT, (kind, name, standing, reason, who)
        if not rows:
            return Outcome(
                done=False,
                text=f"the {kind} {name} is suspended or revoked already: `gateway suspensions` says by whom.",
            )
        book.write(ordered(instance, "suspend", who, reason, kind=kind, name=name, standing=standing))
        return Outcome(done=True, text=f"the {kind} {name} is {standing}")

    return plan


def _lift(instance: str, fields: Mapping[str, str]) -> Callable[[Book], Plan[Outcome]]:
    hold_fields(fields, ("kind", "name", "reason", "who"))
    kind, name = _target(fields)

    def plan(book: Book) -> Plan[Outcome]:
        rows = yield "delete from suspensions where kind = $1 and name = $2 returning name", (kind, name)
        if not rows:
            return Outcome(
                done=False, text=f"no operator suspended the {kind} {name}: `gateway suspensions` says what is."
            )
        book.write(ordered(instance, "lift", fields["who"], fields["reason"], kind=kind, name=name))
        return Outcome(done=True, text=f"the {kind} {name} is no longer suspended by operators")

    return plan


def _target(fields: Mapping[str, str]) -> tuple[Suspendable, str]:
    kind, name = fields["kind"], fields["name"]
    if kind not in kinds_of(name):
        raise BadOrder(f"{name} is no name of what can be suspended, or is no {kind}")
    return Suspendable(kind), name
