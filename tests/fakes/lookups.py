"""A register that a district's systems ask for records, and a system that asks all the time and notes how long."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.fakes.district import DAYS, PURPOSE, SENDER, District
from tests.fakes.serving import pause

REGISTRY = "registry"
LOOK_UP = "registers.look_up.v1"
RECORD = {"n": 1}
BEAT = 0.02
"""Seconds between an answer and the next question."""
PATIENCE = 20.0
"""Seconds for an answer; then it counts as none."""
_SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}},
    "additionalProperties": False,
}


def found(district: District, url: str) -> None:
    """Add the register, whose system is at the address, and the agreement by which the sender asks it."""
    place = "schemas/registers/look_up.v1"
    described = {"service": LOOK_UP, "title": "Look up", "kind": "exchange", "effect": "read", "personal_data": False}
    district._write(f"{place}/service.yaml", described)
    for part in ("request", "response"):
        said: dict[str, Any] = {
            part: _SCHEMA,
            f"examples/{part}.plain.pass": RECORD,
            f"examples/{part}.empty.fail": {},
        }
        for name, value in said.items():
            path = district.folder / place / f"{name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(orjson.dumps(value))
    way = {"service": LOOK_UP, "protocol": "http", "url": url, "deadline": "10s"}
    district._agency(REGISTRY, {"endpoints": [way]})
    agreed = {"agreement": "DISTRICT-2", "title": "Look-ups", "parties": ["capital", REGISTRY], "valid": DAYS}
    grant = {"service": LOOK_UP, "provider": REGISTRY, "consumers": [SENDER], "purposes": [PURPOSE]}
    district._write("policies/DISTRICT-2.yaml", {**agreed, "grants": [grant]})


@dataclass(frozen=True, slots=True)
class Asked:
    """One question."""

    at: float
    seconds: float
    status: int | None


@dataclass(slots=True)
class Asker:
    """Asks for one record after the other."""

    session: aiohttp.ClientSession
    where: Callable[[], str]
    token: str
    asked: list[Asked] = field(default_factory=list)

    async def go_on(self) -> None:
        """Until cancelled."""
        while True:
            begun = time.perf_counter()
            status = await self._status()
            self.asked.append(Asked(begun, time.perf_counter() - begun, status))
            await pause(BEAT)

    async def _status(self) -> int | None:
        url, limit = f"{self.where()}/v1/exchange/{REGISTRY}/{LOOK_UP}", aiohttp.ClientTimeout(PATIENCE)
        headers = {"Authorization": f"Bearer {self.token}", "Exchange-Purpose": PURPOSE}
        try:
            async with self.session.post(url, json=RECORD, headers=headers, timeout=limit) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None


@dataclass(frozen=True, slots=True)
class Times:
    """How long some things took, in seconds."""

    count: int
    middle: float
    late: float
    """Of twenty, the second longest."""
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """There is at least one."""
        told = sorted(seconds)
        return cls(len(told), told[len(told) // 2], told[len(told) * 19 // 20], told[-1])

    def __str__(self) -> str:
        return f"{self.count} (p50 {self.middle * 1e3:.0f}, p95 {self.late * 1e3:.0f}, max {self.longest * 1e3:.0f} ms)"
