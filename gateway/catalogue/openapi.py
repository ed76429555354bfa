"""What a caller can do, as OpenAPI 3.1 and as a plain list: each caller sees the schemas as it gets the answers."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway import __version__
from gateway.core.minimise import cut_of, reduced
from gateway.core.model import (
    AgencyId,
    Catalogue,
    Effect,
    Grant,
    Obligation,
    Pointer,
    Service,
    SystemId,
)
from gateway.core.policy import shows
from gateway.core.refusal import TABLE


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
                "effect": service.effect,
                "title": service.title,
                "providers": providers,
                "request": service.request.schema,
                "response": _seen(catalogue, consumer, providers, service),
                "terms": [
                    {
                        "agreement": agreement.id,
                        "provider": grant.provider,
                        "purposes": sorted(grant.purposes),
                        "scope": grant.scope,
                        "require": sorted(grant.require),
                        "until": agreement.valid_until.isoformat(),
                    }
                    for provider in providers
                    for agreement, grant in catalogue.grants.get((provider, service.id, consumer), ())
                ],
            }
            for service, providers in visible(catalogue, consumer)
        ],
    }


def _seen(catalogue: Catalogue, consumer: SystemId, providers: tuple[AgencyId, ...], service: Service) -> Any:
    """The response schema as the consumer gets it from any of the providers; None without an agreement."""
    grants = [grant for each in providers for _, grant in catalogue.grants.get((each, service.id, consumer), ())]
    return _disclosed(service, grants)


def _disclosed(service: Service, grants: list[Grant]) -> Any:
    if not grants:
        return None
    pointers: list[Pointer] = []
    for grant in grants:
        if grant.disclosed is None:
            return service.response.schema
        pointers += grant.disclosed
    return reduced(service.response.schema, cut_of(pointers))


def document(catalogue: Catalogue, consumer: SystemId, issuer: str) -> dict[str, Any]:
    """OpenAPI 3.1 for one consumer."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for service, providers in visible(catalogue, consumer):
        for provider in providers:
            grants = [grant for _, grant in catalogue.grants.get((provider, service.id, consumer), ())]
            name = f"{provider}.{service.id}"
            schemas[f"{name}.request"] = _homed(service.request.schema, f"{name}.request")
            seen = _disclosed(service, grants)
            if seen is not None:
                schemas[f"{name}.response"] = _homed(seen, f"{name}.response")
            paths[f"/v1/exchange/{provider}/{service.id}"] = {
                "post": _operation(service, provider, grants, name, answered=seen is not None)
            }
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
        answer["content"] = {"application/json": {"schema": _ref(f"{name}.response")}}
    return {
        "operationId": name,
        "summary": service.title,
        "description": f"{service.id} of {provider}.{note}",
        "tags": [service.id.partition(".")[0]],
        "security": [{"token": scopes}],
        "parameters": list(_parameters(service, grants)),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(f"{name}.request")}}},
        "responses": {"200": answer, "default": _REFUSED},
    }


def _parameters(service: Service, grants: list[Grant]) -> Iterator[dict[str, Any]]:
    """The headers of a call, with what this consumer's own agreements ask of them."""
    purposes = sorted({purpose for grant in grants for purpose in grant.purposes})
    purpose: dict[str, Any] = {"type": "string", "enum": purposes} if purposes else {"type": "string"}
    yield _parameter("Exchange-Purpose", "What the record is for.", purpose, required=True)
    for obligation, name, what in _ASKED:
        required = bool(grants) and all(obligation in grant.require for grant in grants)
        yield _parameter(name, what, {"type": "string", "maxLength": 256}, required=required)
    if service.effect is Effect.WRITE:
        what = "A fresh key for each new write, the same for each retry of it."
        yield _parameter("Idempotency-Key", what, {"type": "string", "maxLength": 130}, required=True)
    yield _parameter("traceparent", "W3C Trace Context.", {"type": "string"}, required=False)


_ASKED = (
    (Obligation.CASE, "Exchange-Case", "The case or file number."),
    (Obligation.USER, "Exchange-User", "The person at the consumer who asks."),
)


def _parameter(name: str, what: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "description": what, "schema": schema}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _homed(schema: Any, name: str) -> Any:
    """The schema with its local references made right for its place in the document."""
    if isinstance(schema, list):
        return [_homed(each, name) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    homed = {word: _homed(inner, name) for word, inner in schema.items() if word != "$schema"}
    ref = homed.get("$ref")
    if isinstance(ref, str):
        homed["$ref"] = f"#/components/schemas/{name}" + ref.removeprefix("#")
    return homed


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code", "exchange", "trace", "remedy"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"enum": sorted(TABLE)},
        "exchange": {"type": "string"},
        "trace": {"type": "string"},
        "remedy": {"type": "string"},
        "retry_after": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "contact": {"type": "object"},
    },
}
_REFUSED = {
    "description": "A refusal or a fault.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
