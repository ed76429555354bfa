"""The pretend population register: records with versions, and writes that take effect once for each key."""

import copy
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from deploy.demo.people import DUPLICATES, RESIDENTS, SCHEME, body

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
        """Requests that arrived, by what they asked: look_up, change_address … The web service counts them."""
        self.changes = 0
        """Addresses that were really changed."""
        self.corrections = 0
        """Corrections that were really made."""
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
        return self._once(
            key, [number, seen, address], lambda: self._change(DUPLICATES.get(number, number), seen, address)
        )

    def correct(self, key: str | None, asked: Mapping[str, Any]) -> Outcome:
        """Make the changes of a correction, all or none: version and every old value must still be so."""
        return self._once(key, asked, lambda: self._correct(asked))

    def _once(self, key: str | None, asked: object, act: Callable[[], Outcome]) -> Outcome:
        text = json.dumps(asked, sort_keys=True)
        if key is not None and key in self._done:
            before, outcome = self._done[key]
            return outcome if before == text else Outcome(422, {"error": "the key was used for another change"})
        outcome = act()
        if key is not None:
            self._done[key] = (text, outcome)
            if len(self._done) > MAX_KEYS:
                self._done.popitem(last=False)
        return outcome

    def _correct(self, asked: Mapping[str, Any]) -> Outcome:
        number = asked["recordId"]["value"]
        record = self._records.get(DUPLICATES.get(number, number))
        if record is None or asked["recordId"]["scheme"] != SCHEME:
            return Outcome(422, {"error": "no such record"})
        if asked["recordVersion"] != record["record"]["version"]:
            return Outcome(409, {"error": "the record has a newer version"})
        corrected = copy.deepcopy(record)
        for change in asked["changes"]:
            *way, last = change["path"].removeprefix("/").split("/")
            home = corrected
            for name in way:
                home = home.get(name, {})
            if home.get(last) != change["oldValue"]:
                return Outcome(409, {"error": "an old value is not what stands in the record"})
            if change["newValue"] is None:
                home.pop(last, None)
            else:
                home[last] = change["newValue"]
        corrected["record"]["version"] += 1
        self._records[corrected["identifier"]["value"]] = corrected
        self.corrections += 1
        return Outcome(200, {"correction_number": f"C-2026-{self.corrections:04d}"})

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
