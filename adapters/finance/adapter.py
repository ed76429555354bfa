"""The tax ledger of the Ministry of Economy and Finance: one question, answered with yes or no."""

import json
from pathlib import Path

from gateway.adapter import Adapter, Broken, NotFound, Request

LEDGER = Path(__file__).with_name("ledger.json")


class TaxLedger(Adapter):
    """Reads the ledger's daily extract; nothing but the yes or the no leaves this class."""

    def __init__(self) -> None:
        extract = json.loads(LEDGER.read_text(encoding="utf-8"))
        self._as_of: str = extract["as_of"]
        self._scheme: str = extract["scheme"]
        self._accounts: dict[str, dict[str, object]] = extract["accounts"]

    async def answer(self, request: Request) -> object:
        """Whether the person owes nothing that is due. Raises NotFound where the ledger has no account."""
        if request.service != "tax.compliance_check.v1":
            raise Broken
        identifier = request.body["identifier"]
        account = self._accounts.get(identifier["value"])
        if identifier["scheme"] != self._scheme or account is None:
            raise NotFound
        return {
            "compliant": account["arrears"] == 0,
            "as_of": self._as_of,
            "certificate": account["certificate"],
        }
