"""Decision tests: what an agreement means, run against the catalogue, and which of its lines nothing asks for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, tzinfo

from gateway.catalogue import manifests
from gateway.catalogue.agreements import Draft, granted
from gateway.catalogue.reading import Place, near
from gateway.catalogue.shelf import Shelf
from gateway.core.life import Approval
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    Catalogue,
    Grant,
    GrantKey,
    Obligation,
    ServiceId,
    Standing,
    SystemId,
)
from gateway.core.policy import Facts, decide

CODES = (
    *("policy.no_agreement", "policy.expired", "policy.suspended"),
    *("policy.purpose", "policy.scope", "policy.obligation", "identity.not_mandated"),
)
"""What a decision test can expect beside a permit: what ``policy.decide`` says of a call."""


def at(moment: date | datetime, zone: tzinfo) -> datetime:
    """The instant of a test: a day means its noon."""
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time(12), zone)


def facts(test: manifests.Decision, zone: tzinfo) -> Facts:
    """The call of a test; it brings everything that a grant may require, save what it is without."""
    return Facts(
        consumer=SystemId(test.client),
        provider=AgencyId(test.provider),
        service=ServiceId(test.service),
        purpose=test.purpose,
        scopes=frozenset() if test.scope is None else frozenset({test.scope}),
        at=at(test.at, zone),
        given=frozenset(Obligation) - frozenset(test.without),
        on_behalf=None if test.on_behalf is None else AgencyId(test.on_behalf),
    )


def lifted(catalogue: Catalogue) -> Catalogue:
    """The catalogue with nothing suspended.

    A suspension is a state of today and no term of an agreement: were tests to differ because of one, nobody could
    suspend anything in a file without making the whole catalogue invalid.
    """
    agencies = {name: _active(agency) for name, agency in catalogue.agencies.items()}
    systems = {system.id: system for agency in agencies.values() for system in agency.systems.values()}
    grants = {
        key: tuple((replace(agreement, standing=Standing.ACTIVE), grant) for agreement, grant in each)
        for key, each in catalogue.grants.items()
    }
    return replace(catalogue, agencies=agencies, systems=systems, grants=grants)


def _active(agency: Agency) -> Agency:
    return replace(
        agency,
        standing=Standing.ACTIVE,
        systems={name: replace(each, standing=Standing.ACTIVE) for name, each in agency.systems.items()},
        endpoints={name: replace(each, standing=Standing.ACTIVE) for name, each in agency.endpoints.items()},
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """The catalogue in which tests are decided, as it is and with nothing suspended."""

    catalogue: Catalogue
    lifted: Catalogue

    def outcome(self, test: manifests.Decision) -> str | None:
        """The code of the decision, None for a permit. A test that does not speak of a suspension sees none."""
        catalogue = self.catalogue if test.code == "policy.suspended" else self.lifted
        return decide(catalogue, facts(test, catalogue.zone)).code


def hold(shelf: Shelf, bench: Bench, draft: Draft, clouded: frozenset[tuple[str, str]] | None) -> None:
    """Run an agreement's tests, and look for lines that none of them needs.

    ``clouded`` are providers and services whose grants could not all be read: nothing is decided about them,
    and nothing at all where it is None.
    """
    if draft.tests_source is None:
        if not shelf.reading.is_file(draft.tests_path):
            remedy = "Run gateway check --write, and read what it adds."
            shelf.reading.warning(draft.source.at("agreement"), "the agreement has no decision tests", remedy)
        return
    telling = [_told(shelf, bench, draft, number, clouded) for number in range(len(draft.tests))]
    if (
        clouded is not None
        and all(telling)
        and not any((each.provider, each.service) in clouded for each in draft.written.grants)
    ):
        _unneeded(shelf, bench, draft)


def _told(shelf: Shelf, bench: Bench, draft: Draft, number: int, clouded: frozenset[tuple[str, str]] | None) -> bool:
    """Whether a test names what exists and gets its verdict; if not, that is reported."""
    source, test = draft.tests_source, draft.tests[number]
    assert source is not None  # noqa: S101 - a draft with tests has their source
    before = len(shelf.reading.findings)
    shelf.service(test.service, source.at(number, "service"))
    shelf.agency(test.provider, source.at(number, "provider"))
    shelf.system(test.client, source.at(number, "client"))
    shelf.purpose(test.purpose, source.at(number, "purpose"))
    if test.on_behalf is not None:
        shelf.agency(test.on_behalf, source.at(number, "on_behalf"))
    if (test.verdict == "refuse") != (test.code is not None):
        remedy = "Write verdict: refuse with a code, or verdict: permit without one."
        shelf.reading.error(source.at(number, "verdict"), "verdict and code do not go together", remedy)
    elif test.code is not None and test.code not in CODES:
        remedy = f"{near(test.code, CODES)}Known codes: {', '.join(CODES)}."
        shelf.reading.error(source.at(number, "code"), f'no decision has the code "{test.code}"', remedy)
    if len(shelf.reading.findings) > before or clouded is None or (test.provider, test.service) in clouded:
        return False
    if test.on_behalf is not None and shelf.amiss(test.on_behalf):  # its mandates may be what is wrong
        return False
    code = bench.outcome(test)
    if code != test.code:
        message = f"the decision is {code or 'permit'}, and the test says {test.code or 'permit'}"
        remedy = "Correct the agreement if the test is right, or the test if the agreement is: gateway explain."
        shelf.reading.error(source.at(number, "verdict"), message, remedy)
    return code == test.code


def _unneeded(shelf: Shelf, bench: Bench, draft: Draft) -> None:
    agreement = bench.lifted.agreements[draft.name]
    everybody = shelf.agencies.all()
    for index, written in enumerate(draft.written.grants):
        for place, what, poorer in _variants(written):
            others = tuple(each for each in agreement.grants if each.index != index)
            changed = replace(agreement, grants=(*others, *granted(index, poorer, everybody)))
            other = _instead(bench, draft, changed)
            if all(other.outcome(test) == test.code for test in draft.tests):
                spot = draft.source.at("grants", index, *place)
                remedy = "Add a decision test that fails without the line (gateway check --write), or remove the line."
                shelf.reading.warning(spot, f"no decision needs {what}", remedy)


def _variants(written: manifests.Grant) -> Iterator[tuple[Place, str, manifests.Grant]]:
    """Each line that could be missing: its place in the grant, its name, the grant without it."""
    for key, what in (("consumers", "the consumer"), ("purposes", "the purpose"), ("require", "to require")):
        lines = getattr(written, key)
        for number, line in enumerate(lines):
            name = "approval" if isinstance(line, Approval) else line
            poorer = written.model_copy(update={key: [*lines[:number], *lines[number + 1 :]]})
            yield (key, number), f"{what} {name}", poorer
    if written.scope is not None:
        yield ("scope",), f"the scope {written.scope}", written.model_copy(update={"scope": None})


def _systems(catalogue: Catalogue, agency: str | None) -> Iterable[SystemId]:
    found = catalogue.agencies.get(AgencyId(agency)) if agency is not None else None
    return found.systems if found is not None else ()


def _instead(bench: Bench, draft: Draft, agreement: Agreement) -> Bench:
    """The bench with another version of the agreement, as far as its own tests look."""
    keys = {
        (AgencyId(test.provider), ServiceId(test.service), system)
        for test in draft.tests
        for system in (SystemId(test.client), *_systems(bench.catalogue, test.on_behalf))
    }

    def seen(catalogue: Catalogue, agreement: Agreement) -> Catalogue:
        grants: dict[GrantKey, tuple[tuple[Agreement, Grant], ...]] = {}
        for key in keys:
            others = tuple(each for each in catalogue.grants.get(key, ()) if each[0].id != agreement.id)
            own = (
                (agreement, grant)
                for grant in agreement.grants
                if (grant.provider, grant.service) == key[:2] and key[2] in grant.consumers
            )
            grants[key] = (*others, *own)
        return replace(catalogue, grants={key: each for key, each in grants.items() if each})

    return Bench(seen(bench.catalogue, agreement), seen(bench.lifted, replace(agreement, standing=Standing.ACTIVE)))
