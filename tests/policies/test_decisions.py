"""Every decision test of the repository holds, read here without the catalogue's own checker."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.catalogue.decisions import lifted
from gateway.core import policy
from gateway.core.model import AgencyId, Catalogue, Obligation, ServiceId, SystemId

POLICIES = Path(__file__).parents[2] / "policies"
AGREEMENTS = sorted(path.stem for path in POLICIES.glob("*.yaml") if not path.stem.endswith(".decisions"))
CODES = {
    "policy.no_agreement",
    "policy.expired",
    "policy.suspended",
    "policy.purpose",
    "policy.scope",
    "policy.obligation",
    "identity.not_mandated",
}

Case = Mapping[str, Any]


def _cases(agreement: str) -> list[Case]:
    found: list[Case] = YAML(typ="safe", pure=True).load(POLICIES / f"{agreement}.decisions.yaml")
    return found


CASES = [
    pytest.param(case, id=f"{agreement}-{number}")
    for agreement in AGREEMENTS
    for number, case in enumerate(_cases(agreement), start=1)
]


def _decision(catalogue: Catalogue, case: Case) -> policy.Decision:
    if case.get("code") != "policy.suspended":  # a line that does not speak of a suspension sees none
        catalogue = lifted(catalogue)
    at = case["at"]
    if not isinstance(at, datetime):
        assert isinstance(at, date)
        at = datetime.combine(at, time(12), catalogue.zone)
    facts = policy.Facts(
        SystemId(case["client"]),
        AgencyId(case["provider"]),
        ServiceId(case["service"]),
        case["purpose"],
        frozenset({case["scope"]} if case["scope"] else ()),
        at if at.tzinfo else at.replace(tzinfo=UTC),
        frozenset(Obligation) - {Obligation(name) for name in case.get("without", ())},
        AgencyId(case["on_behalf"]) if "on_behalf" in case else None,
    )
    return policy.decide(catalogue, facts)


@pytest.mark.parametrize("case", CASES)
def test_the_decision_is_the_one_that_people_wrote_down(catalogue: Catalogue, case: Case) -> None:
    """The verdict and the code of each line come out of the policy."""
    decision = _decision(catalogue, case)
    assert ("permit" if decision.permitted else "refuse") == case["verdict"]
    assert decision.code == case.get("code")


def test_every_code_of_the_policy_has_a_case() -> None:
    """Each way in which an agreement refuses is shown by at least one line, and so is a permit."""
    codes = Counter(case.get("code") for agreement in AGREEMENTS for case in _cases(agreement))
    assert set(codes) == CODES | {None}


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_each_agreement_has_decision_tests(agreement: str) -> None:
    """No agreement stands without lines that say what it means."""
    assert _cases(agreement)


def test_every_line_names_what_exists(catalogue: Catalogue) -> None:
    """A refusal for want of an agreement is not one for want of a system: no line rests on a misspelt name."""
    for case in (case for agreement in AGREEMENTS for case in _cases(agreement)):
        assert case["client"] in catalogue.systems
        assert case["provider"] in catalogue.agencies
        assert case["service"] in catalogue.services
        assert case["purpose"] in catalogue.purposes
