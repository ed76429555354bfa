"""The documents' part of the story: an application and a letter, from the sender's desk to the clerk's register."""

from collections.abc import Mapping
from typing import Any

from deploy.demo.desk import Ask, unsigned
from deploy.demo.papers import APPLICATION, LETTER, LETTER_BODY, PLANS, File, application
from deploy.demo.telling import Promise, Teller
from deploy.demo.townhalls import TownHalls

PLATFORM = "digital_local.platform"
WORKS = "public_works.permit_office"
MOIS = "interior_safety.correspondence"
NUMBER = "ชบ 0022/1187"
"""The register number that the works office gives."""
_PERMITS = f"/v1/documents/public_works/{APPLICATION}"


async def permit(tell: Teller, halls: TownHalls) -> None:
    """A resident's application for a construction permit, with plans, on its way to the works office."""
    tell.chapter("An application with plans, sent for a municipality")
    files = [await _uploaded(tell, each) for each in PLANS]
    document = await _sent(tell, files)
    await _refused(tell, files)
    await _registered(tell, document)
    await _receipts(tell, halls, document)


async def _uploaded(tell: Teller, file: File) -> str:
    headers = {"Content-Type": file.media_type, "Content-Digest": file.digest}
    reply = await tell.step(
        f"The platform uploads a file: {file.title.lower()}",
        "Files travel beside the document, up to 2 GiB; digest and kind are checked against what really came.",
        Ask(client=PLATFORM, path="/v1/attachments", body=file.content, headers=headers),
        Promise(status=201, members={"digest": file.digest, "media_type": file.media_type}),
    )
    return str(reply.body.get("attachment"))


def _application(files: list[str], **other: Any) -> Ask:
    headers = {
        "Exchange-Purpose": "permit_application",
        "Exchange-Case": "P-2026-41",
        "Exchange-For": "saensuk",
        "Idempotency-Key": '"P-2026-41/1"',
        "Exchange-Attachments": ", ".join(files),
        **other.pop("headers", {}),
    }
    body = other.pop("body", application())
    return Ask(client=PLATFORM, path=_PERMITS, scope="permits:submit", headers=headers, body=body)


async def _sent(tell: Teller, files: list[str]) -> str:
    first = await tell.submit(
        "The platform hands in a resident's application for Saensuk",
        "The mayor of Saensuk has signed a mandate: for this service the platform may act in the municipality's name. "
        "Both names stand in the journal and on the receipt. From this answer on, the application cannot get lost.",
        _application(files),
        Promise(status=202, members={"state": "submitted", "reference": "P-2026-41/1"}),
    )
    receipt = first.body.get("receipt")
    await tell.submit(
        "The same again, because the platform did not see the answer",
        "The reference is the platform's own. The same one is the same application: the first receipt comes again.",
        _application(files),
        Promise(status=202, members={"document": first.body.get("document"), "receipt": receipt}),
    )
    await tell.submit(
        "The same reference for another application",
        "That is a mistake in the platform's system, and it is told so.",
        _application(files, body=application("P-2026-42")),
        Promise(status=422, code="idempotency.reused"),
    )
    return str(first.body.get("document"))


async def _refused(tell: Teller, files: list[str]) -> None:
    for town, title, why in (
        (
            "sila",
            "In the name of a municipality that gave no mandate",
            "Sila has not said that anybody may act for it.",
        ),
        ("bang_saray", "In the name of one whose mandate has ended", "Bang Saray's ran until the end of 2025."),
    ):
        await tell.submit(
            title,
            why,
            _application(files, headers={"Exchange-For": town, "Idempotency-Key": f'"{town}/1"'}),
            Promise(status=403, code="identity.not_mandated"),
        )


async def _registered(tell: Teller, document: str) -> None:
    fetched = await tell.step(
        "A clerk at the provincial works office fetches what there is",
        "The office has no server that could be called. For a minute nobody else gets these documents.",
        Ask(client=WORKS, method="GET", path="/v1/inbox?max=10&wait=10&unit=chonburi"),
        Promise(status=200),
    )
    found: Mapping[str, Any] = next((each for each in fetched.body.get("documents", ()) if each["id"] == document), {})
    for file, plan in zip(found.get("attachments", ()), PLANS, strict=False):
        await _downloaded(tell, file, plan)
    lease = {"lease": fetched.body.get("lease")}
    for outcome, title, why in (
        (
            {"outcome": "retrieved", **lease},
            "The clerk's program says that it has the application",
            "The sender sees it at once; the application can no longer be withdrawn.",
        ),
        (
            {"outcome": "registered", "number": NUMBER},
            "The clerk registers it",
            "With the number of the office's own register. That is what the sender was waiting for.",
        ),
    ):
        said = Ask(client=WORKS, path=f"/v1/inbox/{document}", body=outcome)
        await tell.step(title, why, said, Promise(status=200, members={"state": outcome["outcome"]}))


async def _downloaded(tell: Teller, file: Mapping[str, Any], plan: File) -> None:
    path = f"/v1/attachments/{file['attachment']}"
    same = (await tell.desks.call(Ask(client=WORKS, method="GET", path=path))).raw == plan.content

    async def there() -> str | None:
        return f"{len(plan.content)} bytes with the digest {file['digest']}" if same else None

    await tell.seen(f"And the file: {plan.title.lower()}", "Byte for byte what was uploaded.", there)


async def _receipts(tell: Teller, halls: TownHalls, document: str) -> None:
    reply = await tell.step(
        "The platform looks at where the application stands",
        "Each state has its receipt, signed once and kept.",
        Ask(client=PLATFORM, method="GET", path=f"/v1/documents/{document}"),
        Promise(status=200, members={"state": "registered", "on_behalf": "saensuk"}),
    )
    receipts = [each for each in reply.body.get("receipts", ()) if unsigned(each)["state"] == "registered"]
    said = await tell.desks.receipt(receipts[-1]) if receipts else {}

    async def proven() -> str | None:
        if said.get("number") != NUMBER:
            return None
        return f"signed by {said['instance']}: {said['recipient']} registered it as {said['number']} at {said['at']}"

    await tell.seen(
        "Anybody with the gateway's published key can check a receipt",
        "Here it is done with another library. It names the document by the digest of its bytes.",
        proven,
    )

    async def pushed() -> str | None:
        data = [each["data"] for each in halls.receivers["digital_local"].taken.values()]
        states = [unsigned(each["receipt"])["state"] for each in data if each.get("document") == document]
        return f"pushed to the platform: {', '.join(states)}" if "registered" in states else None

    await tell.seen(
        "The platform's system was told of each state, too",
        "Its folder asks for receipts by webhook. It has checked each signature with code of its own.",
        pushed,
    )


def _letter(agency: str, reference: str) -> Ask:
    headers = {"Exchange-Purpose": "official_correspondence", "Idempotency-Key": f'"{reference}"'}
    path = f"/v1/documents/{agency}/{LETTER}"
    return Ask(client=MOIS, path=path, scope="letters:send", headers=headers, body=LETTER_BODY)


async def letter(tell: Teller, _: TownHalls) -> None:
    """An official invitation that goes to the wrong ministry first."""
    tell.chapter("A letter that went to the wrong ministry")
    sent = await tell.submit(
        "A ministry abroad sends an official invitation",
        "A clerk has chosen the Ministry of Justice; the letter is meant for the Ministry of Interior.",
        _letter("justice", "1204-1"),
        Promise(status=202, members={"state": "submitted"}),
    )
    document = sent.body.get("document")
    wrongly = {"outcome": "rejected", "reason": "wrongly_addressed", "text": "It is for the Ministry of Interior."}
    await _taken(tell, "justice.correspondence", document, wrongly)
    await tell.step(
        "The sender learns it, and why",
        "The reason is a code that a system can act on, with a word from the clerk. Nobody has to telephone.",
        Ask(client=MOIS, method="GET", path=f"/v1/documents/{document}"),
        Promise(status=200, members={"state": "rejected"}),
    )
    again = await tell.submit(
        "The letter goes to where it belongs",
        "It is another document with another reference: the rejection of the first one stands.",
        _letter("interior", "1204-2"),
        Promise(status=202, members={"state": "submitted"}),
    )
    registered = {"outcome": "registered", "number": "2026/3381"}
    await _taken(tell, "interior.correspondence", again.body.get("document"), registered)


async def _taken(tell: Teller, client: str, document: str | None, outcome: Mapping[str, str]) -> None:
    """A clerk fetches and decides."""
    fetched = await tell.desks.call(Ask(client=client, method="GET", path="/v1/inbox?wait=10"))
    lease = fetched.body.get("lease")
    word = outcome.get("reason") or outcome.get("number")
    await tell.step(
        f"A clerk of {client.partition('.')[0]} reads it: {outcome['outcome']}",
        f"Said once, with {word}, and final.",
        Ask(client=client, path=f"/v1/inbox/{document}", body={**outcome, "lease": lease}),
        Promise(status=200, members={"state": outcome["outcome"]}),
    )
