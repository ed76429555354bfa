"""The demonstration's pretend ministries say what the agreed schemas say, and misbehave where their table says so."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientTimeout

from deploy.demo import ministries as demo
from deploy.demo.people import DUPLICATES, RESIDENTS, Resident, body, identified
from deploy.demo.register import MAX_KEYS, Register
from gateway.core.model import Catalogue, ServiceId

KEY = (Path(demo.__file__).parent / "keys" / "secrets" / "interior.register").read_text()
ADDRESS = {"lines": ["House 5"], "country": "KH"}


def _response_fits(catalogue: Catalogue, service: str, value: Any) -> bool:
    return catalogue.services[ServiceId(service)].response.fits(value)


@pytest.fixture(name="urls")
async def _urls() -> AsyncIterator[dict[str, str]]:
    async with demo.ministries(Register()) as urls:
        yield dict(urls)


@pytest.fixture(name="http")
async def _http() -> AsyncIterator[ClientSession]:
    async with ClientSession(headers={"X-Api-Key": KEY}, timeout=ClientTimeout(total=30)) as session:
        yield session


@pytest.mark.parametrize("resident", RESIDENTS, ids=lambda each: each.identifier)
def test_every_record_fits(catalogue: Catalogue, resident: Resident) -> None:
    """Partial dates, paper records, merged duplicates and missing addresses are all legal answers."""
    record = body(resident)
    assert catalogue.services[ServiceId("population.person_lookup.v1")].response.faults(record) == ()


def test_the_people_are_as_various_as_a_register() -> None:
    """The synthetic people keep what makes real registers hard."""
    assert len(RESIDENTS) == len({each.identifier for each in RESIDENTS}) == 20
    assert {len(each.born) for each in RESIDENTS} == {4, 7, 10}
    assert any(each.paper for each in RESIDENTS)
    assert any(each.home is None for each in RESIDENTS)
    assert DUPLICATES


async def test_a_look_up_answers_the_record(catalogue: Catalogue, urls: dict[str, str], http: ClientSession) -> None:
    """The register answers over HTTP what the schema says, and the merged duplicate leads to the surviving record."""
    ((old, new),) = DUPLICATES.items()
    async with http.post(f"{urls['INTERIOR_URL']}/persons/lookup", json={"identifier": identified(old)}) as answer:
        found = await answer.json()
    assert found["identifier"]["value"] == new
    assert _response_fits(catalogue, "population.person_lookup.v1", found)


async def test_the_register_asks_for_its_key(urls: dict[str, str]) -> None:
    """The gateway's credential for the register is needed: a call without it is 401."""
    asked = {"identifier": identified(RESIDENTS[0].identifier)}
    async with ClientSession() as session, session.post(f"{urls['INTERIOR_URL']}/persons/lookup", json=asked) as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("number", "status"), [(demo.NONSENSE, 200), (demo.WRONG, 200), (demo.UNAVAILABLE, 503), (demo.REFUSED, 400)]
)
async def test_a_bad_day(urls: dict[str, str], http: ClientSession, number: str, status: int) -> None:
    """The identifiers of the table get the answer that the table says."""
    asked = {"identifier": identified(number)}
    async with http.post(f"{urls['INTERIOR_URL']}/persons/lookup", json=asked) as answer:
        assert answer.status == status


async def test_wrong_answers_carry_the_note(catalogue: Catalogue, urls: dict[str, str], http: ClientSession) -> None:
    """WRONG is JSON that breaks the schema and carries what must not leak."""
    asked = {"identifier": identified(demo.WRONG)}
    async with http.post(f"{urls['INTERIOR_URL']}/persons/lookup", json=asked) as answer:
        found = await answer.json()
    assert found["note"] == demo.NOTE
    assert not _response_fits(catalogue, "population.person_lookup.v1", found)


async def test_hanging_up_and_being_away_are_connection_errors(urls: dict[str, str], http: ClientSession) -> None:
    """CUT_OFF breaks the connection; at LAMPANG_URL nothing listens."""
    with pytest.raises(ClientConnectionError):
        await http.post(f"{urls['INTERIOR_URL']}/persons/lookup", json={"identifier": identified(demo.CUT_OFF)})
    with pytest.raises(ClientConnectionError):
        await http.get(f"{urls['LAMPANG_URL']}/offices")


async def test_slow_answers_come_after_every_deadline(urls: dict[str, str]) -> None:
    """SLOW keeps the caller waiting, and does not keep the ministries from stopping."""
    asked = {"identifier": identified(demo.SLOW)}
    async with ClientSession(headers={"X-Api-Key": KEY}, timeout=ClientTimeout(total=0.1)) as session:
        with pytest.raises(TimeoutError):
            await session.post(f"{urls['INTERIOR_URL']}/persons/lookup", json=asked)


async def test_the_directory_fits(catalogue: Catalogue, urls: dict[str, str], http: ClientSession) -> None:
    """The municipality's offices are what the directory's schema says, also where there are none."""
    for subdivision, count in (("TH-20", 2), ("TH-52", 0)):
        async with http.get(f"{urls['SAENSUK_URL']}/subdivisions/{subdivision}/offices") as answer:
            found = await answer.json()
        assert _response_fits(catalogue, "places.office_directory.v1", found)
        assert len(found["offices"]) == count


async def test_a_repeated_change_is_made_once(http: ClientSession) -> None:
    """The same key has one effect and one answer; the register counts both calls and one change."""
    register = Register(today=lambda: date(2026, 11, 21))
    change = {"person_no": RESIDENTS[11].identifier, "expected_version": 1, "new_address": ADDRESS}
    async with demo.ministries(register) as urls:
        url = f"{urls['INTERIOR_URL']}/registers/KH-DEMO/address-changes"
        for _ in range(2):
            async with http.post(url, json=change, headers={"Idempotency-Key": '"k-1"'}) as answer:
                assert await answer.json() == {"version": 2, "effective_date": "2026-11-21"}
    assert (register.calls["change_address"], register.changes) == (2, 1)


def test_a_key_belongs_to_one_change() -> None:
    """A used key with another change is refused, and a stale version too."""
    register = Register(today=lambda: date(2026, 11, 21))
    number = RESIDENTS[11].identifier
    register.change_address("k-1", number, 1, ADDRESS)
    assert register.change_address("k-1", number, 2, ADDRESS).status == 422
    assert register.change_address("k-2", number, 1, ADDRESS).status == 409
    assert register.changes == 1


def test_remembered_keys_are_bounded() -> None:
    """The register forgets the oldest key, so that a long demonstration does not grow."""
    register = Register(today=lambda: date(2026, 11, 21))
    for count in range(MAX_KEYS + 5):
        register.change_address(f"k-{count}", "000000000", 1, ADDRESS)
    assert len(register._done) == MAX_KEYS
