"""The pretend finance ministry's own adapter."""

from gateway.adapter import Adapter, Request


class Ledger(Adapter):
    async def answer(self, request: Request) -> object:
        return {"number": f"R-{request.body['account']}"}
