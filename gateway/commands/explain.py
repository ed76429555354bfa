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
from gateway.core.model import (
    AgencyId,
    Catalogue,
    Grant,
    Kind,
    Obligation,
    ServiceId,
    Standing,
    System,
    SystemId,
    agency_of,
)
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
    on_behalf: Annotated[str | None, typer.Option("--for", help="The agency for which it acts by a mandate.")] = None,
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
    unknown = list(_unknown(catalogue, (provider, on_behalf), service, client, purpose))
    if unknown:
        fail(*unknown)
    where = AgencyId(provider), ServiceId(service)
    if who:
        _hold_endpoint(catalogue, where)
        _print_entitled(catalogue, policy.who(catalogue, *where, instant), where)
        typer.echo(LEFT_OUT)
        return
    system = catalogue.systems[SystemId(str(client))]
    _hold(catalogue, where, system)
    facts = policy.Facts(
        consumer=system.id,
        provider=where[0],
        service=where[1],
        purpose=purpose,
        scopes=system.scopes if scope is None else system.scopes & frozenset(scope),
        at=instant,
        given=frozenset(Obligation) - frozenset(without or ()),
        on_behalf=None if on_behalf is None else AgencyId(on_behalf),
    )
    _conclude(catalogue, policy.decide(catalogue, facts), [each for each in scope or () if each not in system.scopes])


def _hold(catalogue: Catalogue, where: tuple[AgencyId, ServiceId], system: System) -> None:
    """What comes before the policy, in the gateway's order; of one's own events nothing comes after it."""
    _hold_system(system)
    _hold_endpoint(catalogue, where)
    if catalogue.services[where[1]].kind is Kind.EVENT and agency_of(system.id) == where[0]:
        _publishing(catalogue, system.id, where[1])
    _hold_visible(catalogue, where, system.id)


def _publishing(catalogue: Catalogue, system: SystemId, service: ServiceId) -> None:
    """Of one's own events the folder decides, and no agreement."""
    try:
        policy.may_publish(catalogue, system, service)
    except Refusal as refusal:
        _refused(refusal.code, refusal.detail, Reason(False, f"{system} may publish {service}"))
    _print("PERMITTED", f"{system} may publish {service}.", (Reason(True, "its agency's folder names it"),))
    typer.echo(LEFT_OUT)
    raise typer.Exit(0)


def _instant(at: str | None, chosen: settings.Settings) -> datetime:
    if at is None:
        return datetime.now(UTC)
    try:
        return decisions.at(_MOMENT.validate_python(at), chosen.zone)
    except ValidationError as error:
        words = error.errors()[0].get("ctx", {}).get("words", "is none")
        fail(f'--at "{at}": {words}. Give a day such as 2026-01-31, or an instant such as 2026-01-31T22:00:00+07:00.')


def _unknown(
    catalogue: Catalogue, agencies: tuple[str, str | None], service: str, client: str | None, purpose: str | None
) -> Iterator[str]:
    """Each name that the catalogue does not have: what the gateway says to it would explain nothing."""
    for what, name, known in (
        ("agency", agencies[0], catalogue.agencies),
        ("agency", agencies[1], catalogue.agencies),
        ("service", service, catalogue.services),
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
        has, provides = _WORDS[catalogue.services[service].kind]
        reason = Reason(False, f"{provider} {has} {service}; it provides: {provided}")
        _refused("catalogue.unknown", f"{provider} {provides} {service}.", reason)


_WORDS = {
    Kind.EXCHANGE: ("has an endpoint for", "provides no service"),
    Kind.DOCUMENT: ("has a way for", "takes no documents"),
    Kind.EVENT: ("publishes", "publishes no events"),
}


def _hold_visible(catalogue: Catalogue, where: tuple[AgencyId, ServiceId], consumer: SystemId) -> None:
    kind = catalogue.services[where[1]].kind
    try:
        policy.visible(catalogue, *where, consumer, kind)
    except Refusal as refusal:
        has = Reason(True, f"{where[0]} {_WORDS[kind][0]} {where[1]}")
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


def _conclude(catalogue: Catalogue, decision: policy.Decision, out_of_reach: list[str]) -> None:
    _print("PERMITTED" if decision.permitted else f"REFUSED {decision.code}", decision.detail, decision.reasons)
    if decision.permitted and decision.grant:
        for line in _consequences(catalogue, decision.grant):
            typer.echo(f"  {line}")
    for scope in out_of_reach:
        typer.echo(f"  {decision.facts.consumer} can get no token with the scope {scope}")
    typer.echo(LEFT_OUT)
    raise typer.Exit(0 if decision.permitted else 2)


def _consequences(catalogue: Catalogue, grant: Grant) -> Iterator[str]:
    """What follows of a permit: what leaves of an answer; where a document goes, and who must agree before."""
    if catalogue.services[grant.service].kind is Kind.DOCUMENT:
        way = catalogue.agencies[grant.provider].way(grant.service)
        if way is not None:
            unit = f" to the unit {way.unit}" if way.unit else ""
            yield f"goes by {way.protocol}{unit}; the whole document"
        if grant.approval is not None:
            by = grant.provider if grant.approval.by == "provider" else "the sender's agency"
            yield f"held until a {grant.approval.role} of {by} approves"
    else:
        yield f"discloses {_shown(catalogue, grant)}"


def _shown(catalogue: Catalogue, grant: Grant) -> str:
    whole = {Kind.EXCHANGE: "answer", Kind.DOCUMENT: "document", Kind.EVENT: "event"}
    kind = catalogue.services[grant.service].kind
    return ", ".join(grant.disclosed) if grant.disclosed else f"the whole {whole[kind]}"


def _print_entitled(
    catalogue: Catalogue, entitled: tuple[policy.Entitled, ...], where: tuple[AgencyId, ServiceId]
) -> None:
    provider, service = where
    endpoint = catalogue.endpoint(provider, service)
    if endpoint is not None and (publishers := sorted(policy.publishers(endpoint))):
        typer.echo(f"published by {', '.join(publishers)}")
    if not entitled:
        verb = "be told of" if catalogue.services[service].kind is Kind.EVENT else "use"
        typer.echo(f"Nobody may {verb} {service} of {provider}.")
    for each in entitled:
        asks = ", ".join(sorted(each.grant.require)) or "nothing more"
        purposes = ", ".join(sorted(each.grant.purposes))
        acting = f" for {each.on_behalf}" if each.on_behalf else ""
        typer.echo(f"{each.consumer}{acting}  by {each.agreement.id}, until {each.agreement.valid_until}")
        shown = _shown(catalogue, each.grant)
        typer.echo(f"  for {purposes}; scope {each.grant.scope or 'none'}; asks {asks}; sees {shown}")
