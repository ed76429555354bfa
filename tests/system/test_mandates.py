"""One agency's system acts for another by its mandate: who is named, whose agreement counts, whose share is spent."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from gateway.core.model import AgencyId, Mandate, Rate, ServiceId
from tests.fakes.parties import CHANGE, LOOK_UP, PERSON, TAX, Terms
from tests.fakes.town import Town, opened

DESK = "saensuk.front_desk"
"""Its own agreement expired long ago."""


def mandate(until: int = 2199, *services: str) -> Mandate:
    names = frozenset(map(ServiceId, services or (LOOK_UP,)))
    return Mandate(AgencyId("finance"), AgencyId("saensuk"), names, date(2024, 1, 1), date(until, 12, 31))


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """Saensuk may act for the ministry of finance, whose quota is three calls a day."""
    async with opened(tmp_path, Terms(mandates=(mandate(),), quota=3)) as made:
        yield made


async def test_who_acts_for_another_uses_its_agreement(town: Town) -> None:
    """The answer is cut as for the ministry, and the entry names both."""
    reply = await town.call(DESK, LOOK_UP, PERSON, exchange_for="finance")
    assert reply.status == 200
    (entry,) = town.entries(reply.headers["Exchange-Id"])
    said = (entry.facts["consumer"], entry.facts["on_behalf"], entry.facts["agreement"])
    assert said == (DESK, "finance", "MOI-FIN-2024-014")


async def test_without_it_the_own_agreement_counts(town: Town) -> None:
    """A mandate is used where Exchange-For names it, and nowhere else."""
    assert (await town.call(DESK, LOOK_UP, PERSON)).body["code"] == "policy.expired"


@pytest.mark.parametrize(("agency", "service"), [("finance", CHANGE), ("lampang", LOOK_UP), ("nowhere", LOOK_UP)])
async def test_a_mandate_is_for_its_agency_and_services(town: Town, agency: str, service: str) -> None:
    """For another service or another agency there is none."""
    reply = await town.call(DESK, service, PERSON, exchange_for=agency, idempotency_key='"k"')
    assert (reply.status, reply.body["code"]) == (403, "identity.not_mandated")


async def test_a_mandate_ends(tmp_path: Path) -> None:
    """After its last day it is none."""
    async with opened(tmp_path, Terms(mandates=(mandate(2025),))) as town:
        reply = await town.call(DESK, LOOK_UP, PERSON, exchange_for="finance")
        assert reply.body["code"] == "identity.not_mandated"


async def test_each_has_its_own_quota(town: Town) -> None:
    """What the platform spends for the ministry is not the ministry's, and stands under both names."""
    mine = [(await town.call(TAX, LOOK_UP, PERSON)).status for _ in range(4)]
    acting = [(await town.call(DESK, LOOK_UP, PERSON, exchange_for="finance")).status for _ in range(4)]
    assert (mine, acting) == ([200, 200, 200, 429], [200, 200, 200, 429])
    names = {row[0] for row in town.rows("select consumer from quotas")}
    assert names == {TAX, f"{DESK} for finance"}


async def test_each_has_its_own_rate(tmp_path: Path) -> None:
    """A platform that is too fast for one agency keeps nobody else waiting."""
    async with opened(tmp_path, Terms(mandates=(mandate(),), rate=Rate(1, 60.0))) as town:
        acting = [(await town.call(DESK, LOOK_UP, PERSON, exchange_for="finance")).status for _ in range(2)]
        assert (acting, (await town.call(TAX, LOOK_UP, PERSON)).status) == ([200, 429], 200)
