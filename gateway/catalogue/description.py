"""Parts that every page of the OpenAPI document shares: headers, references, the problem document."""

from collections.abc import Mapping
from typing import Any

from gateway.core.refusal import TABLE


def parameter(name: str, what: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "description": what, "schema": schema}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def homed(schema: Any, name: str) -> Any:
    """The schema with its local references made right for its place in the document."""
    if isinstance(schema, list):
        return [homed(each, name) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {word: homed(inner, name) for word, inner in schema.items() if word != "$schema"}
    target = moved.get("$ref")
    if isinstance(target, str):
        moved["$ref"] = f"#/components/schemas/{name}" + target.removeprefix("#")
    return moved


PROBLEM = {
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
REFUSED = {
    "description": "A refusal or a fault.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
