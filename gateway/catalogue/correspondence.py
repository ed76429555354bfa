"""The addresses of documents, events, inbox, approvals and attachments, as far as they are for one caller."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.catalogue.description import REFUSED, homed, parameter, ref
from gateway.catalogue.terms import held
from gateway.core import policy
from gateway.core.delivery import BY_RECIPIENT, State
from gateway.core.document import MAX_NAMED
from gateway.core.model import (
    Agency,
    AgencyId,
    Catalogue,
    Grant,
    Kind,
    Obligation,
    Service,
    ServiceId,
    SystemId,
    agency_of,
)


@dataclass(slots=True)
class Correspondence:
    """Filled with the documents and events that a caller may know of; then it says which addresses are its own."""

    catalogue: Catalogue
    consumer: SystemId
    _sent: dict[ServiceId, dict[AgencyId, list[Grant]]] = field(default_factory=dict)
    _published: list[Service] = field(default_factory=list)
    _told: list[Grant] = field(default_factory=list)

    def add(self, service: Service, providers: tuple[AgencyId, ...]) -> None:
        """Note what the caller may do with a document or an event."""
        for provider in providers:
            grants = [grant for _, grant, _ in held(self.catalogue, provider, service.id, self.consumer)]
            if service.kind is Kind.DOCUMENT and grants:
                self._sent.setdefault(service.id, {})[provider] = grants
            elif service.kind is Kind.EVENT:
                self._told += grants
                endpoint = self.catalogue.endpoint(provider, service.id)
                if endpoint is not None and self.consumer in policy.publishers(endpoint):
                    self._published.append(service)

    def paths(self) -> dict[str, Any]:
        """By address, what the caller may do there."""
        found: dict[str, Any] = {}
        for name, to in self._sent.items():
            service = self.catalogue.services[name]
            for provider, grants in to.items():
                found[f"/v1/documents/{provider}/{name}"] = {"post": _submission(service, grants, provider)}
            together = [each for each, grants in to.items() if not all(grant.approval for grant in grants)]
            every = [grant for each in together for grant in to[each]]
            if every:  # what a second person must approve goes to one agency at a time
                found[f"/v1/documents/{name}"] = {"post": _submission(service, every, to=sorted(together))}
        for service in self._published:
            found[f"/v1/events/{service.id}"] = {"post": _submission(service, [])}
        sends, takes = bool(self._sent or self._published), bool(self._agency.deliveries)
        if sends or takes:
            found |= _FOLLOWED
        if takes:
            found |= _INBOX
        if self._approves():
            found |= _APPROVALS
        if self._files():
            found |= _FILES
        if self._told:
            found["/v1/subscriptions"] = _SUBSCRIPTIONS
        return found

    def schemas(self) -> dict[str, Any]:
        """What the addresses refer to."""
        services = [*map(self.catalogue.services.__getitem__, self._sent), *self._published]
        names = {f"{service.id}.document": service.request.schema for service in services}
        return {**_SCHEMAS, **{name: homed(schema, name) for name, schema in names.items()}}

    @property
    def _agency(self) -> Agency:
        return self.catalogue.agencies[agency_of(self.consumer)]

    def _received(self) -> Iterator[Service]:
        for name in self._agency.endpoints:
            service = self.catalogue.services.get(name)
            if service is not None and service.kind is Kind.DOCUMENT:
                yield service

    def _files(self) -> bool:
        services = [*map(self.catalogue.services.__getitem__, self._sent), *self._published, *self._received()]
        return any(each.life is not None and each.life.attachments is not None for each in services)

    def _approves(self) -> bool:
        """Whether somebody of the agency is ever asked as a second person."""
        own, services = self._agency.id, self.catalogue.services
        for (provider, service, consumer), grants in self.catalogue.grants.items():
            said = services.get(service)
            if said is not None and said.kind is Kind.DOCUMENT and own in (provider, agency_of(consumer)):
                approvers = {"provider": provider, "consumer": agency_of(consumer)}
                if any(grant.approval and approvers[grant.approval.by] == own for _, grant in grants):
                    return True
        return False


def _submission(service: Service, grants: list[Grant], provider: str = "", to: Sequence[str] = ()) -> dict[str, Any]:
    """To one provider; to several; or, of an event, to all who subscribe."""
    where = f"to {provider}" if provider else "to several agencies" if to else "to all who subscribe"
    parameters = list(_headers(service, grants))
    if to:
        what = f"At most {MAX_NAMED} agencies, and groups as group:NAME, with commas between: {', '.join(to)}."
        parameters.append(parameter("Exchange-To", what, _NAMES, required=True))
    return {
        "operationId": f"{provider or ('several' if to else 'publish')}.{service.id}",
        "summary": service.title,
        "description": f"{service.id} {where}. The answer holds the signed receipt.",
        "tags": [service.id.partition(".")[0]],
        "security": [{"token": sorted({grant.scope for grant in grants if grant.scope})}],
        "parameters": parameters,
        "requestBody": _body(f"{service.id}.document"),
        "responses": {"202": _answer("It is taken in, durably.", "Taken"), "default": REFUSED},
    }


def _headers(service: Service, grants: list[Grant]) -> Iterator[dict[str, Any]]:
    purposes = sorted({purpose for grant in grants for purpose in grant.purposes})
    purpose: dict[str, Any] = {"type": "string", "enum": purposes} if purposes else {"type": "string"}
    yield parameter("Exchange-Purpose", "What it is for.", purpose, required=True)
    what = "Your reference of the document: the same on every attempt."
    yield parameter("Idempotency-Key", what, {"type": "string", "maxLength": 130}, required=True)
    for obligation, name, meaning in _ASKED:
        required = bool(grants) and all(obligation in grant.require for grant in grants)
        size = 8192 if obligation is Obligation.PERSON else 256
        yield parameter(name, meaning, {"type": "string", "maxLength": size}, required=required)
    if service.kind is Kind.DOCUMENT:
        yield parameter("Exchange-For", "The agency for which you act.", {"type": "string"}, required=False)
    if service.life is not None and service.life.attachments is not None:
        files = service.life.attachments
        what = f"Ids of uploaded files: at most {files.max_count}, each at most {files.max_bytes} bytes."
        yield parameter("Exchange-Attachments", what, {"type": "string"}, required=False)
    yield parameter("traceparent", "W3C Trace Context.", {"type": "string"}, required=False)


_ASKED = (
    (Obligation.CASE, "Exchange-Case", "The case or file number."),
    (Obligation.USER, "Exchange-User", "The person at the sender who sends it."),
    (Obligation.PERSON, "Exchange-User-Assertion", "The same, as a JWT of an issuer that your agency's folder names."),
)


def _body(name: str) -> dict[str, Any]:
    return {"required": name != "Recall", "content": {"application/json": {"schema": ref(name)}}}


def _answer(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ref(name)}}}


def _query(name: str, what: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": what, "schema": schema}


def _does(
    operation: str, summary: str, answers: dict[str, Any], parameters: Sequence[Any] = (), body: str = ""
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation,
        "summary": summary,
        "tags": ["documents"],
        "parameters": list(parameters),
        "responses": {**answers, "default": REFUSED},
    }
    return {**made, "requestBody": _body(body)} if body else made


_TEXT = {"type": "string"}
_NAMES = {"type": "string", "maxLength": MAX_NAMED * len(f"group:{63 * 'x'}, ")}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_WAIT = parameter("Prefer", "wait=20 waits until something changes.", _TEXT, required=False)
_AT = _query("recipient", "Only this one of several.", _TEXT)
_MAX = {"type": "integer", "minimum": 1, "maximum": 100}
_PAGE = (
    _query("role", "Sent or received.", {"enum": ["sent", "received"]}),
    _query("state", "A state.", {"enum": [*State]}),
    _query("service", "A service.", _TEXT),
    parameter("Exchange-Case", "Only documents of this case.", _TEXT, required=False),
    _query("since", "An instant with an offset.", {"type": "string", "format": "date-time"}),
    _query("max", "How many.", _MAX),
    _query("after", "The next of the page before.", _TEXT),
)
_FETCHED = (
    _query("max", "How many.", _MAX),
    _query("wait", "Seconds to wait until there is something.", {"type": "integer", "minimum": 0}),
    _query("unit", "A department.", _TEXT),
)
_PERSON = parameter("Exchange-User-Assertion", "Who decides, asserted by your agency's issuer.", _TEXT, required=True)
_DIGEST = parameter("Content-Digest", "sha-256 of the file (RFC 9530).", _TEXT, required=True)
_RANGE = parameter("Range", "A range of bytes (RFC 9110).", _TEXT, required=False)
_RAW = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
_FILE = {"200": {"description": "The file.", **_RAW}, "206": {"description": "The range.", **_RAW}}


def _ok(name: str) -> dict[str, Any]:
    return {"200": _answer("Done.", name)}


_FOLLOWED = {
    "/v1/documents": {"get": _does("documents.list", "Your agency's documents, newest first", _ok("Documents"), _PAGE)},
    "/v1/documents/{id}": {
        "get": _does("documents.show", "Where a document stands", _ok("Document"), (_ID, _AT, _WAIT)),
    },
    "/v1/documents/{id}/recall": {
        "post": _does("documents.recall", "Withdraw it", _ok("Answered"), (_ID,), "Recall"),
    },
}
_INBOX = {
    "/v1/inbox": {"get": _does("inbox.fetch", "Fetch what there is, leased for a minute", _ok("Inbox"), _FETCHED)},
    "/v1/inbox/lease": {"post": _does("inbox.renew", "Keep it for another minute", _ok("Kept"), body="Lease")},
    "/v1/inbox/{id}": {"post": _does("inbox.answer", "Say what became of it", _ok("Answered"), (_ID,), "Outcome")},
}
_APPROVALS = {
    "/v1/approvals": {"get": _does("approvals.list", "What waits for a second person", _ok("Approvals"), (_PERSON,))},
    "/v1/approvals/{id}": {
        "post": _does("approvals.decide", "Approve or decline, once", _ok("Answered"), (_ID, _PERSON), "Decision")
    },
}
_UPLOADED = {"201": _answer("Stored.", "Attachment")}
_FILES = {
    "/v1/attachments": {
        "post": {
            **_does("attachments.upload", "Upload a file", _UPLOADED, (_DIGEST,)),
            "requestBody": {"required": True, **_RAW},
        }
    },
    "/v1/attachments/{id}": {"get": _does("attachments.download", "Download a file", _FILE, (_ID, _RANGE))},
}
_ADDED = {"201": _answer("Added.", "Subscription")}
_SUBSCRIPTIONS = {
    "get": _does("subscriptions.list", "What your agency is told of", _ok("Subscriptions")),
    "post": _does("subscriptions.add", "Be told of events", _ADDED, body="Subscription"),
    "delete": _does("subscriptions.end", "Be told no more", {"204": {"description": "Ended."}}, body="Subscribed"),
}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_WHEN = {"type": "string", "format": "date-time"}
_RECIPIENT = _object(
    ("recipient", "state"),
    recipient=_TEXT,
    state={"enum": [*State]},
    shown={"enum": ["underway", "waiting", None]},
    attempts={"type": "integer"},
    number={"type": ["string", "null"]},
    reason={"type": ["string", "null"]},
    overdue={"type": "boolean"},
    late={"type": "integer"},
)
_STEP = _object(
    ("step", "at"),
    step=_TEXT,
    recipient={"type": ["string", "null"]},
    at=_WHEN,
    by={"type": ["string", "null"]},
    number={"type": ["string", "null"]},
    reason={"type": ["string", "null"]},
)
_SCHEMAS: Mapping[str, Any] = {
    "Taken": _object(
        ("document", "state", "receipt"),
        document=_TEXT,
        state={"enum": ["submitted", "held"]},
        reference=_TEXT,
        receipt={"type": "string", "description": "A JWS by the gateway's key."},
        recipients={"type": ["array", "integer"], "items": _TEXT, "description": "Of an event how many."},
    ),
    "Document": _object(
        ("document", "kind", "service", "sender", "submitted", "state"),
        document=_TEXT,
        kind={"enum": ["document", "event"]},
        service=_TEXT,
        sender=_TEXT,
        on_behalf={"type": ["string", "null"]},
        reference={"type": ["string", "null"]},
        submitted=_WHEN,
        state={"enum": [*State]},
        digest={"type": ["string", "null"], "description": "None of an event, for those who were told of it."},
        attachments={"type": "array", "items": {"type": "object"}, "description": "As Attachment."},
        summary={"type": "object"},
        recipients={"type": "array", "items": _RECIPIENT},
        history={"type": "array", "items": _STEP},
        receipts={"type": "array", "items": _TEXT},
    ),
    "Documents": _object(
        ("documents", "next"),
        documents={"type": "array", "items": {"type": "object"}},
        next={"type": ["string", "null"]},
    ),
    "Recall": _object((), recipient=_TEXT),
    "Inbox": _object(
        ("documents",),
        lease=_TEXT,
        seconds={"type": "number"},
        documents={"type": "array", "items": {"type": "object"}},
    ),
    "Kept": _object(("lease", "seconds"), lease=_TEXT, seconds={"type": "number"}),
    "Lease": _object(("lease",), lease=_TEXT),
    "Outcome": _object(
        ("outcome",),
        outcome={"enum": ["retrieved", "registered", "rejected", "forwarded"]},
        number=_TEXT,
        reason={"enum": sorted(BY_RECIPIENT)},
        text=_TEXT,
        unit=_TEXT,
        lease=_TEXT,
    ),
    "Answered": _object(
        ("document", "state"),
        document=_TEXT,
        state=_TEXT,
        receipt={"type": ["string", "null"]},
        kept={"type": "array", "items": _TEXT, "description": "Of a recall, who has it nevertheless."},
    ),
    "Approvals": _object(("approvals",), approvals={"type": "array", "items": {"type": "object"}}),
    "Decision": _object(("decision",), decision={"enum": ["approved", "declined"]}, reason=_TEXT),
    "Attachment": _object(
        ("attachment", "digest", "size", "media_type"),
        attachment=_TEXT,
        digest=_TEXT,
        size={"type": "integer"},
        media_type=_TEXT,
    ),
    "Subscription": _object(("publisher", "service", "purpose"), publisher=_TEXT, service=_TEXT, purpose=_TEXT),
    "Subscribed": _object(("publisher", "service"), publisher=_TEXT, service=_TEXT),
    "Subscriptions": _object(("subscriptions",), subscriptions={"type": "array", "items": ref("Subscription")}),
}
