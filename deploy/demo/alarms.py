"""The events' part of the story: a flood warning for thirteen local governments, one of which cannot be reached."""

from collections import Counter
from typing import Any

from deploy.demo.desk import Ask
from deploy.demo.papers import ALERT, alert
from deploy.demo.telling import Promise, Teller
from deploy.demo.townhalls import DOWN, NUMBERED, TownHalls

CENTRE = "disaster_prevention.warning_centre"
TOWNS = 13
_TOLD = ("arrived", "retrieved", "registered")


async def alarm(tell: Teller, halls: TownHalls) -> None:
    """A warning goes out; who is down gets it later; nobody gets it twice."""
    tell.chapter("A disaster alert to thirteen local governments, one of them down")
    headers = {"Exchange-Purpose": "civil_protection", "Idempotency-Key": '"DPM-2026-0117"'}
    sent = await tell.submit(
        "The warning centre tells all who have subscribed",
        "They are told in the way each of them has chosen: pushed to a system, put into a mailbox, given to a siren.",
        Ask(client=CENTRE, path=f"/v1/events/{ALERT}", scope="alerts:publish", headers=headers, body=alert()),
        Promise(status=202, members={"state": "submitted"}),
    )
    document = str(sent.body.get("document"))
    await tell.submit(
        "A municipality tries to send an alert of its own",
        "Only the systems that the publisher's folder names may publish. To others there is no such address.",
        Ask(client="sila.front_desk", path=f"/v1/events/{ALERT}", headers=headers, body=alert("SILA-1")),
        Promise(status=404, code="catalogue.unknown"),
    )
    await _all_but_one(tell, document)
    await _fetched(tell, document)
    await halls.come_back()
    await _all(tell, document)
    await _once_each(tell, halls, document)


async def _places(tell: Teller, document: str) -> dict[str, dict[str, Any]]:
    reply = await tell.desks.call(Ask(client=CENTRE, method="GET", path=f"/v1/documents/{document}"))
    return {each["recipient"]: each for each in reply.body.get("recipients", ())}


async def _all_but_one(tell: Teller, document: str) -> None:
    async def twelve() -> str | None:
        places = await _places(tell, document)
        told = [name for name, each in places.items() if each["state"] in _TOLD]
        if len(told) != TOWNS - 1 or places[DOWN]["shown"] != "waiting":
            return None
        return f"{len(told)} of {len(places)} have it; {DOWN} is waiting, {places[DOWN]['attempts']} attempts so far"

    await tell.seen(
        "Twelve have it",
        "The system of Pa Sakae refuses connections. Nobody else waits for that.",
        twelve,
    )


async def _fetched(tell: Teller, document: str) -> None:
    inbox = await tell.desks.call(Ask(client="koh_taew.front_desk", method="GET", path="/v1/inbox?wait=10"))
    await tell.step(
        "Koh Taew's duty officer has fetched it from the mailbox",
        "A municipality without servers is told in the same moment as the others.",
        Ask(
            client="koh_taew.front_desk",
            path=f"/v1/inbox/{document}",
            body={"outcome": "retrieved", "lease": inbox.body.get("lease")},
        ),
        Promise(status=200, members={"state": "retrieved"}),
    )


async def _all(tell: Teller, document: str) -> None:
    async def thirteen() -> str | None:
        places = await _places(tell, document)
        told = Counter(each["state"] for each in places.values())
        if sum(told[state] for state in _TOLD) != TOWNS:
            return None
        counted = ", ".join(f"{count} {state}" for state, count in sorted(told.items()))
        return f"{counted}; {NUMBERED} gave it the number {places[NUMBERED]['number']}"

    await tell.seen(
        "Pa Sakae is back, and has it too",
        "The gateway had kept on trying, less and less often. Nobody had to send anything again.",
        thirteen,
    )


async def _once_each(tell: Teller, halls: TownHalls, document: str) -> None:
    pushed = {name: receiver.taken for name, receiver in halls.receivers.items() if name != "digital_local"}
    posted = halls.posted

    async def counted() -> str | None:
        had = [name for name, taken in {**pushed, **posted}.items() if list(taken).count(document) == 1]
        forged = sum(receiver.forged for receiver in halls.receivers.values())
        if len(had) != len(pushed) + len(posted) or forged:
            return None
        return f"{len(had)} systems that it was pushed to have it once; {forged} signatures were wrong"

    await tell.seen(
        "Counted at the other end",
        "Each receiver has checked who signed, and looks at the id, so that it takes nothing twice.",
        counted,
    )
