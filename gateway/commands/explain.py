"""``gateway explain``: what the gateway would say to a call and why, or who could make it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from gateway import settings
from gateway.catalogue import decisions
from gateway.catalogue.notation import Moment
from gateway.catalogue.reading import near
from gateway.commands.terminal import Root, accepted, fail, read_settings
from gateway.core import policy
from gateway.core.model import AgencyId, Catalogue, Obligation, ServiceId, Standing, System, SystemId
from gateway.core.policy import Reason
from gateway.core.refusal import Refusal

LEFT_OUT = "Not looked at: operators' suspensions (see `gateway suspensions`), rate and quota."
"""The last line of every answer: those depend on a database and on what was spent."""

_MOMENT: TypeAdapter[Moment] = TypeAdapter(Moment)


def explain(  # noqa: PLR0913 - a call has this many facts
    *,
    provider: Annotated[str, typer.Option(help="The agency that provides, such as interior.")],
    service: Annotated[str, typer.Option(help="Such as population.person_lookup.v1.")],
    client: Annotated[str | None, typer.Option(help="The system that asks, such as finance.local_tax.")] = None,
    purpose: Annotated[str | None, typer.Option(help="A code of schemas/common/purposes.yaml.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="A scope of the token (default: all that the system has).")
    ] = None,
    without: Annotated[list[Obligation] | None, typer.Option(help="What the call lacks.")] = None,
    at: Annotated[str | None, typer.Option(help="A day or an instant (default: now).")] = None,
    who: Annotated[bool, typer.Option("--who", help="Print everyone who could call now.")] = False,
    root: Root = None,
) -> None:
    """Say why a call would be allowed or refused, or who could make it."""
    chosen = read_settings(root)
    instant = _instant(at, chosen)
    if not who and (client is None or purpose is None):
        fail("Give --client and --purpose, or --who.")
    catalogue = accepted(chosen)
    unknown = list(_unknown(catalogue, (provider, service), client, purpose))
    if unknown:
        fail(*unknown)
    where = AgencyId(provider), ServiceId(service)
    if who:
        _hold_endpoint(catalogue, where)
        _print_entitled(policy.who(catalogue, *where, instant), provider, service)
        typer.echo(LEFT_OUT)
        return
    system = catalogue.systems[SystemId(str(client))]
    _hold_system(system)
    _hold_endpoint(catalogue, where)
    _hold_visible(catalogue, where, system.id)
    facts = policy.Facts(
        consumer=system.id,
        provider=where[0],
        service=where[1],
        purpose=purpose,
        scopes=system.scopes if scope is None else system.scopes & frozenset(scope),
        at=instant,
        given=frozenset(Obligation) - frozenset(without or ()),
    )
    _conclude(policy.decide(catalogue, facts), [each for each in scope or () if each not in system.scopes])


def _instant(at: str | None, chosen: settings.Settings) -> datetime:
    if at is None:
        return datetime.now(UTC)
    try:
        return decisions.at(_MOMENT.validate_python(at), chosen.zone)
    except ValidationError as error:
        words = error.errors()[0].get("ctx", {}).get("words", "is none")
        fail(f'--at "{at}": {words}. Give a day such as 2026-01-31, or an instant such as 2026-01-31T22:00:00+07:00.')


def _unknown(catalogue: Catalogue, where: tuple[str, str], client: str | None, purpose: str | None) -> Iterator[str]:
    """Each name that the catalogue does not have: what the gateway says to it would explain nothing."""
    for what, name, known in (
        ("agency", where[0], catalogue.agencies),
        ("service", where[1], catalogue.services),
        ("system", client, catalogue.systems),
        ("purpose", purpose, catalogue.purposes),
    ):
        if name is not None and name not in known:
            yield f'unknown {what} "{name}". {near(name, map(str, known))}'.rstrip()


def _hold_system(system: System) -> None:
    """The gateway asks this first, when the token is shown (edge.identity)."""
    if system.standing is Standing.REVOKED:
        _refused(
            "identity.revoked", f"The system {system.id} was revoked.", Reason(False, f"{system.id} may have a token")
        )


def _hold_endpoint(catalogue: Catalogue, where: tuple[AgencyId, ServiceId]) -> None:
    provider, service = where
    if catalogue.endpoint(provider, service) is None:
        provided = ", ".join(sorted(catalogue.agencies[provider].endpoints)) or "nothing"
        reason = Reason(False, f"{provider} has an endpoint for {service}; it provides: {provided}")
        _refused("catalogue.unknown", f"{provider} provides no service {service}.", reason)


def _hold_visible(catalogue: Catalogue, where: tuple[AgencyId, ServiceId], consumer: SystemId) -> None:
    try:
        policy.visible(catalogue, *where, consumer)
    except Refusal as refusal:
        has = Reason(True, f"{where[0]} has an endpoint for {where[1]}")
        named = Reason(False, f"an agreement names {consumer}: the service is restricted, and shows to nobody else")
        _refused(refusal.code, refusal.detail, has, named)


def _refused(code: str, sentence: str, *reasons: Reason) -> None:
    _print("REFUSED " + code, sentence, reasons)
    typer.echo(LEFT_OUT)
    raise typer.Exit(2)


def _print(verdict: str, sentence: str, reasons: tuple[Reason, ...]) -> None:
    typer.echo(f"{verdict}: {sentence}")
    for reason in reasons:
        typer.echo(f"  {'yes' if reason.holds else 'NO '}  {reason.text}")


def _conclude(decision: policy.Decision, out_of_reach: list[str]) -> None:
    _print("PERMITTED" if decision.permitted else f"REFUSED {decision.code}", decision.detail, decision.reasons)
    if decision.permitted and decision.grant:
        shown = decision.grant.disclosed
        typer.echo(f"  discloses {', '.join(shown) if shown else 'the whole answer'}")
    for scope in out_of_reach:
        typer.echo(f"  {decision.facts.consumer} can get no token with the scope {scope}")
    typer.echo(LEFT_OUT)
    raise typer.Exit(0 if decision.permitted else 2)


def _print_entitled(entitled: tuple[policy.Entitled, ...], provider: str, service: str) -> None:
    if not entitled:
        typer.echo(f"Nobody may use {service} of {provider}.")
    for each in entitled:
        asks = ", ".join(sorted(each.grant.require)) or "nothing more"
        shown = ", ".join(each.grant.disclosed) if each.grant.disclosed else "the whole answer"
        purposes = ", ".join(sorted(each.grant.purposes))
        typer.echo(f"{each.consumer}  by {each.agreement.id}, until {each.agreement.valid_until}")
        typer.echo(f"  for {purposes}; scope {each.grant.scope or 'none'}; asks {asks}; sees {shown}")
