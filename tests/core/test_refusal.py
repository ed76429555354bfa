"""The one table of refusals and faults, held to the design's."""

import re

import pytest

from gateway.core.exchange import Next
from gateway.core.refusal import TABLE, Contact, Refusal, ShapeFault

DESIGN = {
    400: "request.malformed idempotency.key_missing",
    401: "identity.missing identity.invalid identity.expired identity.revoked",
    403: "policy.no_agreement policy.expired policy.suspended policy.purpose policy.scope policy.obligation "
    "identity.not_mandated approval.same_person approval.role",
    404: "catalogue.unknown provider.not_found document.unknown attachment.unknown",
    405: "request.method",
    409: "idempotency.running idempotency.outcome_unknown document.may_have_arrived document.ended document.state "
    "document.lease approval.decided subscription.not_possible",
    413: "request.too_large",
    415: "request.media_type attachment.media_type",
    416: "attachment.range",
    422: "shape.request idempotency.reused attachment.digest attachment.not_accepted",
    429: "policy.rate policy.quota",
    500: "gateway.broken",
    502: "provider.refused provider.broken provider.wrong_answer",
    503: "provider.unavailable provider.maintenance gateway.overloaded journal.unavailable identity.unavailable "
    "recipient.full attachment.unavailable",
    504: "provider.timeout",
}
"""DESIGN section 5, with a wrong method (405), the gateway's own failure (500), keys that cannot be fetched, and what
documents, approvals and attachments need beside (DESIGN section 6)."""

each = pytest.mark.parametrize("code", TABLE)


def test_the_codes_are_stable() -> None:
    """A code and its status are a promise: the table holds these and no others."""
    assert {code: kind.status for code, kind in TABLE.items()} == {
        code: status for status, codes in DESIGN.items() for code in codes.split()
    }


@each
def test_a_row_tells_a_person_what_to_do(code: str) -> None:
    """A title without a full stop, a remedy of whole sentences, and a code of two words."""
    kind = TABLE[code]
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", code)
    assert re.fullmatch(r"[A-Z][^.]+", kind.title)
    assert re.fullmatch(r"[A-Z].+\.", kind.remedy)
    assert kind.contact is None or kind.contact in Contact


def test_titles_tell_codes_apart() -> None:
    """Two codes never look the same to a reader."""
    assert len({kind.title for kind in TABLE.values()}) == len(TABLE)
    assert len({kind.remedy for kind in TABLE.values()}) >= len(TABLE) - 3


@each
def test_what_passes_says_when_to_come_back(code: str) -> None:
    """Retry-After goes with 429, with 503, and with a first call that still runs; with nothing else."""
    assert TABLE[code].retry is (TABLE[code].status in (429, 503) or code == "idempotency.running")


def test_a_refusal_carries_its_row() -> None:
    """The exception has the code, the row, the sentence and what helps; its faults cannot be changed."""
    faults = [ShapeFault("/a", "must be string")]
    refusal = Refusal("shape.request", "It does not fit.", errors=faults, retry_after=2.5, agency="interior")
    faults.clear()
    assert (refusal.code, refusal.kind, refusal.detail) == ("shape.request", TABLE["shape.request"], "It does not fit.")
    assert refusal.errors == (ShapeFault("/a", "must be string"),)
    assert (refusal.retry_after, refusal.agency) == (2.5, "interior")


def test_a_code_that_is_not_in_the_table_is_a_mistake() -> None:
    """Nothing is refused with a code that no page explains."""
    with pytest.raises(KeyError):
        Refusal("policy.unheard_of", "No.")


def test_what_a_used_key_gets_stands_in_the_table() -> None:
    """Each refusal that a second caller with an idempotency key can get has its row."""
    assert {str(each_) for each_ in Next} - TABLE.keys() == {"replay", "again"}
