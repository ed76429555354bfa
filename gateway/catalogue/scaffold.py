"""What ``gateway check --write`` adds: derived files, and the decision tests that an agreement still lacks."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ruamel.yaml.nodes import SequenceNode

from gateway.catalogue import derived, manifests
from gateway.catalogue.agreements import GROUP, Draft, obligations, providers, resolved
from gateway.catalogue.appending import appended
from gateway.catalogue.decisions import facts, lifted
from gateway.catalogue.reading import composed
from gateway.catalogue.snapshot import load
from gateway.core.model import Catalogue, SystemId, agency_of
from gateway.core.policy import decide

OF_A_GROUP = 3
"""How many systems of a group of consumers are tested, and how many agencies of a group of providers."""

_PLAIN_HEAD = """\
# Added by gateway check --write. Read each: it says what the agreement means, and is never changed by the program.
"""
_HEAD = f"# yaml-language-server: $schema=../{derived.FOLDER}/decisions.schema.json\n{_PLAIN_HEAD}"


def write(root: Path, *, instance: str, zone: ZoneInfo, keys: Path, at: datetime) -> tuple[str, ...]:
    """Refresh derived files (below a docs/), and add missing decision tests where the catalogue has no error.

    Nothing that stands in a file of decision tests is changed or removed. Gives the files written, relative to
    ``root``; a second run writes none.
    """
    written = list(derived.refresh(root))
    loaded = load(root, instance=instance, zone=zone, keys=keys, at=at)
    if loaded.catalogue is not None:
        catalogue = lifted(loaded.catalogue)
        for draft in loaded.drafts:
            tests = missing(catalogue, draft)
            if tests:
                _add(draft, tests, _HEAD if (root / derived.FOLDER).is_dir() else _PLAIN_HEAD)
                written.append(draft.tests_path.relative_to(root.resolve()).as_posix())
    return tuple(written)


def missing(catalogue: Catalogue, draft: Draft) -> tuple[manifests.Decision, ...]:
    """The decision tests that an agreement lacks; each one gets its verdict from the policy today."""
    known = {_key(test) for test in draft.tests}
    added = []
    for grant in draft.written.grants:
        for test in _of_each(catalogue, draft, grant):
            if _key(test) not in known:
                known.add(_key(test))
                added.append(test)
    return tuple(added)


def _key(test: manifests.Decision) -> tuple[object, ...]:
    """What a test proves: two with the same key prove the same."""
    who = None if test.code == "policy.no_agreement" else test.client
    purpose = test.purpose if test.code in (None, "policy.scope", "policy.obligation") else None
    return who, test.on_behalf, test.provider, test.service, test.code, purpose, frozenset(test.without)


def _of_each(catalogue: Catalogue, draft: Draft, grant: manifests.Grant) -> Iterator[manifests.Decision]:
    """Everything for one provider; of a group a permit for others."""
    tested = {test.provider for test in draft.tests}
    named = sorted(providers(grant, catalogue.agencies.values()), key=lambda name: (name not in tested, name))
    for number, provider in enumerate(named[:OF_A_GROUP]):
        for test in _wanted(catalogue, draft, grant.model_copy(update={"provider": provider})):
            if number == 0 or test.code is None:
                yield test


def _wanted(catalogue: Catalogue, draft: Draft, grant: manifests.Grant) -> Iterator[manifests.Decision]:
    clients = _clients(catalogue, draft, grant)
    for number, client in enumerate(clients):
        permit = manifests.Decision.model_validate(
            {
                "client": client,
                "provider": grant.provider,
                "service": grant.service,
                "purpose": grant.purposes[0],
                "scope": grant.scope,
                "at": draft.written.valid.start.isoformat(),
                "verdict": "permit",
            }
        )
        purposes = grant.purposes if number == 0 else grant.purposes[:1]
        yield from _told(catalogue, permit, None, [{"purpose": purpose} for purpose in purposes])
        others = [{"purpose": code} for code in catalogue.purposes if code not in grant.purposes]
        yield from list(_told(catalogue, permit, "policy.purpose", others))[:1]
        if grant.scope is not None:
            yield from _told(catalogue, permit, "policy.scope", [{"scope": None}])
        after = draft.written.valid.until + timedelta(days=1)
        yield from _told(catalogue, permit, "policy.expired", [{"at": after}])
        yield from _told(
            catalogue, permit, "policy.obligation", [{"without": [each]} for each in sorted(obligations(grant))]
        )
        if number == 0:
            strangers = sorted(catalogue.systems, key=lambda name: (agency_of(name) == grant.provider, name))
            alone = [{"client": name} for name in strangers]
            yield from list(_told(catalogue, permit, "policy.no_agreement", alone))[:1]
            yield from _mandated(catalogue, permit)


def _mandated(catalogue: Catalogue, permit: manifests.Decision) -> Iterator[manifests.Decision]:
    """The same call by whom the client's agency gave a mandate, and by somebody after its end."""
    agency = catalogue.agencies[agency_of(SystemId(permit.client))]
    for held in agency.mandates:
        systems = sorted(catalogue.agencies[held.to].systems) if held.to in catalogue.agencies else []
        for client in systems[:1] if permit.service in held.services else ():
            first = max(str(permit.at), held.valid_from.isoformat())
            acting = {"client": client, "on_behalf": agency.id}
            yield from _told(catalogue, permit, None, [{**acting, "at": date.fromisoformat(first)}])
            ended = held.valid_until + timedelta(days=1)
            yield from _told(catalogue, permit, "identity.not_mandated", [{**acting, "at": ended}])


def _told(
    catalogue: Catalogue, permit: manifests.Decision, code: str | None, changes: Iterable[Mapping[str, object]]
) -> Iterator[manifests.Decision]:
    """The permitted call with each of the changes, where the policy's answer to it is the code."""
    for change in changes:
        test = permit.model_copy(update={"verdict": "refuse" if code else "permit", "code": code, **change})
        if decide(catalogue, facts(test, catalogue.zone)).code == code:
            yield test


def _clients(catalogue: Catalogue, draft: Draft, grant: manifests.Grant) -> list[SystemId]:
    """Every consumer; of a group those that have tests already, and others up to three."""
    tested = {test.client for test in draft.tests}
    clients: list[SystemId] = []
    for consumer in grant.consumers:
        systems = sorted(resolved(consumer, catalogue.agencies.values()), key=lambda name: (name not in tested, name))
        clients += systems[:OF_A_GROUP] if consumer.startswith(GROUP) else systems
    return list(dict.fromkeys(clients))


def _add(draft: Draft, tests: tuple[manifests.Decision, ...], head: str) -> None:
    path = draft.tests_path
    entries = [_entry(test) for test in tests]
    if not path.is_file():
        path.write_text(appended(head, None, entries, 0), "utf-8")
        return
    text = path.read_text("utf-8")
    root = composed(text)
    if isinstance(root, SequenceNode):  # what else it could be, load has reported
        path.write_text(appended(text, root, entries, 0), "utf-8")


def _entry(test: manifests.Decision) -> dict[str, object]:
    entry: dict[str, object] = {
        "client": test.client,
        "provider": test.provider,
        "service": test.service,
        "purpose": test.purpose,
        "scope": test.scope,
        "at": test.at,
        "verdict": test.verdict,
    }
    if test.code is not None:
        entry["code"] = test.code
    if test.on_behalf is not None:
        entry["on_behalf"] = test.on_behalf
    if test.without:
        entry["without"] = list(test.without)
    return entry
