"""Systems of recipients that read their agency's mailbox, and what a test sees of what they did."""

from dataclasses import replace
from typing import Any

from gateway.core.model import AgencyId
from gateway.edge.documents import ends
from gateway.edge.documents.waiting import Waiters
from gateway.edge.journal import Book
from gateway.edge.store import Plan
from tests.fakes.correspondents import DESK, REGISTER
from tests.fakes.post_office import PostTown
from tests.fakes.town import Reply


async def fetched(town: PostTown, system: str = REGISTER, query: str = "") -> Reply:
    return await town.say("GET", f"/inbox{query}", system)


async def told(town: PostTown, document: str, system: str = REGISTER, **said: Any) -> Reply:
    return await town.say("POST", f"/inbox/{document}", system, said)


def ids(reply: Reply) -> list[str]:
    return [each["id"] for each in reply.body["documents"]]


def steps(town: PostTown, document: str) -> list[str]:
    return [entry.facts["step"] for entry in town.entries() if entry.facts.get("document") == document]


async def recalled(town: PostTown, document: str) -> ends.Answer:
    return await town.gateway.mailroom.post.run(ends.recall(document, None, DESK, town.gateway.mailroom.scribe))


async def changed(town: PostTown, *statements: str) -> None:
    """What time or another node does to the database."""

    def plan(_: Book) -> Plan[None]:
        for each in statements:
            yield each, ()

    await town.gateway.mailroom.post.run(plan)


def waiters(town: PostTown) -> Waiters:
    """Of those who wait for something in a mailbox."""
    assert town.gateway.mailroom.inbox
    return town.gateway.mailroom.inbox.waiters


def with_units(town: PostTown, *units: str) -> None:
    """The ministry's folder names these units from now on."""
    now = town.gateway.catalogue
    interior = replace(now.agencies[AgencyId("interior")], units=units)
    changed = replace(now, agencies={**now.agencies, interior.id: interior})
    town.gateway._loaded = town.gateway._catalogue = changed
