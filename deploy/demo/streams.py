"""The story over Kafka: three agencies read what is sent to them from topics, by agents beside their own systems."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from deploy.demo import cluster
from deploy.demo.agents import AGENCIES, Agents, Place
from deploy.demo.desk import INSTANCE, Ask
from deploy.demo.notices import DEATH, RULING, death, letter
from deploy.demo.offices import Offices
from deploy.demo.papers import LETTER, File
from deploy.demo.telling import Promise, Teller

COURTS = "justice.correspondence"
REGISTRY = "interior.civil_registry"
MINISTRY, FUND = "finance", "social_security"
READY = {"ready"}
LETTERS = (2, 3, 4)
"""Their numbers, sent while the ministry's systems are down."""
PARTS: Mapping[str, set[str]] = {
    "finance": {"action", "identifier", "death_date"},
    "justice": {"action", "identifier", "name", "death_date", "death_place", "registration"},
    "social_security": {"action", "identifier", "name", "death_date", "survivors"},
}
"""What each office is told of a death, by the agreement."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands behind the topics."""

    place: Place
    offices: Offices
    agents: Agents


@asynccontextmanager
async def staged(root: Path, data: Path, gateway: str, kafka: str) -> AsyncIterator[Stage]:
    """The agencies' systems, one of them down, and folders for their agents, which the story starts."""
    place = Place.absolute(root, data, gateway, kafka)
    offices = Offices(place.data / "agents" / "files")
    async with offices.serving() as systems:
        place = replace(place, systems=systems)
        async with Agents(place).housed() as agents:
            yield Stage(place, offices, agents)


async def streams(tell: Teller, stage: Stage) -> None:
    """All of it."""
    await _begun(tell, stage)
    filed = await _filed(tell, stage)
    waiting = await _sent_while_down(tell, stage)
    news = await _told(tell, stage)
    await _back(tell, stage, waiting)
    await _parts(tell, stage, news)
    await _receipts(tell, stage, [filed, *waiting])


async def _begun(tell: Teller, stage: Stage) -> None:
    tell.chapter("Three agencies read what is sent to them from Kafka")
    place = stage.place

    async def made() -> str | None:
        _, said = await cluster.topics(place.root, place.kafka, "apply")
        code, checked = await cluster.topics(place.root, place.kafka, "check")
        return f"{said.splitlines()[-1]}; then {checked.splitlines()[-1]}" if code == 0 else None

    await tell.seen(
        "The operator makes the agencies' topics",
        "`gateway topics apply`: all of them follow from the catalogue. The gateway itself never makes one.",
        made,
    )
    await asyncio.gather(*map(stage.agents.start, AGENCIES))

    async def ready() -> str | None:
        states = {agency: (await stage.agents.health(agency))["status"] for agency in AGENCIES}
        return ", ".join(f"{each}: {state}" for each, state in states.items()) if {*states.values()} == READY else None

    await tell.seen(
        "Each of the three starts an agent beside its systems",
        "It opens connections outwards alone, to Kafka and to the gateway, and has nothing but its own agency's key.",
        ready,
    )


def _letter(number: int, to: str, recipient: str, files: Mapping[str, File] | None = None) -> Ask:
    headers = {
        "Exchange-Purpose": "official_correspondence",
        "Exchange-Case": "M-2026-88",
        "Idempotency-Key": f'"MOJ-2026/{number}"',
        **({"Exchange-Attachments": ", ".join(files)} if files else {}),
    }
    written = letter(number, recipient, files=tuple((files or {}).values()))
    return Ask(client=COURTS, path=f"/v1/documents/{to}/{LETTER}", scope="letters:send", headers=headers, body=written)


async def _stands(tell: Teller, document: str, client: str = COURTS) -> dict[str, dict[str, Any]]:
    """Where it stands, by recipient."""
    reply = await tell.desks.call(Ask(client=client, method="GET", path=f"/v1/documents/{document}"))
    return {each["recipient"]: each for each in reply.body.get("recipients", ())}


async def _filed(tell: Teller, stage: Stage) -> str:
    """A letter with a file, to the Fund, whose case files are reached by a class of its own."""
    headers = {"Content-Type": RULING.media_type, "Content-Digest": RULING.digest}
    uploaded = await tell.step(
        "The Ministry of Justice uploads a scanned ruling",
        "Large files never travel over Kafka: the letter names it, and the agent fetches it.",
        Ask(client=COURTS, path="/v1/attachments", body=RULING.content, headers=headers),
        Promise(status=201, members={"digest": RULING.digest}),
    )
    sent = await tell.submit(
        "It writes to the National Social Security Fund",
        "The sender does the same as ever: which way a letter takes is the recipient's choice.",
        _letter(1, FUND, "National Social Security Fund", {str(uploaded.body.get("attachment")): RULING}),
        Promise(status=202, members={"state": "submitted"}),
    )
    document = str(sent.body.get("document"))

    async def numbered() -> str | None:
        found = (await _stands(tell, document)).get(FUND, {})
        kept = stage.offices.filed().get(document)
        if found.get("state") != "registered" or kept is None or found["number"] != kept["number"]:
            return None
        (file,) = kept["files"]
        if (file["digest"], file["bytes"]) != (RULING.digest, len(RULING.content)):
            return None
        return f"registered as {found['number']}; beside it the ruling, {file['bytes']} bytes"

    await tell.seen(
        "The Fund has filed it, and its sender knows the number",
        "The agent checked who signed the record, fetched the file, gave both to the Fund's own filing and told the "
        "gateway what came of it.",
        numbered,
    )
    return document


async def _sent_while_down(tell: Teller, stage: Stage) -> list[str]:
    """Letters to a ministry whose systems are down, whose agent is then killed, too."""
    tell.chapter("A ministry's own systems are down")
    waiting = []
    for number in LETTERS:
        sent = await tell.submit(
            f"Letter {number} to the Ministry of Economy and Finance",
            "Its registry refuses connections just now. The sender need not know.",
            _letter(number, MINISTRY, "Ministry of Economy and Finance"),
            Promise(status=202, members={"state": "submitted"}),
        )
        waiting.append(str(sent.body.get("document")))

    async def arrived() -> str | None:
        states = [(await _stands(tell, each)).get(MINISTRY, {}).get("state") for each in waiting]
        systems = str((await stage.agents.health(MINISTRY))["checks"]["systems"])
        if states != ["arrived"] * len(waiting) or systems == "ok":
            return None
        return f"{len(waiting)} have arrived on the ministry's topic; its agent says of its systems: {systems}"

    await tell.seen(
        "They have arrived, and wait at the ministry",
        "Nothing piles up at the gateway. The agent has stopped handing over, and tries again now and then.",
        arrived,
    )
    await stage.agents.kill(MINISTRY)
    await stage.agents.start(MINISTRY)

    async def again() -> str | None:
        checks = (await stage.agents.health(MINISTRY))["checks"]
        good = (checks["memory"], checks["gateway"], checks["outcomes"]) == ("ok", "ok", "ok")
        return "started again on what it remembers; no outcome is unknown" if good else None

    await tell.seen(
        "Its agent is killed as well, and started again",
        "kill -9. What it has done stands in a small database of its own; the rest lies on the topic as before.",
        again,
    )
    return waiting


async def _told(tell: Teller, stage: Stage) -> str:
    """An event to those that can take it meanwhile."""
    tell.chapter("A death is registered, and three offices learn of it")
    headers = {"Exchange-Purpose": "civil_registration", "Idempotency-Key": '"D-2026/20114"'}
    sent = await tell.submit(
        "The civil registry tells all who have subscribed",
        "Once, for everybody: no widow has to bring the same certificate to three offices.",
        Ask(client=REGISTRY, path=f"/v1/events/{DEATH}", headers=headers, body=death()),
        Promise(status=202, members={"state": "submitted"}),
    )
    document = str(sent.body.get("document"))

    async def two() -> str | None:
        places = await _stands(tell, document, REGISTRY)
        states = {agency: str(each["state"]) for agency, each in places.items()}
        if states.get("justice") != "retrieved" or states.get(FUND) != "retrieved":
            return None
        return ", ".join(f"{agency}: {state}" for agency, state in sorted(states.items()))

    await tell.seen(
        "The courts and the Fund have it",
        "The finance ministry's systems are still down. That holds back nobody else.",
        two,
    )
    await stage.offices.come_back()
    return document


async def _back(tell: Teller, stage: Stage, waiting: list[str]) -> None:
    tell.chapter("The ministry's systems are back")

    async def caught_up() -> str | None:
        places = [(await _stands(tell, each)).get(MINISTRY, {}) for each in waiting]
        if [each.get("state") for each in places] != ["registered"] * len(waiting):
            return None
        return f"registered as {', '.join(str(each['number']) for each in places)}"

    await tell.seen(
        "All three letters are registered, and their sender has the numbers",
        "The agent caught up by itself. The registry's answer held each number, so no clerk had to report anything.",
        caught_up,
    )

    async def counted() -> str | None:
        handed = [stage.offices.handed[each] for each in waiting]
        return f"handed over {', '.join(map(str, handed))} times" if handed == [1] * len(waiting) else None

    await tell.seen(
        "Counted at the other end",
        "Systems down, agent killed, and still each letter came once.",
        counted,
    )


async def _parts(tell: Teller, stage: Stage, document: str) -> None:
    async def cut() -> str | None:
        had = {agency: stage.offices.deaths[agency].get(document) for agency in ("finance", "justice")}
        had[FUND] = stage.offices.filed().get(document, {}).get("body")
        if {agency: set(body or ()) for agency, body in had.items()} != PARTS:
            return None
        return "\n".join(f"{agency}: {', '.join(body or ())}" for agency, body in had.items())

    await tell.seen(
        "And each office has its part of the news",
        "The tax office does not learn of the widow; the Fund, which owes her a pension, does. What an office may not "
        "know is not on its topic.",
        cut,
    )

    async def read() -> str | None:
        found = await cluster.records(stage.place.kafka, f"{INSTANCE}.agency.finance")
        mine = [each for each in found if _header(each, "ce_id") == document]
        if len(mine) != 1 or set(orjson.loads(mine[0].value)) != PARTS[MINISTRY]:
            return None
        heads = ("ce_specversion", "ce_type", "ce_source", "content-type")
        return ", ".join(f"{name} {_header(mine[0], name)}" for name in heads)

    await tell.seen(
        "Any Kafka client can read that, too",
        "A plain one looks at the ministry's topic. Each record is a CloudEvent; nobody needs an agent of ours.",
        read,
    )


async def _receipts(tell: Teller, stage: Stage, letters: list[str]) -> None:
    tell.chapter("Receipts on the sender's own topic")
    shown: dict[str, list[str]] = {}

    async def all_there() -> str | None:
        shown.clear()
        for each in await cluster.records(stage.place.kafka, f"{INSTANCE}.receipts.justice"):
            said = await tell.desks.receipt(_header(each, "receipt"))
            if said != orjson.loads(each.value):
                return None
            shown.setdefault(said["document"], []).append(said["state"])
        if not all("registered" in shown.get(each, ()) for each in letters):
            return None
        return f"{sum(map(len, shown.values()))} receipts of {len(shown)} letters: {', '.join(shown[letters[0]])} …"

    await tell.seen(
        "The Ministry of Justice reads what became of its letters",
        "A program of its own, a plain Kafka client: no question to the gateway, no polling. It has checked each "
        "signature against the gateway's published key.",
        all_there,
    )


def _header(record: Any, name: str) -> str:
    found: bytes = dict(record.headers).get(name, b"")
    return found.decode()
