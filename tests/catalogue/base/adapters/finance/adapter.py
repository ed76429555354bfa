from gateway.adapter import Adapter, Request


class Ledger(Adapter):
    async def answer(self, request: Request) -> object:
        return {"number": "R-1"}
