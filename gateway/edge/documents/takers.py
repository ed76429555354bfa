"""The agencies' systems to which documents are handed over, one behind each way: connected, replaced, let go of."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias

import orjson

from gateway.catalogue.files import Files
from gateway.core.model import KAFKA, AgencyId, Catalogue, Way
from gateway.edge.kafka import Kafka, Prepared
from gateway.edge.providers import NotConnected
from gateway.edge.workshop import TAKERS, Workshop
from gateway.protocols.handover import Accepted, Handed, NotTaken, Taker
from gateway.protocols.protocol import Surroundings

Key: TypeAlias = tuple[AgencyId, str]
"""Recipient and the way's name."""


@dataclass(slots=True, eq=False)
class _Slot:
    """One way as it is used now, in this process."""

    way: Way
    taker: Taker
    seal: bytes
    """Of what it was connected with beside its options."""
    running: int = 0
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Ways:
    """What serves a catalogue's ways, ready to be adopted."""

    catalogue: Catalogue
    slots: Mapping[Key, _Slot] = field(repr=False)
    lacking: Mapping[Key, tuple[Way, bytes, str]]
    """What could not be connected, and why; it is as if these systems could not be reached."""
    kafka: Prepared


class Takers:
    """Hands over to agencies' systems."""

    def __init__(
        self, surroundings: Surroundings, workshop: Workshop[Way, Taker] | None = None, *, kafka: Kafka | None = None
    ) -> None:
        self._surroundings = replace(surroundings, kafka=kafka)
        self._kafka = kafka
        self._workshop = workshop or Workshop(TAKERS)
        self._slots: Mapping[Key, _Slot] = {}
        self._lacking: Mapping[Key, tuple[Way, bytes, str]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self, catalogue: Catalogue, files: Files, *, whole: bool = True) -> Ways:
        """Make ready what serves this catalogue's ways; unchanged ones stay.

        Raises NotConnected; but a way that is lacking already may be so unchanged, and where not ``whole``, any.
        """
        seals, kafka = files.seals(), await self._prepared(catalogue, files)
        slots: dict[Key, _Slot] = {}
        wanted: dict[Key, Way] = {}
        lacking: dict[Key, tuple[Way, bytes, str]] = {}
        for key, way in _handed_over(catalogue):
            old = self._slots.get(key)
            if way.protocol == KAFKA and kafka.wrong:
                lacking[key] = way, kafka.seal, kafka.wrong
            elif old is not None and old.seal == seals.get(key[0], b"") and _alike(old.way, way):
                slots[key] = old
            else:
                wanted[key] = way
        for key, made in (await self._workshop.made(wanted, replace(self._surroundings, files=files))).items():
            way, seal = wanted[key], seals.get(key[0], b"")
            if isinstance(made, str):
                lacking[key] = way, seal, made
            else:
                slots[key] = _Slot(way, made, seal)
        wrong = {key: each[2] for key, each in lacking.items() if whole and not self._lacked(key, each)}
        if wrong:
            for key in wanted.keys() & slots.keys():
                self._retire(slots[key])
            raise NotConnected(wrong)
        return Ways(catalogue, slots, lacking, kafka)

    def adopt(self, ways: Ways) -> None:
        """Hand over to these from now on; what is no longer used is closed when its last hand-over has ended."""
        for key, slot in ways.slots.items():
            slot.way = ways.catalogue.agencies[key[0]].deliveries[_place(ways.catalogue, key)]
        if self._kafka is not None:
            self._kafka.adopt(ways.kafka)
        before, self._slots, self._lacking = self._slots, ways.slots, ways.lacking
        for key, slot in before.items():
            if self._slots.get(key) is not slot:
                self._retire(slot)

    def discard(self, ways: Ways) -> None:
        """Let go of what was made for a catalogue that is not adopted."""
        for key, slot in ways.slots.items():
            if self._slots.get(key) is not slot:
                self._retire(slot)

    def lacking(self) -> Mapping[Key, str]:
        """Ways of the catalogue in use that are not connected, and why."""
        return {key: why for key, (_, _, why) in self._lacking.items()}

    async def hand_over(self, key: Key, handed: Handed) -> Accepted:
        """Raises NotTaken."""
        slot = self._slots.get(key)
        if slot is None:
            why = self._lacking[key][2] if key in self._lacking else "its folder names it no more"
            raise NotTaken(f"the way {key[1]} of {key[0]} is not connected: {why}", sent=False, whole=True)
        slot.running += 1
        try:
            return await slot.taker.take(handed)
        finally:
            slot.running -= 1
            self._close_unused(slot)

    def away(self, key: Key) -> bool:
        """It is known that nothing can be handed over now: nobody has to try, so as to find out that it can."""
        slot = self._slots.get(key)
        return slot is not None and slot.way.protocol == KAFKA and self._kafka is not None and self._kafka.away

    async def close(self) -> None:
        """Let go of every system, whatever runs."""
        slots, self._slots = self._slots, {}
        await asyncio.gather(*self._closing, *(slot.taker.close() for slot in slots.values()))

    async def _prepared(self, catalogue: Catalogue, files: Files) -> Prepared:
        return Prepared() if self._kafka is None else await self._kafka.prepared(catalogue, files)

    def _lacked(self, key: Key, now: tuple[Way, bytes, str]) -> bool:
        before = self._lacking.get(key)
        return before is not None and before[1] == now[1] and _alike(before[0], now[0])

    def _retire(self, slot: _Slot) -> None:
        slot.retired = True
        self._close_unused(slot)

    def _close_unused(self, slot: _Slot) -> None:
        if slot.retired and not slot.running:
            task = asyncio.get_running_loop().create_task(slot.taker.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def mark(way: Way) -> str:
    """What tells that somebody has changed where and how a way hands over, the same in every process."""
    told = orjson.dumps([way.protocol, dict(way.options)], option=orjson.OPT_SORT_KEYS, default=str)
    return sha256(told).hexdigest()[:16]


def _handed_over(catalogue: Catalogue) -> Iterable[tuple[Key, Way]]:
    for agency in catalogue.agencies.values():
        for way in agency.deliveries:
            if not way.pulled:
                yield (agency.id, way.name), way


def _place(catalogue: Catalogue, key: Key) -> int:
    return next(n for n, way in enumerate(catalogue.agencies[key[0]].deliveries) if way.name == key[1])


def _alike(one: Way, other: Way) -> bool:
    """Whether both hand over in the same way."""
    return (one.protocol, one.options) == (other.protocol, other.options)
