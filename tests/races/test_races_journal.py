"""E11 and E12: bytes that a database does not take, and nodes that know different catalogues.

E12 is about the second decision on a document, which there is not yet: that a refusal at its delivery is final only on
a catalogue at least as new as the one it was submitted under. What it rests on is proved here: every entry names the
catalogue that decided (that a reload is journaled: tests/system/test_reload).
"""

import asyncio
import time
from pathlib import Path

import pytest

from tests.fakes import idp
from tests.fakes.parties import ISSUER, LOOK_UP, PERSON, TAX, Terms
from tests.fakes.town import Reply, Town
from tests.races.stage import code, two_nodes, write

STRANGE = {"nul": "\\u0000", "lone surrogate": "\\ud800"}


async def with_token(town: Town, jti: str) -> Reply:
    """The token endpoint's answer to an assertion with that id."""
    now = time.time()
    said = idp.assertion_claims(TAX, aud=ISSUER, jti=jti, iat=now, exp=now + 60)
    raw = (
        "grant_type=client_credentials&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        f"&client_assertion={town.keys[TAX].sign(said)}"
    ).encode()
    return await town.ask("POST", "/oauth/token", {"Content-Type": "application/x-www-form-urlencoded"}, raw)


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
async def test_e11_strange_text_spoils_nobodys_batch(tmp_path: Path, url: str | None, strange: str) -> None:
    """One write's field has it, thirty others share its batches: they are answered, and no number is missing."""
    async with two_nodes(tmp_path, url) as (town, _):
        await town.token(TAX)
        raw = b'{"identifier": "KH-90010001", "city": "a%s"}' % strange.encode()
        works = [write(town, f"k{n}") for n in range(15)]
        reads = [town.call(TAX, LOOK_UP, PERSON) for _ in range(15)]
        replies = await asyncio.gather(*works, write(town, "odd", raw), *reads)
        odd = replies.pop(15)
        assert {reply.status for reply in replies} == {200}
        assert code(odd) in {"200", "request.malformed", "shape.request"}
        assert (odd.headers["Exchange-Entry"] != "", town.faults()) == (True, ())


async def test_e11_an_assertion_with_nul_is_refused_alone(tmp_path: Path, url: str | None) -> None:
    """Its id would be a row, and PostgreSQL takes no NUL: it is no id, and the writes beside it go through."""
    async with two_nodes(tmp_path, url) as (town, _):
        await town.token(TAX)
        token, *replies = await asyncio.gather(with_token(town, "a\0b"), *(write(town, f"k{n}") for n in range(30)))
        assert (token.status, {reply.status for reply in replies}, town.faults()) == (401, {200}, ())


async def test_e12_every_entry_names_the_catalogue_that_decided(tmp_path: Path, shared: str) -> None:
    """Two nodes with different catalogues: each entry has the digest of its own, and the start the whole of it."""
    async with two_nodes(tmp_path, shared) as (here, there):
        there.agree(Terms(), digest="1" * 64)
        replies = [await town.call(TAX, LOOK_UP, PERSON) for town in (here, there)]
        replies += [await write(town, f"at {n}") for n, town in enumerate((here, there))]
        names = [{e.facts["catalogue"] for e in here.entries(reply.headers["Exchange-Id"])} for reply in replies]
        assert names == [{"0" * 16}, {"1" * 16}] * 2
        starts = [entry.facts for entry in here.entries() if entry.facts.get("what") == "start"]
        assert [start["catalogue"] for start in starts] == ["0" * 64] * 2
