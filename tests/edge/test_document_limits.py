"""Rates and quotas of documents: what a submission costs, to one recipient or to several, and what it does not."""

from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Rate
from tests.fakes.correspondents import Letters, way
from tests.fakes.post_office import opened


@pytest.mark.parametrize("letters", [Letters(rate=Rate(1, 3600.0)), Letters(quota=1)])
async def test_each_addressee_counts_for_rate_and_quota(tmp_path: Path, letters: Letters) -> None:
    """One document to two agencies spends what each agreement allows; the next to either is refused unread."""
    async with opened(tmp_path, letters) as town:
        assert (await town.send(to="/documents", exchange_to="sila,lampang")).status == 202
        replies = [await town.send(b"{", to=f"/documents/{each}") for each in ("sila", "lampang")]
        other = await town.send()
    assert [(reply.status, "Retry-After" in reply.headers) for reply in replies] == [(429, True)] * 2
    assert other.status == 202


@pytest.mark.parametrize("limit", [{"rate": Rate(1, 3600.0)}, {"quota": 1}])
async def test_a_refusal_costs_no_addressee_its_rate_or_quota(tmp_path: Path, limit: dict[str, Any]) -> None:
    """Refused for lampang, which is full or used up, a letter to three spends nothing of sila's and interior's."""
    full = Letters(ways={"lampang": (way("lampang", max_waiting=0),)}, **limit)
    three = {"to": "/documents", "exchange_to": "interior,sila,lampang"}
    async with opened(tmp_path, full) as town:
        refused = [await town.send(**three, idempotency_key="one") for _ in range(3)]
        town.changed(Letters(**limit))
        assert (await town.send(to="/documents/lampang")).status == 202
        refused += [await town.send(**three, idempotency_key="one") for _ in range(3)]
        both = await town.send(to="/documents", exchange_to="interior,sila")
    assert [each.status for each in refused] == [503, 503, 503, 429, 429, 429]
    assert both.status == 202


async def test_a_known_reference_spends_nothing(tmp_path: Path) -> None:
    """Whoever repeats a letter as told has the day's quota for others."""
    async with opened(tmp_path, Letters(quota=2)) as town:
        again = [await town.send(idempotency_key="OUT-1") for _ in range(4)]
        others = [await town.send() for _ in range(2)]
    assert {each.body["document"] for each in again} == {again[0].body["document"]}
    assert [each.status for each in (*again, *others)] == [202] * 5 + [429]
