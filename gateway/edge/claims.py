"""Idempotency keys of writes: claimed, settled, freed and swept, each in one transaction with its journal entry.

A key belongs to the system and lives for KEEP seconds. Every attempt has an owner of its own: whoever settles a key
that another attempt took over meanwhile changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.core.entry import Draft, Stamp
from gateway.core.exchange import KeyState
from gateway.edge.journal import Book
from gateway.edge.store import Plan

CLOCKS_APART = 60.0
"""Seconds by which the database's clock may differ from ours: a used assertion is remembered so much longer."""
KEEP = 86_400.0
"""Seconds that a key and its answer are kept."""
GIVEN_UP = 1000
"""Keys of dead processes that one sweep gives up at most, with an entry each."""
FORGOTTEN = 10_000
"""Old keys, and used assertions, that one sweep deletes at most."""

_OWN = "system = $1 and key = $2 and owner = $3 and state = 'running'"


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt at one write."""

    system: str
    key: str
    fingerprint: bytes
    owner: str
    """Fresh for each attempt."""
    seconds: float
    """After them nobody is believed to be still at it."""
    exchange: str

    @property
    def locks(self) -> tuple[str, ...]:
        """The row that its transactions hold."""
        return ("keys", self.system, self.key)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands under a key that somebody claimed before."""

    state: KeyState
    fingerprint: bytes
    exchange: str
    """The first exchange with the key."""
    answer: bytes | None
    """Sealed."""
    late: bool
    """Its deadline has passed."""


Work: TypeAlias = Callable[[Book], "Plan[Stamp | Found]"]


def take(claim: Claim, admitted: Draft) -> Work:
    """Claim the key and write ``admitted``, or find who did."""

    def plan(book: Book) -> Plan[Stamp | Found]:
        values = "$1, $2, $3, 'running', $4, {now} + $5, $6, {now} + $7"
        # Two statements: "insert or read" in one returns nothing to whoever waited for the other's commit.
        # One row each: many in one statement would save 18 µs of a write (PostgreSQL, 16 in a batch), and whoever
        # waits for one row would hold up all.
        columns = "system, key, fingerprint, state, owner, deadline, exchange, keep_until"
        rows = yield (
            f"insert into keys ({columns}) values ({values}) on conflict do nothing returning owner",  # noqa: S608
            (claim.system, claim.key, claim.fingerprint, claim.owner, claim.seconds, claim.exchange, KEEP),
        )
        if rows:
            return book.write(admitted)
        return (yield from _found(claim))

    return plan


def take_again(claim: Claim, admitted: Draft) -> Work:
    """Take over a key whose outcome is unknown, for a provider that takes the key itself."""

    def plan(book: Book) -> Plan[Stamp | Found]:
        same = "system = $1 and key = $2 and fingerprint = $4"
        given_up = "(state = 'unknown' or (state = 'running' and deadline < {now}))"
        taken = "state = 'running', owner = $3, deadline = {now} + $5, exchange = $6"
        rows = yield (
            f"update keys set {taken} where {same} and {given_up} returning owner",  # noqa: S608
            (claim.system, claim.key, claim.owner, claim.fingerprint, claim.seconds, claim.exchange),
        )
        if rows:
            return book.write(admitted)
        return (yield from _found(claim))

    return plan


def _found(claim: Claim) -> Plan[Found]:
    rows = yield (
        "select state, fingerprint, exchange, answer, deadline < {now} from keys where system = $1 and key = $2",
        (claim.system, claim.key),
    )
    if not rows:  # freed or swept between the two statements: the caller's next attempt gets it
        return Found(KeyState.RUNNING, claim.fingerprint, claim.exchange, None, late=False)
    state, fingerprint, exchange, answer, late = rows[0]
    return Found(KeyState(state), fingerprint, exchange, answer, late=bool(late))


def answered(claim: Claim, sealed: bytes, final: Draft) -> Work:
    """Store the provider's definite answer with the final entry; or find what another attempt stored."""

    def plan(book: Book) -> Plan[Stamp | Found]:
        sql = f"update keys set state = 'answered', answer = $4 where {_OWN} returning owner"  # noqa: S608
        rows = yield sql, (claim.system, claim.key, claim.owner, sealed)
        if rows:
            return book.write(final)
        return (yield from _found(claim))

    return plan


def free(claim: Claim, final: Draft) -> Callable[[Book], Plan[Stamp]]:
    """Nothing was sent, or the provider said that it took nothing: the key may be used again."""

    def plan(book: Book) -> Plan[Stamp]:
        yield f"delete from keys where {_OWN}", (claim.system, claim.key, claim.owner)  # noqa: S608
        return book.write(final)

    return plan


def unknown(claim: Claim, final: Draft) -> Callable[[Book], Plan[Stamp]]:
    """Sent, and no definite answer: it may have taken effect."""

    def plan(book: Book) -> Plan[Stamp]:
        yield f"update keys set state = 'unknown' where {_OWN}", (claim.system, claim.key, claim.owner)  # noqa: S608
        return book.write(final)

    return plan


def sweep(unsettled: Callable[[str, str], Draft]) -> Callable[[Book], Plan[int]]:
    """Give up on keys whose process died, with an entry each; forget old keys. Gives the number given up."""

    def plan(book: Book) -> Plan[int]:
        late_ones = _those("keys", "key", "state = 'running' and deadline < {now}", GIVEN_UP)
        late = yield f"update keys set state = 'unknown' where {late_ones} returning system, exchange", ()  # noqa: S608
        for system, exchange in late:
            book.write(unsettled(system, exchange))
        old = _those("keys", "key", "state <> 'running' and keep_until < {now}", FORGOTTEN)
        yield f"delete from keys where {old}", ()  # noqa: S608
        used = _those("assertions", "jti", f"until < {{now}} - {CLOCKS_APART}", FORGOTTEN)
        yield f"delete from assertions where {used}", ()  # noqa: S608
        return len(late)

    return plan


def _those(table: str, key: str, which: str, most: int) -> str:
    """Some rows, without those that another transaction holds: a sweep never waits, and so is in no deadlock."""
    free = f"select system, {key} from {table} where {which} limit {most}{{skip_locked}}"  # noqa: S608
    return f"(system, {key}) in (with free as materialized ({free}) select system, {key} from free)"  # noqa: S608
