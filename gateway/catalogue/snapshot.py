"""Loads everything that people declared into one immutable, digested catalogue, or says all that is wrong with it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.catalogue import agencies, agents, agreements, checks, decisions, kafka, services
from gateway.catalogue.agreements import Draft, Drafts
from gateway.catalogue.derived import stale
from gateway.catalogue.endpoints import endpoints
from gateway.catalogue.files import FOLDERS, Files, read
from gateway.catalogue.keyfiles import KeyFiles
from gateway.catalogue.posting import posting, unheard
from gateway.catalogue.reading import Finding, Known, Reading, Spot, digest
from gateway.catalogue.shelf import Shelf
from gateway.catalogue.ways import documents
from gateway.catalogue.wires import wires
from gateway.core.model import AgreementId, Catalogue, SystemId, agency_of, catalogue


@dataclass(frozen=True, slots=True)
class Loaded:
    """A catalogue, or None where anything is wrong; and every finding, by file and line."""

    catalogue: Catalogue | None
    findings: tuple[Finding, ...]
    drafts: tuple[Draft, ...]
    """The agreements as they were written, for whoever adds to their files."""

    def errors(self) -> tuple[Finding, ...]:
        """What keeps it from being a catalogue."""
        return tuple(each for each in self.findings if each.level == "error")


@dataclass(slots=True)
class Loader:
    """Makes catalogues of files for one instance, again and again: what it knows of a file's bytes it keeps."""

    instance: str
    zone: ZoneInfo
    environment: Mapping[str, str] | None = None
    """None leaves ``${NAME}`` as it is; otherwise a variable that is not set is an error."""
    _known: dict[str, Known] = field(default_factory=dict, repr=False)

    def load(self, files: Files, at: datetime) -> Loaded:
        """The same files at the same time make the same catalogue, whatever was loaded before.

        ``at`` is the time by which agreements count as expired. Raises nothing: every mistake is a finding.
        """
        reading = Reading(files, self._known)
        if not any(each in files.folders for each in FOLDERS):
            remedy = "Name the catalogue's folder: GATEWAY_CATALOGUE, or --root."
            reading.error(Spot(".", 1), f"there is no schemas/, adapters/ or policies/ in {reading.root}", remedy)
            return Loaded(None, tuple(reading.findings), ())
        loaded = self._loaded(reading, at.astimezone(self.zone).date())
        for label in self._known.keys() - files.contents.keys():
            del self._known[label]
        return loaded

    def _loaded(self, reading: Reading, today: date) -> Loaded:
        shelf = _shelf(reading, self.instance, today, self.environment)
        found = agreements.drafts(reading)
        endpoints(shelf)
        posting(shelf)
        wires(shelf)
        cluster = kafka.cluster(shelf, self.environment)
        agents.hold(shelf)
        leading = {draft.name for draft in found.good.values() if checks.agreement(shelf, draft)}
        who = shelf.agencies
        whole = catalogue(
            instance=self.instance,
            zone=self.zone,
            digest=digest(reading.used),
            services=shelf.services.good,
            agencies={name: declared.agency for name, declared in who.good.items()},
            agreements={name: agreements.agreement(draft, who.all()) for name, draft in found.good.items()},
            purposes=shelf.services.purposes or {},
            calendar=shelf.services.calendar,
            kafka=cluster,
        )
        if not found.broken:
            unheard(shelf, whole)
            _decide(shelf, found, leading, whole)
        findings = ordered(_in_order(reading))
        sound = not any(each.level == "error" for each in findings)
        return Loaded(whole if sound else None, findings, tuple(found.good.values()))


def load(
    root: Path,
    *,
    instance: str,
    zone: ZoneInfo,
    keys: Path,
    at: datetime,
    environment: Mapping[str, str] | None = None,
    derived: bool = False,
) -> Loaded:
    """Read ``schemas/``, ``adapters/``, ``policies/`` and ``kafka.yaml`` below ``root``, and key files below ``keys``.

    ``derived`` also looks at the files that ``scaffold.write`` makes. The rest is as for ``Loader``.
    """
    loaded = Loader(instance, zone, environment).load(read(root, keys), at)
    found = stale(root) if derived else ()
    if not found:
        return loaded
    return replace(loaded, catalogue=None, findings=ordered([*loaded.findings, *found]))


def _shelf(reading: Reading, instance: str, today: date, environment: Mapping[str, str] | None) -> Shelf:
    said = services.services(reading)
    key_files = KeyFiles(reading, instance)
    key_files.hold_strays()
    who = agencies.agencies(
        reading, agencies.Surroundings(key_files, environment, today, documents(said.good.values()))
    )
    return Shelf(reading, said, who, instance, today)


def _decide(shelf: Shelf, found: Drafts, leading: set[AgreementId], whole: Catalogue) -> None:
    clouded = _clouded(shelf, found, leading)
    bench = decisions.Bench(whole, decisions.lifted(whole))
    for draft in found.good.values():
        decisions.hold(shelf, bench, draft, clouded if draft.name in leading else None)


def _in_order(reading: Reading) -> list[Finding]:
    """The findings; ``--write`` adds nothing to a catalogue with errors, and remedies say so."""
    command = "gateway check --write"
    if not reading.errors():
        return reading.findings
    later = f"{command} after the errors are corrected"
    return [replace(each, remedy=each.remedy.replace(command, later)) for each in reading.findings]


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by file and line."""
    return tuple(dict.fromkeys(sorted(findings, key=lambda each: (each.file, each.line, each.level, each.message))))


def _clouded(shelf: Shelf, found: Drafts, leading: set[AgreementId]) -> frozenset[tuple[str, str]]:
    """Providers and services whose decisions would only repeat what was reported already."""
    wrong = {each.file for each in shelf.reading.findings if each.level == "error"}
    amiss = {name for name, declared in shelf.agencies.good.items() if declared.source.file in wrong}
    return frozenset(
        (provider, grant.service)
        for draft in found.good.values()
        for grant in draft.written.grants
        for provider in _meant(grant.provider, shelf)
        if draft.name not in leading
        or provider in shelf.agencies.broken
        or provider in amiss
        or grant.service in shelf.services.broken
        or any(_touches(consumer, shelf) for consumer in grant.consumers)
    )


def _meant(provider: str, shelf: Shelf) -> Collection[str]:
    """The provider of a grant; of a group everybody who is in it, or may be."""
    if not provider.startswith(agreements.GROUP):
        return (provider,)
    group = provider.removeprefix(agreements.GROUP)
    return {provider, *(each.id for each in shelf.agencies.all() if group in each.groups), *shelf.agencies.broken}


def _touches(consumer: str, shelf: Shelf) -> bool:
    """Whether an agency that could not be read may stand behind the consumer."""
    broken = shelf.agencies.broken
    return bool(broken) and (consumer.startswith(agreements.GROUP) or agency_of(SystemId(consumer)) in broken)
