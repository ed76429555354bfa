"""Refusals and faults as the caller gets them: RFC 9457 problem documents."""

import math
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.core.model import AgencyId, Catalogue
from gateway.core.refusal import Contact, Refusal

MEDIA = "application/problem+json"


def document(refusal: Refusal, exchange: str, trace: str, catalogue: Catalogue, types: str) -> bytes:
    """The body. ``types`` is the address of the reference page whose anchors are the codes, ``trace`` an id."""
    body: dict[str, Any] = {
        "type": f"{types}#{refusal.code}",
        "title": refusal.kind.title,
        "status": refusal.kind.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "exchange": exchange,
        "trace": trace,
        "remedy": refusal.kind.remedy,
    }
    if refusal.errors:
        body["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in refusal.errors]
    if refusal.retry_after is not None:
        body["retry_after"] = seconds(refusal.retry_after)
    contact = _contact(refusal, catalogue)
    if contact:
        body["contact"] = contact
    return orjson.dumps(body)


def seconds(wait: float) -> int:
    """Whole seconds, at least one: what Retry-After can say (RFC 9110, section 10.2.3)."""
    return max(1, math.ceil(wait))


def _contact(refusal: Refusal, catalogue: Catalogue) -> Mapping[str, str] | None:
    role = refusal.kind.contact
    if role is None:
        return None
    if role is Contact.OPERATOR:
        return {"role": role.value}
    agency = catalogue.agencies.get(AgencyId(refusal.agency)) if refusal.agency else None
    if agency is None:
        return None
    return {"agency": agency.id, "role": role.value, "at": agency.contacts[role.value]}


def response(refusal: Refusal, body: bytes) -> web.Response:
    """The HTTP answer."""
    answer = web.Response(body=body, status=refusal.kind.status, content_type=MEDIA)
    answer.headers["Cache-Control"] = "no-store"
    if refusal.retry_after is not None:
        answer.headers["Retry-After"] = str(seconds(refusal.retry_after))
    if refusal.kind.status == web.HTTPUnauthorized.status_code:
        error = "" if refusal.code == "identity.missing" else ', error="invalid_token"'
        answer.headers["WWW-Authenticate"] = f'Bearer realm="gateway"{error}'
    if refusal.code == "request.method":
        answer.headers["Allow"] = "POST"  # exchanges are the only addresses that refuse a method
    return answer
