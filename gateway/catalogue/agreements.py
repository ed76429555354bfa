"""Agreements under ``policies/`` with their decision tests: read, and made into the values that decide."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue import manifests
from gateway.catalogue.complaints import manifest
from gateway.catalogue.reading import Reading, Source, Spot, near
from gateway.core.life import Approval
from gateway.core.minimise import cut_of
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    AgreementId,
    Grant,
    Obligation,
    Pointer,
    ServiceId,
    Standing,
    SystemId,
)

GROUP = "group:"
DECISIONS = ".decisions.yaml"


@dataclass(frozen=True, slots=True)
class Draft:
    """An agreement as it was written, and its decision tests."""

    name: AgreementId
    path: Path
    written: manifests.Agreement
    source: Source
    tests: tuple[manifests.Decision, ...]
    tests_source: Source | None
    """None where there is no file, or a broken one that was reported."""

    @property
    def tests_path(self) -> Path:
        """The file of its decision tests."""
        return self.path.with_name(f"{self.name}{DECISIONS}")


@dataclass(frozen=True, slots=True)
class Drafts:
    """What was found under ``policies/``."""

    good: dict[AgreementId, Draft]
    broken: int
    """How many could not be read: decisions may depend on them."""


def drafts(reading: Reading) -> Drafts:
    """Every agreement that can be read."""
    folder = reading.root / "policies"
    good: dict[AgreementId, Draft] = {}
    broken = 0
    names = [each for each in reading.inside(folder) if each.suffix == ".yaml"]
    for path in (each for each in names if not each.name.endswith(DECISIONS)):
        draft = _draft(reading, path)
        if draft is None:
            broken += 1
        else:
            good[draft.name] = draft
    for path in (each for each in names if each.name.endswith(DECISIONS)):
        stem = path.name.removesuffix(DECISIONS)
        if not reading.is_file(path.with_name(f"{stem}.yaml")):
            known = (each.stem for each in names if not each.name.endswith(DECISIONS))
            remedy = f"{near(stem, known)}Name the file after its agreement, or remove it."
            reading.error(Spot(reading.name(path), 1), f'there is no agreement "{stem}"', remedy)
    for path in (each for each in reading.inside(folder) if each.suffix == ".yml"):
        reading.error(Spot(reading.name(path), 1), "a .yml file is not read", "Rename it to .yaml, or remove it.")
    return Drafts(good, broken)


def _draft(reading: Reading, path: Path) -> Draft | None:
    read = manifest(reading, path, manifests.Agreement)
    tests_path = path.with_name(path.name.removesuffix(".yaml") + DECISIONS)
    tests = manifest(reading, tests_path, manifests.Decisions) if reading.is_file(tests_path) else None
    if read is None:
        return None
    written, source = read
    if written.agreement != path.stem:
        message = f'the agreement "{written.agreement}" stands in a file named {path.stem}'
        reading.error(source.at("agreement"), message, f"Rename the file to {written.agreement}.yaml.")
        return None
    return Draft(
        AgreementId(written.agreement),
        path,
        written,
        source,
        tuple(tests[0].root) if tests else (),
        tests[1] if tests else None,
    )


def resolved(consumer: str, agencies: Iterable[Agency]) -> frozenset[SystemId]:
    """The systems that a line of consumers stands for: itself, or all systems of the agencies in a group."""
    if not consumer.startswith(GROUP):
        return frozenset({SystemId(consumer)})
    group = consumer.removeprefix(GROUP)
    return frozenset(system for agency in agencies if group in agency.groups for system in agency.systems)


def providers(written: manifests.Grant, agencies: Iterable[Agency]) -> tuple[AgencyId, ...]:
    """Whose service a grant means: the agency's, or of a group that of every member that takes such documents."""
    if not written.provider.startswith(GROUP):
        return (AgencyId(written.provider),)
    group, service = written.provider.removeprefix(GROUP), ServiceId(written.service)
    return tuple(sorted(each.id for each in agencies if group in each.groups and service in each.endpoints))


def obligations(written: manifests.Grant) -> frozenset[Obligation]:
    """What each call must bring. Where a second person approves, the first one must be known."""
    asked = frozenset(each for each in written.require if isinstance(each, Obligation))
    return asked if approval(written) is None else asked | {Obligation.PERSON}


def approval(written: manifests.Grant) -> Approval | None:
    """The second person that it asks for."""
    return next((each for each in written.require if isinstance(each, Approval)), None)


def granted(index: int, written: manifests.Grant, agencies: Collection[Agency]) -> tuple[Grant, ...]:
    """A grant of what was written, its groups resolved: one for each provider."""
    consumers: frozenset[SystemId] = frozenset().union(*(resolved(name, agencies) for name in written.consumers))
    return tuple(_grant(index, written, provider, consumers) for provider in providers(written, agencies))


def _grant(index: int, written: manifests.Grant, provider: AgencyId, consumers: frozenset[SystemId]) -> Grant:
    return Grant(
        index=index,
        service=ServiceId(written.service),
        provider=provider,
        consumers=consumers,
        purposes=frozenset(written.purposes),
        scope=written.scope,
        disclose=None if written.disclose is None else cut_of(written.disclose),
        disclosed=None if written.disclose is None else tuple(map(Pointer, written.disclose)),
        rate=written.limits.rate,
        quota=written.limits.quota,
        require=obligations(written),
        approval=approval(written),
    )


def agreement(draft: Draft, agencies: Collection[Agency]) -> Agreement:
    """The agreement as a value."""
    written = draft.written
    return Agreement(
        id=draft.name,
        title=written.title,
        legal_basis=written.legal_basis,
        parties=tuple(map(AgencyId, written.parties)),
        valid_from=written.valid.start,
        valid_until=written.valid.until,
        grants=tuple(one for index, each in enumerate(written.grants) for one in granted(index, each, agencies)),
        standing=Standing(written.standing),
    )
