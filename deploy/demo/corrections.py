"""The corrections' part of the story: nothing in the population register changes by one person's hand."""

from typing import Any

from deploy.demo.desk import Ask, Clerk
from deploy.demo.papers import CORRECTION, NARY, correction
from deploy.demo.register import Register
from deploy.demo.telling import Promise, Teller

DISTRICT = "chamkar_mon.civil_status"
REGISTRY = "interior.civil_registry"
SOKHA = "cs-20117"
"""A registrar who also sits at the district's desk on some days."""
DISTRICT_CLERK = Clerk("chamkar_mon", SOKHA, "registrar")
SAME_PERSON = Clerk("interior", SOKHA, "registrar")
ARCHIVIST = Clerk("interior", "cs-30333", "archivist")
REGISTRAR = Clerk("interior", "cs-20488", "registrar")
_HELD = Promise(status=202, members={"state": "held"})


def _asked(number: int, body: dict[str, Any]) -> Ask:
    headers = {
        "Exchange-Purpose": "record_correction",
        "Exchange-Case": f"K-2026-{number}",
        "Idempotency-Key": f'"K-2026-{number}"',
    }
    path = f"/v1/documents/interior/{CORRECTION}"
    return Ask(client=DISTRICT, path=path, scope="population:correct", headers=headers, body=body, clerk=DISTRICT_CLERK)


async def corrections(tell: Teller, register: Register) -> None:
    """A correction that waits for its approval, and two that the register refuses."""
    tell.chapter("A correction of a person's record, which needs two people")
    sent = await tell.submit(
        "The district asks for a mistyped day of birth to be corrected",
        "It names the record's version, the old value, the new one, the reason and the law. It is held: the register "
        "knows nothing of it yet.",
        _asked(1, correction()),
        _HELD,
    )
    document = str(sent.body.get("document"))
    await _approved(tell, document)
    await _applied(tell, register, document)
    await tell.submit(
        "The same again",
        "The first receipt comes again; nothing is held or changed a second time.",
        _asked(1, correction()),
        Promise(status=202, members={"document": document, "receipt": sent.body.get("receipt")}),
    )
    await _stale(
        tell,
        _asked(2, correction("5c1a0a52-7f2e-4c6e-8e57-1d2f3b4c5d02")),
        "Another correction, made from the record as it was before",
        "It was approved, and the register still refuses: the record has a newer version than the district saw.",
    )
    await _stale(
        tell,
        _asked(3, correction("5c1a0a52-7f2e-4c6e-8e57-1d2f3b4c5d03", NARY.version + 1)),
        "One with the right version and a wrong old value",
        "What is to be replaced is not what stands there. Nothing is changed by mistake.",
    )

    async def once() -> str | None:
        return "the register counts one correction" if register.corrections == 1 else None

    await tell.seen("One correction was made", "For four submissions and three approvals.", once)


def _decides(clerk: Clerk, document: str) -> Ask:
    return Ask(client=REGISTRY, path=f"/v1/approvals/{document}", body={"decision": "approved"}, clerk=clerk)


async def _approved(tell: Teller, document: str) -> None:
    listed = await tell.desks.call(Ask(client=REGISTRY, method="GET", path="/v1/approvals", clerk=REGISTRAR))

    async def there() -> str | None:
        return f"{document} waits for a registrar" if document in listed.raw.decode() else None

    await tell.seen("It stands on the ministry's list", "Whoever may decide finds it there.", there)
    await tell.step(
        "The one who asked tries to approve it",
        "Sokha sat at the district's desk in the morning and is at the ministry now. Persons are compared, not posts.",
        _decides(SAME_PERSON, document),
        Promise(status=403, code="approval.same_person"),
    )
    await tell.step(
        "Somebody in another post tries",
        "The agreement asks for a registrar.",
        _decides(ARCHIVIST, document),
        Promise(status=403, code="approval.role"),
    )
    await tell.step(
        "Another registrar approves",
        "Now it goes to the register, once.",
        _decides(REGISTRAR, document),
        Promise(status=200, members={"state": "submitted"}),
    )


async def _ended(tell: Teller, document: str) -> dict[str, Any]:
    path = f"/v1/documents/{document}"
    reply = await tell.desks.call(Ask(client=DISTRICT, method="GET", path=path, headers={"Prefer": "wait=2"}))
    found: dict[str, Any] = next(iter(reply.body.get("recipients", ())), {})
    return found


async def _applied(tell: Teller, register: Register, document: str) -> None:
    async def registered() -> str | None:
        place = await _ended(tell, document)
        if place.get("state") != "registered":
            return None
        held = register.look_up(NARY.identifier).body
        return f"registered as {place['number']}: born on {held['birth_date']}, version {held['record']['version']}"

    await tell.seen(
        "The register has made the change",
        "It answered with the number under which it keeps the correction, so that the document is registered at once.",
        registered,
    )


async def _stale(tell: Teller, ask: Ask, title: str, why: str) -> None:
    held = await tell.submit(title, "It waits for its approval, which it gets.", ask, _HELD)
    document = str(held.body.get("document"))
    await tell.desks.call(_decides(REGISTRAR, document))

    async def rejected() -> str | None:
        place = await _ended(tell, document)
        if (place.get("state"), place.get("reason")) != ("rejected", "stale_record"):
            return None
        return "rejected: stale_record"

    await tell.seen("The register refuses it", why, rejected)
