"""``gateway documents``: what waits and what could not be delivered; orders that send it again or end its time."""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from gateway.commands.ordering import carried_out, database_file, user
from gateway.commands.terminal import accepted, fail, read_settings
from gateway.core.delivery import State
from gateway.edge import keys
from gateway.edge.control import Order, Orders, Outcome
from gateway.edge.documents import gates, orders, survey, sweeping
from gateway.edge.documents.gatekeeping import STOPPED
from gateway.edge.documents.gates import Gate
from gateway.edge.documents.scribe import Scribe, signer
from gateway.edge.documents.survey import Line, Told
from gateway.edge.keys import Keyring
from gateway.edge.postgres import PostgresDriver, named
from gateway.edge.store import Reads, Rows, SqliteReader, StoreFailed
from gateway.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Documents and events: what waits, what failed, and orders about it.",
)

Ids = Annotated[list[str], typer.Argument(help="Ids of documents, as `gateway documents list` prints them.")]
Recipient = Annotated[str | None, typer.Option(help="Only at this agency, where a document has several.")]
Reason = Annotated[str, typer.Option(help="Why, in a line; it stands in the journal.")]
By = Annotated[str | None, typer.Option(help="Who orders it (default: the user of the operating system).")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"([1-9][0-9]{0,6})([smhd])")


@app.command("list")
def listing(
    *,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Only for this agency.")] = None,
    kind: Annotated[str | None, typer.Option(help="document, event or receipt; left out: no receipts.")] = None,
    older: Annotated[str | None, typer.Option(help="Only what has stood so for longer: 90s, 15m, 12h, 3d.")] = None,
    most: Annotated[int, typer.Option(min=1, max=survey.MAX_LISTED, help="Only so many, the oldest.")] = 100,
    ids: Annotated[bool, typer.Option("--ids", help="Print ids only, each once.")] = False,
) -> None:
    """Print what is still to be handed out and what could not be delivered; with --state, what is in that state."""
    if kind not in (None, "document", "event", "receipt"):
        fail(f'--kind must be document, event or receipt, not "{kind}".')
    wanted = survey.Wanted(state, recipient, kind, 0.0 if older is None else _seconds(older), most)
    reader = _reading(read_settings())
    found = _read(survey.listed(reader, wanted))
    if ids:
        for document in dict.fromkeys(each.document for each in found):
            typer.echo(document)
        return
    for each in found:
        typer.echo(_line(each))
    for gate in _read(gates.closed(reader)):
        if recipient in (None, gate.recipient):
            typer.echo(_gate(gate), err=True)
    if len(found) == most:
        typer.echo(f"only the oldest {most} are shown: --most shows more", err=True)
    elif not found:
        typer.echo("no document stands so", err=True)


@app.command()
def show(document: Annotated[str, typer.Argument(help="The document's id.")]) -> None:
    """Print where a document stands and what happened to it; nothing of what is written in it."""
    chosen = read_settings()
    found = _read(survey.told(_reading(chosen), _id(document), _keyring(chosen).open))
    if found is None:
        fail(f"there is no document {document}")
    for line in _shown(found, chosen):
        typer.echo(line)


@app.command()
def requeue(document: Ids, *, reason: Reason, recipient: Recipient = None, by: By = None) -> None:
    """Send undeliverable documents again: late, and marked so; their time to be delivered begins anew."""
    _order("requeue_document", document, reason=reason, recipient=recipient or orders.ANYWHERE, who=by or user())


@app.command()
def expire(document: Ids, *, reason: Reason, recipient: Recipient = None, by: By = None) -> None:
    """End the time of documents that wait, as if deliver_within had passed; their senders are told."""
    _order("expire_document", document, reason=reason, recipient=recipient or orders.ANYWHERE, who=by or user())


@app.command()
def reopen(
    agency: Annotated[str, typer.Argument(help="Whose way is closed.")],
    way: Annotated[str, typer.Argument(help="Its name, as `gateway documents list` says it.")],
    *,
    reason: Reason,
    by: By = None,
) -> None:
    """Hand over again on a way that is closed, also after a 410; the next failure closes it anew."""
    said = {"recipient": agency, "way": way, "reason": reason, "who": by or user()}
    outcome = _ordered(read_settings(), Order("reopen_way", said))
    typer.echo(outcome.text, err=not outcome.done)
    raise typer.Exit(0 if outcome.done else 1)


@app.command()
def check() -> None:
    """Hold the counters of what waits against what waits; a difference ends it with 1."""
    found = _read(sweeping.self_check(_reading(read_settings())))
    for each in found:
        typer.echo(f"FAULT {each}")
    typer.echo(f"{len(found)} faults")
    raise typer.Exit(1 if found else 0)


def _order(kind: str, documents: Sequence[str], **said: str) -> None:
    """One order for each; what cannot be done to one is told, and stops none of the others."""
    chosen = read_settings()
    failed = 0
    for document in documents:
        outcome = _ordered(chosen, Order(kind, {"document": _id(document), **said}))
        failed += not outcome.done
        typer.echo(outcome.text, err=not outcome.done)
    raise typer.Exit(1 if failed else 0)


def _ordered(chosen: Settings, order: Order) -> Outcome:
    try:
        return asyncio.run(carried_out(chosen, order, lambda: _orders(chosen)))
    except (StoreFailed, ValueError) as error:
        fail(str(error))


def _orders(chosen: Settings) -> Orders:
    """What this process can carry out, with the gateway's own keys: a receipt is made of every step."""
    keyring, catalogue = _keyring(chosen), accepted(chosen)
    scribe = Scribe(chosen.instance, signer(keyring.signing), keyring.seal, keyring.mac, lambda: catalogue)
    return orders.orders(scribe, lambda: catalogue)


def _keyring(chosen: Settings) -> Keyring:
    try:
        return keys.read(chosen.keys, chosen.instance)
    except keys.BadKeys as error:
        fail(str(error), "Run the command as the gateway's user, with its settings.")


def _reading(chosen: Settings) -> Reads:
    """Reads beside a gateway that may be running."""
    try:
        return _Server(chosen) if named(chosen.database) else SqliteReader(database_file(chosen))
    except (StoreFailed, ValueError) as error:
        fail(str(error))


class _Server:
    """A connection for each statement: a command asks few, and leaves none open."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        driver = PostgresDriver(self._chosen.database, self._chosen.instance)
        try:
            return await driver.read(select, values)
        finally:
            await driver.close()


def _read(reading: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(reading)
    except keys.NotOpened:
        fail("The database was sealed under another master key: name the keys folder of its gateway in GATEWAY_KEYS.")
    except (StoreFailed, ValueError) as error:
        fail(str(error))


def _id(document: str) -> str:
    try:
        return str(UUID(document))
    except ValueError:
        fail(f'"{document}" is no id of a document: `gateway documents list` prints them.')


def _seconds(age: str) -> float:
    found = _AGE.fullmatch(age)
    if found is None:
        fail(f'--older must be such as 90s, 15m, 12h or 3d, not "{age}".')
    return float(int(found[1]) * _UNITS[found[2]])


def _age(seconds: float) -> str:
    """In the largest unit of which there are two."""
    unit, size = next(((name, size) for name, size in reversed(_UNITS.items()) if seconds >= 2 * size), ("s", 1))
    return f"{max(0, int(seconds // size))}{unit}"


def _line(each: Line) -> str:
    shown = f" ({each.shown})" if each.shown else ""
    tried = f", {each.attempts} attempts" if each.attempts else ""
    late = f", requeued {each.late} times" if each.late else ""
    route = f"{each.service} {each.sender} -> {each.recipient}"
    return f"{each.document} {each.kind} {route} {each.state}{shown} for {_age(each.age)}{tried}{late}"


def _gate(gate: Gate) -> str:
    if gate.reason.startswith(f"{STOPPED} "):
        return (
            f"{gate.recipient} takes nothing any more on its way {gate.way} (HTTP 410): it opens when its folder names "
            f"another address there, or by `gateway documents reopen {gate.recipient} {gate.way}`"
        )
    still = f"for {_age(gate.seconds)} still" if gate.seconds > 0 else "to be tried with the next document"
    left = f"{gate.recipient} is left alone on its way {gate.way}"
    return f"{left} after {gate.failures} failures, {still}: {gate.reason}"


def _shown(found: Told, chosen: Settings) -> list[str]:
    def at(instant: float) -> str:
        return datetime.fromtimestamp(instant, chosen.zone).isoformat(timespec="seconds")

    behalf = f" for {found.on_behalf}" if found.on_behalf else ""
    gone = ", its body is no longer kept" if found.purged else ""
    lines = [
        f"{found.id} {found.kind} {found.service} of {found.sender}{behalf}",
        f"submitted {at(found.submitted)}, sha-256 {found.digest.hex()}{gone}",
        *map(_line, found.deliveries),
    ]
    for each in found.steps:
        more = [f"at {each.recipient}" if each.recipient else "", f"by {each.by}" if each.by else ""]
        more += [f"to the unit {each.unit}" if each.unit else "", f"reason {each.reason}" if each.reason else ""]
        lines.append(" ".join([f"  {at(each.at)} {each.step}", *filter(None, more), f"entry {each.entry}"]))
    return lines
