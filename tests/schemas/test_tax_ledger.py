"""The finance ministry's adapter answers yes or no, and nothing else."""

import pytest

from adapters.finance.adapter import TaxLedger
from deploy.demo.people import RESIDENTS, identified, identifier
from gateway.adapter import Broken, NotFound, Request
from gateway.core.model import Catalogue, ServiceId

SERVICE = "tax.compliance_check.v1"


def _asked(number: str, *, scheme: str = "KH-DEMO", service: str = SERVICE) -> Request:
    body = {"identifier": {**identified(number), "scheme": scheme}}
    return Request("x-1", service, "saensuk.permits", "permit_application", "C-1", body, None, 2.0)


@pytest.mark.parametrize(("serial", "compliant"), [(90010001, True), (90010009, False)])
async def test_yes_and_no_fit_the_schema(catalogue: Catalogue, serial: int, compliant: bool) -> None:  # noqa: FBT001 - a case's value
    """The answer is what the schema says, with no amount in it."""
    answer = await TaxLedger().answer(_asked(identifier(serial)))
    assert isinstance(answer, dict)
    assert answer["compliant"] is compliant
    assert catalogue.services[ServiceId(SERVICE)].response.faults(answer) == ()


@pytest.mark.parametrize(("number", "scheme"), [("900100042", "KH-DEMO"), ("900100013", "TH-DEMO-TAX")])
async def test_who_has_no_account_is_not_found(number: str, scheme: str) -> None:
    """A child has no account, and another scheme's number is another person."""
    with pytest.raises(NotFound):
        await TaxLedger().answer(_asked(number, scheme=scheme))


async def test_another_service_is_not_answered() -> None:
    """A manifest that points another service at this class is told so."""
    with pytest.raises(Broken):
        await TaxLedger().answer(_asked(RESIDENTS[0].identifier, service="tax.arrears.v1"))
