"""``gateway suspend``, ``gateway lift``, ``gateway suspensions``: an operator stops somebody, and lets them go on."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

import typer

from gateway.catalogue.reading import near, render
from gateway.commands.ordering import carried_out, database_file, user
from gateway.commands.terminal import fail, loaded, read_settings
from gateway.core.model import Standing
from gateway.core.standing import Suspendable, kinds_of, names
from gateway.edge import suspensions
from gateway.edge.control import Order
from gateway.edge.postgres import PostgresDriver, named
from gateway.edge.store import StoreFailed
from gateway.settings import Settings

What = Annotated[
    str,
    typer.Argument(
        help="An agency (interior), a system (finance.local_tax), an endpoint "
        "(interior/population.person_lookup.v1) or an agreement (MOI-FIN-2026-014)."
    ),
]
Reason = Annotated[str, typer.Option(help="Why, in a line; whoever lists suspensions reads it.")]
By = Annotated[str | None, typer.Option(help="Who orders it (default: the user of the operating system).")]
Kind = Annotated[Suspendable | None, typer.Option(help="Which it is, where its name may mean several.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also what the catalogue here does not know.")]

WITHIN = "within 2 seconds"


def suspend(
    what: What,
    *,
    reason: Reason,
    by: By = None,
    kind: Kind = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="A system: its tokens end at once, too.")] = False,
    anyway: Anyway = False,
) -> None:
    """Refuse calls of or to an agency, a system, an endpoint, or under an agreement, until it is lifted."""
    standing = Standing.REVOKED if revoke else Standing.SUSPENDED
    said = {"name": what, "reason": reason, "who": by or user(), "standing": standing}
    done = _order("suspend", said, kind, anyway=anyway)
    typer.echo(f"{done}: {WITHIN} every gateway on this database refuses such calls; those let through before may end")


def lift(what: What, *, reason: Reason, by: By = None, kind: Kind = None, anyway: Anyway = False) -> None:
    """End what `gateway suspend` began; what a file of the catalogue says stays."""
    done = _order("lift", {"name": what, "reason": reason, "who": by or user()}, kind, anyway=anyway)
    typer.echo(f"{done}: {WITHIN} every gateway on this database knows it")


def listing() -> None:
    """Print what operators suspended: since when, by whom, why."""
    chosen = read_settings()
    try:
        found = asyncio.run(_listed(chosen))
    except (StoreFailed, ValueError) as error:
        fail(str(error))
    for each in found:
        since = datetime.fromtimestamp(each.since, chosen.zone).isoformat(timespec="seconds")
        typer.echo(f"{each.kind} {each.name} {each.standing} since {since} by {each.who}: {each.reason}")
    if not found:
        typer.echo("operators suspended nothing; what files of the catalogue suspend is not listed here")


def _order(what: str, said: Mapping[str, str], kind: Suspendable | None, *, anyway: bool) -> str:
    """What was done, in a sentence."""
    chosen = read_settings()
    target = _kind(chosen, said["name"], kind, anyway=anyway)
    try:
        order = Order(what, {"kind": target, **said})
        outcome = asyncio.run(carried_out(chosen, order, lambda: suspensions.orders(chosen.instance)))
    except (StoreFailed, ValueError) as error:
        fail(str(error))
    if not outcome.done:
        fail(outcome.text)
    return outcome.text


def _kind(chosen: Settings, name: str, asked: Suspendable | None, *, anyway: bool) -> Suspendable:
    """What the name means in the catalogue, or by its form alone; never a guess."""
    possible = _possible(name, asked)
    if anyway:
        return _only(possible, name)
    found = loaded(chosen)
    if found.catalogue is None:
        fail("The catalogue has errors; with --anyway it is not asked:", render(found.findings))
    known = {kind: names(found.catalogue, kind) for kind in Suspendable}
    meant = [kind for kind in possible if name in known[kind]]
    if not meant:
        close = near(name, (each for kind in Suspendable for each in known[kind]))
        fail(f"The catalogue has no {' or '.join(possible)} {name}. {close}With --anyway it is done all the same.")
    return _only(meant, name)


def _possible(name: str, asked: Suspendable | None) -> Sequence[Suspendable]:
    """What it can be by its form, and as which it is asked for."""
    possible = kinds_of(name)
    if not possible:
        fail(
            f'"{name}" is no name of an agency (interior), a system (finance.local_tax), an endpoint '
            "(interior/population.person_lookup.v1) or an agreement (MOI-FIN-2026-014)."
        )
    if asked is None:
        return possible
    if asked not in possible:
        fail(f'--kind {asked} does not fit "{name}", which has the form of: {", ".join(possible)}.')
    return (asked,)


def _only(kinds: Sequence[Suspendable], name: str) -> Suspendable:
    if len(kinds) > 1:
        fail(f"{name} may mean several: say which with {' or '.join(f'--kind {each}' for each in kinds)}.")
    return kinds[0]


async def _listed(chosen: Settings) -> tuple[suspensions.Listed, ...]:
    """Raises StoreFailed or ValueError."""
    if not named(chosen.database):
        return suspensions.listed_in(database_file(chosen))
    driver = PostgresDriver(chosen.database, chosen.instance)
    try:
        return await suspensions.listed(driver)
    finally:
        await driver.close()
