"""A client is answered by what is no gateway, or a hostile one: one clear error, whatever was asked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.client import BadReceipt, GatewayClient, Pace, Unreachable, verify_receipt
from tests.fakes.gateway_double import GatewayDouble, private_key

ID = "01a2018d-199f-744a-a9f7-79005e4d0f41"
HELD = {"document": ID, "state": "arrived", "reference": "r-1"}


@dataclass(slots=True)
class Stranger(GatewayDouble):
    """It gives tokens, and to everything else one answer."""

    said: Any = None

    def more(self, app: web.Application) -> None:
        app.router.add_route("*", "/{any:.*}", self._says)

    async def _says(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self.said)


@pytest.fixture
async def stranger() -> AsyncIterator[tuple[Stranger, GatewayClient]]:
    """It, and a client of it."""
    private = private_key()
    double = Stranger({name: value for name, value in private.items() if name not in ("d", "instance")})
    async with double, GatewayClient(double.url, client_id="a.b", key=private, pace=Pace(attempts=1)) as client:
        yield double, client


async def listened(client: GatewayClient) -> None:
    async for _ in client.inbox(wait=0, forever=False):
        pass


def uploaded(client: GatewayClient) -> Awaitable[object]:
    return client.upload(Path(__file__), media_type="text/plain")


CALLS: Mapping[str, Callable[[GatewayClient], Awaitable[object]]] = {
    "send": lambda client: client.send("interior", "a.letter.v1", {}, purpose="p", reference="r-1"),
    "document": lambda client: client.document(ID),
    "page": lambda client: client.page(),
    "recall": lambda client: client.recall(ID),
    "published": lambda client: client.published(),
    "answer": lambda client: client.answer(ID, "retrieved"),
    "inbox": listened,
    "approvals": lambda client: client.approvals(user_assertion="e30.e30.e30"),
    "decide": lambda client: client.decide(ID, "approved", user_assertion="e30.e30.e30"),
    "subscriptions": lambda client: client.subscriptions(),
    "subscribe": lambda client: client.subscribe("interior", "a.flood.v1", purpose="p"),
    "upload": uploaded,
}
NONE: tuple[Any, ...] = ({}, [], None, 5)
RECIPIENTS: tuple[Any, ...] = (7, None, [5], [{}], [{"recipient": "a", "state": [1]}])
LISTS: tuple[Any, ...] = (5, [5], [{}], {"a": 1})
SAID: tuple[tuple[str, Any], ...] = (
    *((name, said) for name in CALLS for said in NONE),
    *(("document", {**HELD, "recipients": said}) for said in RECIPIENTS),
    *((name, {"document": 5, "state": "arrived"}) for name in ("recall", "answer", "decide")),
    *((name, {**HELD, "state": []}) for name in ("recall", "answer", "decide")),
    *(("send", {**HELD, "receipt": said}) for said in NONE),
    ("send", {**HELD, "state": [], "receipt": "e30.e30.e30"}),
    *((name, {"documents": said}) for name in ("page", "inbox") for said in LISTS),
    *(("approvals", {"approvals": said}) for said in LISTS),
    *(("subscriptions", {"subscriptions": said}) for said in LISTS),
    ("published", {"keys": 5}),
)


@pytest.mark.parametrize(("call", "said"), SAID)
async def test_it_was_not_the_gateway(stranger: tuple[Stranger, GatewayClient], call: str, said: Any) -> None:
    """Members of other types than the gateway's are not worked with."""
    double, client = stranger
    double.said = said
    with pytest.raises(Unreachable, match="was not the gateway"):
        await CALLS[call](client)


async def test_what_is_beside_is_left_out(stranger: tuple[Stranger, GatewayClient]) -> None:
    """Of members that need not be there, one of another type is as good as none."""
    double, client = stranger
    double.said = {**HELD, "recipients": [{"recipient": "a", "state": "arrived", "number": 5}], "history": 5}
    found = await client.document(ID)
    assert (found.recipients[0].number, found.history, found.receipts, found.service) == (None, (), (), "")


def test_keys_that_are_none_verify_nothing() -> None:
    """A receipt is not proven by them, and that is all."""
    header = "eyJ0eXAiOiJleGNoYW5nZS1yZWNlaXB0K2p3dCIsImFsZyI6IkVkRFNBIiwia2lkIjoiYSJ9"
    with pytest.raises(BadReceipt, match="None of the keys"):
        verify_receipt(f"{header}.e30.AAAA", {"keys": [5, "a", None]}, "DEMO")
