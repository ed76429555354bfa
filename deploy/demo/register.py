"""The pretend population register: records with versions, and writes that take effect once for each key."""

import json
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from deploy.demo.people import DUPLICATES, RESIDENTS, body

MAX_KEYS = 1000
"""Idempotency keys remembered; the oldest is forgotten first."""


def _today() -> date:
    return datetime.now(ZoneInfo("Asia/Phnom_Penh")).date()


@dataclass(frozen=True, slots=True)
class Outcome:
    """An HTTP status and a body."""

    status: int
    body: dict[str, Any]


class Register:
    """Everything that the register knows and did; the story reads ``calls`` and ``changes``."""

    def __init__(self, today: Callable[[], date] = _today) -> None:
        self.calls: Counter[str] = Counter()
        """Requests that arrived, by what they asked: look_up, change_address, reach. The web service counts them."""
        self.changes = 0
        """Addresses that were really changed."""
        self._today = today
        self._records = {resident.identifier: body(resident) for resident in RESIDENTS if not resident.protected}
        self._protected = {resident.identifier: resident for resident in RESIDENTS if resident.protected}
        self._done: OrderedDict[str, tuple[str, Outcome]] = OrderedDict()

    def look_up(self, number: str) -> Outcome:
        """The record; the identifier of a merged duplicate leads to the record that replaced it."""
        record = self._records.get(DUPLICATES.get(number, number))
        return Outcome(200, record) if record else Outcome(404, {"error": "no such record"})

    def reach(self, number: str) -> Outcome:
        """Through which office a protected person is reached."""
        resident = self._protected.get(number)
        if resident is None:
            return Outcome(404, {"error": "no such record"})
        found: dict[str, Any] = {
            "identifier": body(resident)["identifier"],
            "reached_through": {"office": "Office for Protected Records", "file": "PR-2024-017"},
        }
        return Outcome(200, found)

    def change_address(self, key: str | None, number: str, seen: int, address: dict[str, Any]) -> Outcome:
        """Record a new address if ``seen`` is still the record's version; the same key has one effect."""
        asked = json.dumps([number, seen, address], sort_keys=True)
        if key is not None and key in self._done:
            before, outcome = self._done[key]
            return outcome if before == asked else Outcome(422, {"error": "the key was used for another change"})
        outcome = self._change(DUPLICATES.get(number, number), seen, address)
        if key is not None:
            self._done[key] = (asked, outcome)
            if len(self._done) > MAX_KEYS:
                self._done.popitem(last=False)
        return outcome

    def _change(self, number: str, seen: int, address: dict[str, Any]) -> Outcome:
        record = self._records.get(number)
        if record is None:
            return Outcome(404, {"error": "no such record"})
        version = record["record"]["version"]
        if seen != version:
            return Outcome(409, {"error": "the record has a newer version"})
        self._records[number] = {**record, "address": address, "record": {**record["record"], "version": version + 1}}
        self.changes += 1
        return Outcome(200, {"version": version + 1, "effective_date": self._today().isoformat()})
