"""Where a document stands, asked in every way there is: to everybody the same."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.core.entry import facts_of
from gateway.edge import archive
from gateway.edge.archive import Place
from tests.fakes.senders import Desk

ENDS = frozenset({"registered", "rejected", "declined", "recalled", "expired", "undeliverable"})
BESIDE = frozenset({"leased", "shown", "refused", "repeated"})
"""Entries about reading and asking, which are no steps of a document."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What one read says."""

    state: str
    steps: tuple[str, ...]
    receipts: tuple[str, ...]
    """The states that they attest."""

    @property
    def sound(self) -> bool:
        """It ends once at most, as it is said to stand; each state has one receipt, in the same order."""
        states = [each for each in self.steps if each != "disputed"]
        ends = [each for each in states if each in ENDS]
        told = tuple(each for each in self.receipts if each in states)
        return states[-1:] == [self.state] and len(ends) <= 1 and told == tuple(states)


def attested(receipt: str) -> dict[str, Any]:
    """What a receipt claims."""
    payload = receipt.split(".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


async def told(reader: Desk, document: str, url: str) -> Truth:
    """By one gateway, to one system."""
    reply = await reader.call("GET", f"/v1/documents/{document}", url=url)
    assert reply.status == 200, reply
    (at,) = reply.body["recipients"]
    assert at["state"] == reply.body["state"], reply.body
    steps = tuple(each["step"] for each in reply.body["history"])
    return Truth(at["state"], steps, tuple(attested(each)["state"] for each in reply.body["receipts"]))


async def one_truth(document: str, readers: Sequence[Desk], urls: Sequence[str]) -> Truth:
    """The same to all, from all, and sound."""
    said = {await told(reader, document, url) for reader in readers for url in urls}
    assert len(said) == 1, said
    (truth,) = said
    assert truth.sound, truth
    return truth


def journaled(database: str) -> dict[str, tuple[str, ...]]:
    """The steps of each document as the journal has them, in its order."""
    place: Place = Path(database.removeprefix("sqlite:///")) if database.startswith("sqlite") else database
    found: dict[str, list[tuple[str, str]]] = {}
    for kept in archive.entries(place):
        facts = facts_of(kept.entry) or {}
        if facts.get("document") and facts["step"] not in BESIDE:
            found.setdefault(facts["document"], []).append((facts["at"], facts["step"]))
    return {
        document: tuple(step for _, step in sorted(each, key=lambda one: one[0])) for document, each in found.items()
    }
