"""The siren of Nang Lae Subdistrict Municipality: an alert sounds it once, an exercise does not."""

from collections import OrderedDict

from gateway.adapter import Adapter, Broken, Document

REMEMBERED = 1000
"""Alerts by id, the oldest forgotten first."""


class Siren(Adapter):
    """Stands for the controller on the town hall's roof."""

    def __init__(self) -> None:
        self.sounded = 0
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def take(self, document: Document) -> None:
        """Sound for an alert that is meant in earnest; the same id is the same alert."""
        if document.service != "disaster.alert.v1":
            raise Broken
        if document.id in self._seen:
            return
        self._seen[document.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if (document.body["status"], document.body["msgType"]) == ("Actual", "Alert"):
            self.sounded += 1
