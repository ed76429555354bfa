"""Ways while they are connected, replaced and let go of; an agency's own Python as it takes documents."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.catalogue.files import NOTHING
from gateway.core.delivery import Reason
from gateway.core.model import Catalogue, Way
from gateway.edge.documents.takers import Takers, mark
from gateway.edge.outbound import HttpOutbound
from gateway.edge.providers import NotConnected, Providers
from gateway.edge.systems import Systems
from gateway.edge.workshop import Workshop
from gateway.protocols import document_python
from gateway.protocols.handover import Accepted, Handed, NotTaken
from gateway.protocols.protocol import Surroundings
from tests.edge.test_webhooks import HANDED
from tests.fakes import catalogues
from tests.fakes.correspondents import way
from tests.fakes.deliveries import declared_in
from tests.fakes.systems import endpoint
from tests.fakes.town import until

AROUND = Surroundings(HttpOutbound(), python=True)
KEY = catalogues.agency("interior").id, "scripted"


class Scripted:
    """A taker that waits until it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.taken: list[str] = []
        self.closed = 0

    async def take(self, handed: Handed) -> Accepted:
        await self.may.wait()
        self.taken.append(handed.id)
        return Accepted()

    async def close(self) -> None:
        self.closed += 1


def scripted() -> tuple[Takers, list[Scripted]]:
    made: list[Scripted] = []

    def connect(way: Way, _: Surroundings) -> Scripted:
        if way.options.get("wrong"):
            raise ValueError("its options are wrong")
        made.append(Scripted())
        return made[-1]

    return Takers(AROUND, Workshop({"scripted": connect})), made


def of(**options: Any) -> Catalogue:
    """One agency with one way."""
    ways = (way("interior", protocol="scripted", options=options), way("interior"))
    return catalogues.of(replace(catalogues.agency("interior"), deliveries=ways))


async def test_a_way_that_changes_is_connected_anew() -> None:
    """What is in hand ends where it began, which is closed then; what comes later goes to the new one."""
    takers, made = scripted()
    takers.adopt(await takers.connect(of(a=1), NOTHING))
    running = asyncio.create_task(takers.hand_over(KEY, HANDED))
    await asyncio.sleep(0)
    takers.adopt(await takers.connect(of(a=1), NOTHING))
    assert len(made) == 1
    takers.adopt(await takers.connect(of(a=2), NOTHING))
    assert (len(made), made[0].closed) == (2, 0)
    for each in made:
        each.may.set()
    await running
    await takers.hand_over(KEY, HANDED)
    await until(lambda: made[0].closed)
    assert [len(each.taken) for each in made] == [1, 1]


async def test_a_way_that_cannot_be_connected() -> None:
    """A reload is refused by it; where others serve already it may be lacking, and then its documents wait unsent."""
    takers, _ = scripted()
    with pytest.raises(NotConnected, match="interior scripted: its options are wrong"):
        await takers.connect(of(wrong=True), NOTHING)
    takers.adopt(await takers.connect(of(wrong=True), NOTHING, whole=False))
    with pytest.raises(NotTaken) as caught:
        await takers.hand_over(KEY, HANDED)
    assert (caught.value.sent, caught.value.whole, takers.lacking()) == (False, True, {KEY: "its options are wrong"})


async def test_a_reload_is_whole_or_not_at_all() -> None:
    """Endpoints and ways are connected together: one that is wrong leaves both as they were, and nothing open."""
    takers, made = scripted()
    systems = Systems(Providers(AROUND, lambda: 0.0), takers)
    systems.adopt(await systems.connect(of(a=1), NOTHING))
    agency = catalogues.agency("interior", endpoints=[endpoint("unknown")])
    both = replace(agency, deliveries=(way("interior", protocol="scripted", options={"a": 2}),))
    with pytest.raises(NotConnected, match="unknown"):
        await systems.connect(catalogues.of(both), NOTHING)
    await until(lambda: made[1].closed)
    assert ([each.closed for each in made], systems.lacking()) == ([0, 1], {})


def test_what_marks_a_way() -> None:
    """Another address is another mark, in every process the same; how many go at once is none."""
    one = way("interior", protocol="webhook", options={"url": "https://a/", "allow": ["loopback"]})
    same = replace(one, options={"allow": ["loopback"], "url": "https://a/"}, concurrency=9)
    assert mark(one) == mark(same) != mark(replace(one, options={"url": "https://b/"}))


ADAPTER = """
import asyncio
from gateway.adapter import Adapter, Broken, Document, NotFound, TryLater

class Desk(Adapter):
    async def take(self, document: Document):
        {body}
"""


async def took(folder: Path, body: str, seconds: float = 5.0) -> Accepted:
    files = declared_in(folder, adapter=ADAPTER.format(body=body))
    taker = document_python.hand_over(
        way("interior", protocol="python", options={"class": "Desk"}), replace(AROUND, files=files)
    )
    return await taker.take(replace(HANDED, seconds=seconds))


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("return None", None),
        ("return '2026/118'", "2026/118"),
        ("return 118", None),
        ("return 'x' * 65", None),
        ("return f'{document.id} {document.attachments[0].id} {document.body[\"subject\"]}'", "0190-d at-1 Drainage"),
        ("return f'{document.raw == b\"\"} {document.case} {document.redelivered}'", "False 2026/17 True"),
    ],
)
async def test_what_an_adapter_gives(tmp_path: Path, body: str, number: str | None) -> None:
    """Nothing, or a register number; what cannot be one is none. It sees the document and its envelope."""
    assert await took(tmp_path, body) == Accepted(number)


@pytest.mark.parametrize(
    ("body", "sent", "whole", "reason"),
    [
        ("raise TryLater(7)", False, False, None),
        ("raise Broken", True, False, Reason.REFUSED_BY_SYSTEM),
        ("raise NotFound", True, False, None),
        ("raise ValueError(document.body)", True, False, None),
        ("raise SystemExit", True, False, None),
        ("raise asyncio.CancelledError", True, False, None),
        ("await asyncio.Event().wait()", True, True, None),
    ],
)
async def test_what_an_adapter_raises(tmp_path: Path, body: str, sent: bool, whole: bool, reason: Any) -> None:  # noqa: FBT001 - a row of the table
    """Each is an outcome, and none of its words reach a log: they may quote the document."""
    with pytest.raises(NotTaken) as caught:
        await took(tmp_path, body, 0.2)
    fault = caught.value
    assert (fault.sent, fault.whole, fault.reason) == (sent, whole, reason)
    assert (fault.retry_after, "Drainage" in fault.detail) == (7.0 if "TryLater" in body else None, False)


def test_agencies_code_runs_only_where_a_setting_lets_it(tmp_path: Path) -> None:
    """Otherwise the folder is refused with that word."""
    files = declared_in(tmp_path, adapter=ADAPTER.format(body="return None"))
    declared = way("interior", protocol="python", options={"class": "Desk"})
    with pytest.raises(ValueError, match="GATEWAY_RUN_ADAPTERS"):
        document_python.hand_over(declared, replace(AROUND, python=False, files=files))
