"""E9 and E10: tokens that were good a moment ago, and tokens that never were."""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from gateway.core.model import Standing
from tests.fakes.parties import LOOK_UP, PERSON, PURPOSE, TAX, Terms
from tests.fakes.town import Town, founded
from tests.faults.nodes import Node, asked, started
from tests.races.stage import code, two_nodes

FLOOD = 2.0
"""Seconds."""
FLOODERS = 200
"""Connections that send forged tokens as fast as they are answered."""


@pytest.mark.parametrize(
    ("terms", "refusal"),
    [
        (Terms(tax_office=Standing.REVOKED), "identity.revoked"),
        (Terms(tax_office=Standing.SUSPENDED), "policy.suspended"),
        (Terms(scopes=("population:write",)), "policy.scope"),
    ],
    ids=["revoked", "suspended", "scope"],
)
async def test_e09_a_verified_token_is_no_standing_permit(
    tmp_path: Path, url: str | None, terms: Terms, refusal: str
) -> None:
    """Both nodes have verified the token; each refuses it with its next catalogue (within 2 s: the reload's tests)."""
    async with two_nodes(tmp_path, url) as towns:
        token = towns[0].permit(TAX, "population:read")
        for town in towns:
            town._tokens[TAX, None] = token
            assert code(await town.call(TAX, LOOK_UP, PERSON)) == "200"
        for town in towns:
            town.agree(terms)
            assert code(await town.call(TAX, LOOK_UP, PERSON)) == refusal
            town.agree(Terms())
            assert code(await town.call(TAX, LOOK_UP, PERSON)) == "200"


async def test_e09_a_token_ends_with_the_key_by_which_it_was_got(tmp_path: Path, url: str | None) -> None:
    """A key that is taken out of the system's folder takes its tokens with it, verified or not."""
    async with two_nodes(tmp_path, url) as towns:
        token = towns[0].permit(TAX, "population:read")
        stranger = towns[0].keys["saensuk.front_desk"]
        for town in dict.fromkeys(towns):
            town._tokens[TAX, None] = token
            assert code(await town.call(TAX, LOOK_UP, PERSON)) == "200"
            town.keys = {**town.keys, TAX: stranger}
            town.agree(Terms())
            assert code(await town.call(TAX, LOOK_UP, PERSON)) == "identity.revoked"


async def flood(town: Town, node: Node, good: Callable[[], Awaitable[None]]) -> int:
    """Forged tokens from several connections while the good callers work: how many were refused."""
    forged = town.permit(TAX, "population:read")[:-8]
    refused, ended = 0, False

    async def flooder(number: int) -> None:
        nonlocal refused
        while not ended:
            refused += 1
            headers = {"Authorization": f"Bearer {forged}{number:01}{refused:07}", "Exchange-Purpose": PURPOSE}
            url = f"{node.public}/v1/exchange/interior/{LOOK_UP}"
            async with session.post(url, headers=headers) as answer:
                assert answer.status == 401

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        flooders = [asyncio.create_task(flooder(number)) for number in range(FLOODERS)]
        await good()
        ended = True
        await asyncio.gather(*flooders)
    return refused


async def test_e10_forged_tokens_are_one_entry_a_minute(tmp_path: Path, url: str | None) -> None:
    """Ninety at each node: its minute has one entry, with their number."""
    async with two_nodes(tmp_path, url) as towns:
        for town in dict.fromkeys(towns):
            forged = town.permit(TAX, "population:read")[:-8]
            for n in range(90):
                reply = await town.call(TAX, LOOK_UP, PERSON, authorization=f"Bearer {forged}{n:08}")
                assert code(reply) == "identity.invalid"
            await town.upkeep(minute=True)
        entries = towns[0].entries()
        minutes = [entry.facts["refusals"] for entry in entries if entry.facts["step"] == "unidentified"]
        assert minutes == [{"identity.invalid": 90}] * len(set(towns))
        assert len(entries) == 2 * len(minutes)  # a start, and that


@pytest.mark.quiet
async def test_e10_a_flood_of_forged_tokens_harms_nobody(
    tmp_path: Path, url: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """From two hundred connections: none has an entry, and a good call of that address takes as long as before."""
    async with founded(tmp_path, url) as town:
        async with started(town) as node:
            calm, stormy = [list[float](), list[float]()]

            async def good(took: list[float]) -> None:
                end = time.monotonic() + FLOOD
                while time.monotonic() < end:
                    begun = time.monotonic()
                    assert (await asked(town, node.public))[0] == 200
                    took.append(time.monotonic() - begun)

            await good(calm)
            refused = await flood(town, node, lambda: good(stormy))
            node.process.terminate()
        before = [entry.facts["step"] for entry in town.entries()]
        without, during = statistics.median(calm), statistics.median(stormy)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{refused / FLOOD:.0f} forged tokens a second; a good call takes {without * 1e3:.2f} ms without, "
                f"{during * 1e3:.2f} ms with them: {during / without:.1f} times as long\n"
            )
    assert before.count("answered") == len(calm) + len(stormy)
    assert len(before) <= len(calm) + len(stormy) + 3
    assert refused > FLOODERS
    assert during / without < 4
