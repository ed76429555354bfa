"""Agreements under ``policies/`` with their decision tests: read, and made into the values that decide."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue import manifests
from gateway.catalogue.complaints import manifest
from gateway.catalogue.reading import Reading, Source, Spot, near
from gateway.core.minimise import cut_of
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    AgreementId,
    Grant,
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


def grant(index: int, written: manifests.Grant, consumers: Iterable[frozenset[SystemId]]) -> Grant:
    """A grant of what was written, for the systems that its consumers stand for."""
    return Grant(
        index=index,
        service=ServiceId(written.service),
        provider=AgencyId(written.provider),
        consumers=frozenset().union(*consumers),
        purposes=frozenset(written.purposes),
        scope=written.scope,
        disclose=None if written.disclose is None else cut_of(written.disclose),
        disclosed=None if written.disclose is None else tuple(map(Pointer, written.disclose)),
        rate=written.limits.rate,
        quota=written.limits.quota,
        require=frozenset(written.require),
    )


def agreement(draft: Draft, agencies: Collection[Agency]) -> Agreement:
    """The agreement as a value, its groups resolved."""
    written = draft.written
    return Agreement(
        id=draft.name,
        title=written.title,
        legal_basis=written.legal_basis,
        parties=tuple(map(AgencyId, written.parties)),
        valid_from=written.valid.start,
        valid_until=written.valid.until,
        grants=tuple(
            grant(index, each, [resolved(consumer, agencies) for consumer in each.consumers])
            for index, each in enumerate(written.grants)
        ),
        standing=Standing(written.standing),
    )
