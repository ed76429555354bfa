"""What a caller can do, as OpenAPI 3.1 and as a plain list: each caller sees the schemas as it gets the answers."""

from collections.abc import Iterator
from typing import Any

from gateway import __version__
from gateway.catalogue.correspondence import Correspondence
from gateway.catalogue.description import PROBLEM, REFUSED, homed, parameter, ref
from gateway.catalogue.disclosure import disclosed, seen_by
from gateway.catalogue.terms import held
from gateway.core.life import Span
from gateway.core.model import (
    AgencyId,
    Agreement,
    Catalogue,
    Effect,
    Grant,
    Kind,
    Obligation,
    Service,
    SystemId,
)
from gateway.core.policy import publishers, shows


def visible(catalogue: Catalogue, consumer: SystemId) -> Iterator[tuple[Service, tuple[AgencyId, ...]]]:
    """The services that the consumer may know of, with their providers."""
    for service in sorted(catalogue.services.values(), key=lambda each: each.id):
        providers = tuple(each for each in sorted(catalogue.agencies) if shows(catalogue, each, service, consumer))
        if providers:
            yield service, providers


def listing(catalogue: Catalogue, consumer: SystemId) -> dict[str, Any]:
    """The answer of ``GET /v1/catalogue``. Without ``terms`` no agreement lets the consumer use the service yet."""
    return {
        "instance": catalogue.instance,
        "digest": catalogue.digest,
        "services": [
            {
                "service": service.id,
                "kind": service.kind,
                "title": service.title,
                "providers": providers,
                **_said(catalogue, consumer, providers, service),
                "terms": [
                    _term(agreement, grant, on_behalf)
                    for provider in providers
                    for agreement, grant, on_behalf in held(catalogue, provider, service.id, consumer)
                ],
            }
            for service, providers in visible(catalogue, consumer)
        ],
    }


def _term(agreement: Agreement, grant: Grant, on_behalf: AgencyId | None) -> dict[str, Any]:
    term: dict[str, Any] = {
        "agreement": agreement.id,
        "provider": grant.provider,
        "purposes": sorted(grant.purposes),
        "scope": grant.scope,
        "require": sorted(grant.require),
        "until": agreement.valid_until.isoformat(),
    }
    if on_behalf is not None:
        term["on_behalf"] = on_behalf
    if grant.approval is not None:
        term["approval"] = {"by": grant.approval.by, "role": grant.approval.role}
    return term


def _said(
    catalogue: Catalogue, consumer: SystemId, providers: tuple[AgencyId, ...], service: Service
) -> dict[str, Any]:
    """What is said: asked and answered, or sent and how it lives."""
    if service.life is None:
        seen = seen_by(catalogue, consumer, service, "response")
        return {"effect": service.effect, "request": service.request.schema, "response": seen}
    life, files = service.life, service.life.attachments
    kinds = (
        None if files is None else {"types": files.types, "max_bytes": files.max_bytes, "max_count": files.max_count}
    )
    return {
        "document": _told(catalogue, consumer, providers, service),
        "max_bytes": service.max_bytes,
        "order_by": life.order_by,
        "done_at": life.done_at,
        "deliver_within": _spanned(life.deliver_within),
        "register_within": None if life.register_within is None else _spanned(life.register_within),
        "keep_days": life.keep_days,
        "attachments": kinds,
    }


def _told(catalogue: Catalogue, consumer: SystemId, providers: tuple[AgencyId, ...], service: Service) -> Any:
    """The schema, whole to whoever sends; of an event as the subscriber gets it, and None without an agreement."""
    endpoints = (catalogue.endpoint(each, service.id) for each in providers)
    if any(each and consumer in publishers(each) for each in endpoints):
        return service.request.schema
    return seen_by(catalogue, consumer, service)


def _spanned(span: Span) -> dict[str, float | int]:
    return {"working_days": span.working_days} if span.working_days else {"seconds": span.seconds}


def document(catalogue: Catalogue, consumer: SystemId, issuer: str) -> dict[str, Any]:
    """OpenAPI 3.1 for one consumer."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    post = Correspondence(catalogue, consumer)
    for service, providers in visible(catalogue, consumer):
        if service.kind is not Kind.EXCHANGE:
            post.add(service, providers)
            continue
        for provider in providers:
            terms = list(held(catalogue, provider, service.id, consumer))
            grants = [grant for _, grant, _ in terms]
            name = f"{provider}.{service.id}"
            schemas[f"{name}.request"] = homed(service.request.schema, f"{name}.request")
            seen = disclosed(service.response.schema, [grant.disclosed for grant in grants])
            if seen is not None:
                schemas[f"{name}.response"] = homed(seen, f"{name}.response")
            paths[f"/v1/exchange/{provider}/{service.id}"] = {
                "post": _operation(service, provider, grants, name, answered=seen is not None)
            }
            if any(on_behalf for _, _, on_behalf in terms):
                paths[f"/v1/exchange/{provider}/{service.id}"]["post"]["parameters"].append(_FOR)
    paths |= post.paths()
    schemas |= post.schemas()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Exchange gateway {catalogue.instance}",
            "version": __version__,
            "description": f"As {consumer} sees it. Catalogue {catalogue.digest[:16]}.",
        },
        "servers": [{"url": issuer}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": _security(issuer, catalogue, consumer)}},
    }


def _security(issuer: str, catalogue: Catalogue, consumer: SystemId) -> dict[str, Any]:
    scopes = dict.fromkeys(sorted(catalogue.systems[consumer].scopes), "")
    return {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": f"{issuer}/oauth/token", "scopes": scopes}}}


def _operation(
    service: Service, provider: AgencyId, grants: list[Grant], name: str, *, answered: bool
) -> dict[str, Any]:
    scopes = sorted({grant.scope for grant in grants if grant.scope})
    note = "" if grants else " No agreement lets you use it yet: ask the provider's data protection contact."
    answer: dict[str, Any] = {"description": "The record, cut to what the agreement discloses."}
    if answered:
        answer["content"] = {"application/json": {"schema": ref(f"{name}.response")}}
    return {
        "operationId": name,
        "summary": service.title,
        "description": f"{service.id} of {provider}.{note}",
        "tags": [service.id.partition(".")[0]],
        "security": [{"token": scopes}],
        "parameters": list(_parameters(service, grants)),
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref(f"{name}.request")}}},
        "responses": {"200": answer, "default": REFUSED},
    }


def _parameters(service: Service, grants: list[Grant]) -> Iterator[dict[str, Any]]:
    """The headers of a call, with what this consumer's own agreements ask of them."""
    purposes = sorted({purpose for grant in grants for purpose in grant.purposes})
    purpose: dict[str, Any] = {"type": "string", "enum": purposes} if purposes else {"type": "string"}
    yield parameter("Exchange-Purpose", "What the record is for.", purpose, required=True)
    for obligation, name, what in _ASKED:
        required = bool(grants) and all(obligation in grant.require for grant in grants)
        yield parameter(name, what, {"type": "string", "maxLength": 256}, required=required)
    if service.effect is Effect.WRITE:
        what = "A fresh key for each new write, the same for each retry of it."
        yield parameter("Idempotency-Key", what, {"type": "string", "maxLength": 130}, required=True)
    yield parameter("traceparent", "W3C Trace Context.", {"type": "string"}, required=False)


_FOR = parameter("Exchange-For", "The agency for which you act.", {"type": "string"}, required=False)
_ASKED = (
    (Obligation.CASE, "Exchange-Case", "The case or file number."),
    (Obligation.USER, "Exchange-User", "The person at the consumer who asks."),
)
