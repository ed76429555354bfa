"""Every way in which the gateway says no or reports a failure: one table, stable codes.

The reference page ``docs/reference/refusals.md`` is generated from it, and RFC 9457 problem documents are filled
from it. A refusal says that the caller must change something; a fault says that a provider or the gateway failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Contact(StrEnum):
    """Whom to ask: a role in the ``contacts`` of an agency's folder."""

    TECHNICAL = "technical"
    SECURITY = "security"
    DATA_PROTECTION = "data_protection"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    status: int
    title: str
    remedy: str
    contact: Contact | None = None
    retry: bool = False
    """The same call may succeed later: a ``Retry-After`` goes with it."""


@dataclass(frozen=True, slots=True)
class ShapeFault:
    """One place where a body does not fit its schema; never with the value that stands there."""

    pointer: str
    """A JSON Pointer (RFC 6901) into the body."""
    detail: str


class Refusal(Exception):
    """The gateway says no, or reports a fault, with a code of the table below."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[ShapeFault] = (),
        retry_after: float | None = None,
        agency: str | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.kind = TABLE[code]
        self.detail = detail
        """One sentence for a person, free of values from the body."""
        self.errors = tuple(errors)
        self.retry_after = retry_after
        """Seconds."""
        self.agency = agency
        """The agency whose contact can help."""


TABLE: Mapping[str, Kind] = {
    "request.malformed": Kind(
        400,
        "The request is malformed",
        "Correct the header or the body that the detail names and send it again.",
    ),
    "idempotency.key_missing": Kind(
        400,
        "A write needs an idempotency key",
        "Send an Idempotency-Key header: a fresh UUID for each new write, the same one for each retry of it.",
    ),
    "identity.missing": Kind(
        401,
        "No token was sent",
        "Get an access token at POST /oauth/token and send it as Authorization: Bearer.",
    ),
    "identity.invalid": Kind(
        401,
        "The token or assertion is not accepted",
        "Get a new access token at POST /oauth/token with a key that your agency's folder lists.",
        Contact.TECHNICAL,
    ),
    "identity.expired": Kind(401, "The token has expired", "Get a new access token at POST /oauth/token."),
    "identity.revoked": Kind(
        401,
        "The system or its key was revoked",
        "Ask the security contact of your own agency why the system or its key was revoked.",
        Contact.SECURITY,
    ),
    "identity.unavailable": Kind(
        503,
        "Nobody can be identified by that signer now",
        "Retry after the time given; if it stays, ask whoever issued the token: its published keys cannot be fetched.",
        Contact.OPERATOR,
        retry=True,
    ),
    "policy.no_agreement": Kind(
        403,
        "No agreement covers this call",
        "Ask the data protection contact of the provider for an agreement that names your system and this service.",
        Contact.DATA_PROTECTION,
    ),
    "policy.expired": Kind(
        403,
        "The agreement is not in force",
        "Ask the data protection contact of the provider to renew the agreement that the detail names.",
        Contact.DATA_PROTECTION,
    ),
    "policy.suspended": Kind(
        403,
        "The service is suspended for you",
        "Ask the contact that this problem names; whoever suspended it must lift it.",
        Contact.DATA_PROTECTION,
    ),
    "policy.purpose": Kind(
        403,
        "The purpose is not covered",
        "Send the Exchange-Purpose for which the agreement was made, or have another purpose added to it.",
        Contact.DATA_PROTECTION,
    ),
    "policy.scope": Kind(
        403,
        "The token lacks a scope",
        "Request a token with the scope that the detail names.",
        Contact.TECHNICAL,
    ),
    "policy.obligation": Kind(
        403,
        "The agreement asks for more with each call",
        "Send the header that the detail names.",
        Contact.TECHNICAL,
    ),
    "identity.not_mandated": Kind(
        403,
        "Your agency may not act for the other one",
        "Leave Exchange-For out, or have a mandate registered in the other agency's folder.",
        Contact.DATA_PROTECTION,
    ),
    "catalogue.unknown": Kind(
        404,
        "There is no such service here",
        "Look the agency and the service up at GET /v1/catalogue; a restricted service shows only to its partners.",
    ),
    "provider.not_found": Kind(
        404,
        "The provider has no such record",
        "Check the identifiers that you sent; the provider looked and found none.",
    ),
    "request.method": Kind(405, "The address takes another method", "Use the method that the detail names."),
    "idempotency.running": Kind(
        409, "The first call with this key still runs", "Wait and send the same call again.", retry=True
    ),
    "idempotency.outcome_unknown": Kind(
        409,
        "The first call may have taken effect",
        "Ask the provider's technical contact whether it did, quoting the first exchange; then use a new key.",
        Contact.TECHNICAL,
    ),
    "document.unknown": Kind(
        404,
        "There is no such document for you",
        "Check the id; a document shows to its sender and, once it has arrived, to its recipients.",
    ),
    "document.may_have_arrived": Kind(
        409,
        "The document can no longer be recalled",
        "Ask the recipient to reject it: it has arrived, or may have.",
        Contact.TECHNICAL,
    ),
    "document.ended": Kind(
        409,
        "The document's life has ended otherwise",
        "Look at GET /v1/documents/{id}; what you said is kept in the journal as disputed, and the sender is told.",
        Contact.TECHNICAL,
    ),
    "document.state": Kind(
        409,
        "The document does not stand so that this could be done",
        "Look at GET /v1/documents/{id} for where it stands.",
    ),
    "document.lease": Kind(
        409,
        "The document is not in your hands any more",
        "Fetch the inbox again: another reader may have the document now.",
    ),
    "approval.same_person": Kind(
        403,
        "Who asks cannot approve",
        "Have another person decide: requester and approver are compared as persons.",
    ),
    "approval.role": Kind(
        403,
        "Your post may not approve this",
        "Have somebody decide whose assertion names the post that the agreement asks for.",
    ),
    "approval.decided": Kind(
        409, "It has been decided already", "Look at GET /v1/documents/{id} for what was decided."
    ),
    "subscription.not_possible": Kind(
        409,
        "It cannot be subscribed to, or ended, so",
        "Do what the detail says: what a folder subscribes to is changed there, and deliveries names the ways.",
    ),
    "attachment.unknown": Kind(
        404,
        "There is no such attachment for you",
        "Upload the file first; only an agency that uploaded or received a file may refer to it.",
    ),
    "attachment.digest": Kind(
        422,
        "The file is not the one that was announced",
        "Send the file again with the Content-Digest of exactly its bytes.",
    ),
    "attachment.media_type": Kind(
        415,
        "The file is not what it is declared as",
        "Send the file with the Content-Type that it really has, not compressed.",
    ),
    "attachment.not_accepted": Kind(
        422,
        "The service does not take these attachments",
        "Look at attachments of the service in GET /v1/catalogue for types, sizes and number.",
    ),
    "attachment.range": Kind(
        416, "The file has no such range", "Ask for a range within the size that HEAD or the upload told you."
    ),
    "attachment.unavailable": Kind(
        503, "Files cannot be stored or read now", "Retry after the time given.", Contact.OPERATOR, retry=True
    ),
    "request.too_large": Kind(413, "The body is too large", "Send a body within the limit that the detail names."),
    "request.media_type": Kind(
        415, "The media type is not accepted", "Send application/json in UTF-8, not compressed."
    ),
    "shape.request": Kind(
        422,
        "The body does not fit the service's schema",
        "Correct what each entry of errors points to; the schema stands in /openapi.json.",
    ),
    "idempotency.reused": Kind(
        422,
        "The idempotency key was used for another call",
        "Use a fresh key: this one belongs to a call with another target, purpose, case or body.",
    ),
    "policy.rate": Kind(429, "Too many calls at once", "Slow down to the rate of the agreement and retry.", retry=True),
    "policy.quota": Kind(
        429,
        "The day's quota is used up",
        "Go on tomorrow, or ask the provider for a larger quota in the agreement.",
        Contact.DATA_PROTECTION,
        retry=True,
    ),
    "provider.refused": Kind(
        502,
        "The provider refused the call",
        "Ask the provider's technical contact, quoting the exchange: its system did not accept what the gateway sent.",
        Contact.TECHNICAL,
    ),
    "provider.broken": Kind(
        502,
        "The provider's system failed",
        "Retry later; if it stays, ask the provider's technical contact, quoting the exchange.",
        Contact.TECHNICAL,
    ),
    "provider.wrong_answer": Kind(
        502,
        "The provider's answer was wrong and was withheld",
        "Ask the provider's technical contact, quoting the exchange: its answer does not fit the agreed schema.",
        Contact.TECHNICAL,
    ),
    "provider.unavailable": Kind(
        503, "The provider cannot be reached", "Retry after the time given.", Contact.TECHNICAL, retry=True
    ),
    "recipient.full": Kind(
        503,
        "Too much waits for the recipient",
        "Retry after the time given, with the same Idempotency-Key: the recipient's system is down or slow.",
        Contact.TECHNICAL,
        retry=True,
    ),
    "provider.maintenance": Kind(
        503, "The provider is in maintenance", "Retry after the time given.", Contact.TECHNICAL, retry=True
    ),
    "gateway.overloaded": Kind(503, "The gateway is busy", "Retry after the time given.", Contact.OPERATOR, retry=True),
    "journal.unavailable": Kind(
        503,
        "The gateway cannot write its journal",
        "Retry after the time given: nothing leaves the gateway that it cannot write down.",
        Contact.OPERATOR,
        retry=True,
    ),
    "gateway.broken": Kind(
        500,
        "The gateway failed",
        "Retry later, and give the operator the exchange id.",
        Contact.OPERATOR,
    ),
    "provider.timeout": Kind(
        504,
        "The provider did not answer in time",
        "Retry a read; a write may have taken effect, so repeat it only with the same Idempotency-Key.",
        Contact.TECHNICAL,
    ),
}
