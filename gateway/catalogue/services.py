"""Services and code lists under ``schemas/``: what is said, with its schemas and examples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.catalogue import manifests
from gateway.catalogue.bundling import Schemas, member_names
from gateway.catalogue.complaints import manifest
from gateway.catalogue.fitting import simple, singular
from gateway.catalogue.notation import SERVICE
from gateway.catalogue.reading import Reading, Source, Spot, near
from gateway.core.life import Accepted, Calendar, End, Life
from gateway.core.minimise import can_contain, parts
from gateway.core.model import Effect, Kind, Pointer, Service, ServiceId, Visibility
from gateway.core.shape import Shape

_SERVICE = re.compile(SERVICE)
_EXAMPLE = re.compile(r"(request|response|document)\.([a-z0-9_-]+)\.(pass|fail)\.json")
_COMMON = "common"
_EXCHANGED, _SENT = ("request", "response"), ("document",)
"""The parts of an exchange; of a document or an event."""
_NEEDED = {
    _EXCHANGED: (("request", "pass"), ("request", "fail"), ("response", "pass")),
    _SENT: (("document", "pass"), ("document", "fail")),
}
_OF_LIVES = ("order_by", "done_at", "deliver_within", "register_within", "attachments", "retention")
_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIN_KEEP_DAYS = 30
"""Days for which what was sent is kept at least: so long both sides may come back to it."""
_NOTHING = Shape({"not": {}})

_Shapes = dict[str, Shape | None]


@dataclass(slots=True)
class Services:
    """What was found under ``schemas/``."""

    good: dict[ServiceId, Service] = field(default_factory=dict)
    broken: set[ServiceId] = field(default_factory=set)
    """Described, and reported already: references to them are not reported again."""
    purposes: dict[str, str] | None = None
    """Code to title; None where the list itself is broken."""
    calendar: Calendar | None = None
    """None where there is none, or a broken one that was reported."""

    def kind(self, name: ServiceId) -> Kind | None:
        """What sort of service it is; None of one that could not be read."""
        return self.good[name].kind if name in self.good else None


def services(reading: Reading) -> Services:
    """Every service and the code list of purposes."""
    folder = reading.root / "schemas"
    schemas = Schemas(reading, folder)
    calendar = _calendar_of(reading)
    found = Services(purposes=_purposes(reading, folder / _COMMON / "purposes.yaml"))
    found.calendar = _calendar(reading, calendar) if reading.is_file(calendar) else None
    for path in _shared(reading, folder / _COMMON):
        schemas.sound(path)
    for domain in (each for each in reading.inside(folder) if reading.is_folder(each) and each.name != _COMMON):
        if reading.is_file(domain / "service.yaml"):
            found.broken |= _misplaced(reading, domain / "service.yaml")
            continue
        for place in (each for each in reading.inside(domain) if reading.is_folder(each) and each.name[0] != "_"):
            service, names = _service(reading, schemas, place)
            found.broken |= names
            if service is not None:
                found.good[service.id] = service
    return found


def _shared(reading: Reading, folder: Path) -> Iterator[Path]:
    """Every schema below the folder."""
    for path in reading.inside(folder):
        if reading.is_folder(path):
            yield from _shared(reading, path)
        elif path.suffix == ".json":
            yield path


def _misplaced(reading: Reading, path: Path) -> set[ServiceId]:
    """Report a service that stands one folder too high. Gives the name that it has of itself."""
    source = reading.yaml(path)
    given = source.value.get("service") if source is not None and isinstance(source.value, dict) else None
    name = given if isinstance(given, str) and _SERVICE.fullmatch(given) else None
    place = "/".join(name.split(".", 1)) if name else "<domain>/<name>.v1"
    spot = Spot(reading.name(path), 1)
    reading.error(spot, "a service stands two folders deep", f"Move its folder to schemas/{place}/.")
    return {ServiceId(name)} if name else set()


def _purposes(reading: Reading, path: Path) -> dict[str, str] | None:
    if not reading.is_file(path):
        spot = Spot(reading.name(path), 1)
        reading.error(spot, "the code list of purposes is missing", "Write source, date and purposes into this file.")
        return None
    read = manifest(reading, path, manifests.Purposes)
    if read is None:
        return None
    written, source = read
    purposes: dict[str, str] = {}
    for number, purpose in enumerate(written.purposes):
        if purpose.code in purposes:
            spot = source.at("purposes", number, "code")
            reading.error(spot, f'the purpose "{purpose.code}" stands twice', "Keep one of the two.")
        purposes.setdefault(purpose.code, purpose.title)
    return purposes


def _calendar_of(reading: Reading) -> Path:
    return reading.root / "schemas" / _COMMON / "calendar.yaml"


def _calendar(reading: Reading, path: Path) -> Calendar | None:
    read = manifest(reading, path, manifests.Calendar)
    if read is None:
        return None
    written, source = read
    days = [each.date for each in written.holidays]
    for number, day in enumerate(days):
        if day in days[:number]:
            reading.error(source.at("holidays", number, "date"), f"{day} stands twice", "Keep one of the two.")
    return Calendar(frozenset(map(_WEEK.index, written.week)), frozenset(days))


def _service(reading: Reading, schemas: Schemas, place: Path) -> tuple[Service | None, set[ServiceId]]:
    """The service in a folder, if it is whole; and the names under which it was reported already."""
    path, name = place / "service.yaml", ServiceId(f"{place.parent.name}.{place.name}")
    if not reading.is_file(path):
        spot = Spot(reading.name(path), 1)
        reading.error(spot, "the folder has no service.yaml", "Describe the service in it, or remove the folder.")
        return None, {name}
    read = manifest(reading, path, manifests.Service)
    sent = Kind(read[0].kind) is not Kind.EXCHANGE if read is not None else reading.is_file(place / "document.json")
    kinds = _SENT if sent else _EXCHANGED
    shapes = {part: _shape(reading, schemas, place, part) for part in kinds}
    _strays(reading, place, kinds)
    _examples(reading, place, shapes)
    if read is None:
        return None, {name}
    written, source = read
    names = {name, ServiceId(written.service)}
    named = _identity(reading, written, source, name)
    _own_keys(reading, written, source)
    _subjects(reading, written, source, shapes)
    if sent:
        _life(reading, written, source, shapes["document"])
    asked, answered = (shapes["document"], _NOTHING) if sent else (shapes["request"], shapes["response"])
    if asked is None or answered is None or not named:
        return None, names
    return _made(name, written, asked, answered), names - {name}


def _made(name: ServiceId, written: manifests.Service, asked: Shape, answered: Shape) -> Service:
    kind, subjects = Kind(written.kind), written.subjects
    return Service(
        id=name,
        title=written.title,
        kind=kind,
        effect=Effect(written.effect),
        visibility=Visibility(written.visibility),
        personal_data=written.personal_data,
        request_subjects=tuple(map(Pointer, subjects.request if kind is Kind.EXCHANGE else subjects.document)),
        response_subjects=tuple(map(Pointer, subjects.response)),
        max_bytes=written.max_bytes,
        standard=written.standard,
        request=asked,
        response=answered,
        life=None if kind is Kind.EXCHANGE else _lived(written),
    )


def _lived(written: manifests.Service) -> Life:
    files = written.attachments
    return Life(
        order_by=written.order_by,
        done_at=End(written.done_at),
        deliver_within=written.deliver_within,
        register_within=written.register_within,
        attachments=None if files is None else Accepted(tuple(files.types), files.max_bytes, files.max_count),
        keep_days=written.retention,
    )


def _identity(reading: Reading, written: manifests.Service, source: Source, name: ServiceId) -> bool:
    """Whether the folder's name is one that a service can have. Reports where it is not the service's."""
    named = _SERVICE.fullmatch(name) is not None
    if written.service != name:
        folder = "/".join(["schemas", *written.service.split(".", 1)])
        message = f'the service "{written.service}" stands in the folder {Path(source.file).parent.as_posix()}'
        rename = f"rename the folder to {folder}"
        remedy = f"Write service: {name}, or {rename}." if named else f"{rename.capitalize()}."
        reading.error(source.at("service"), message, remedy)
    return named


def _own_keys(reading: Reading, written: manifests.Service, source: Source) -> None:
    """Report keys that mean nothing for this kind of service."""
    exchange = Kind(written.kind) is Kind.EXCHANGE
    for key in _OF_LIVES if exchange else ("effect",):
        if key in written.model_fields_set:
            owner = "documents and events" if exchange else "exchanges"
            message = f'"{key}" is for {owner} alone'
            kinds = "kind: document" if exchange else "kind: exchange"
            reading.error(source.at(key), message, f"Take the line out, or write {kinds}.")
    parts_ = _EXCHANGED if exchange else _SENT
    for part in sorted(written.subjects.model_fields_set - set(parts_)):
        message = f"an {written.kind} has no {part}" if written.kind != "document" else f"a document has no {part}"
        remedy = f"Write the pointers under {' or '.join(parts_)}."
        reading.error(source.at("subjects", part), message, remedy)


def _life(reading: Reading, written: manifests.Service, source: Source, shape: Shape | None) -> None:
    """What a service says of its documents' lives, as far as it can be wrong by itself."""
    pointer = written.order_by
    if pointer is not None and shape is not None:
        spot = source.at("order_by")
        if not can_contain(shape.schema, pointer):
            meant = near(parts(pointer)[-1], member_names(shape.schema)) if pointer else ""
            remedy = f"{meant}Write a JSON Pointer to a member that document.json describes."
            reading.error(spot, f"the document can have nothing at {pointer or 'the empty pointer'}", remedy)
        elif not singular(shape.schema, parts(pointer)) or not simple(shape.schema, parts(pointer)):
            message = f"the document has no single text, number or boolean at {pointer or 'the empty pointer'}"
            remedy = "Write a JSON Pointer to a value such as a case number, not to an object or into a list."
            reading.error(spot, message, remedy)
    for key, span in (("deliver_within", written.deliver_within), ("register_within", written.register_within)):
        if span is not None and span.working_days and not reading.is_file(_calendar_of(reading)):
            remedy = "Write schemas/common/calendar.yaml with source, date, week and holidays, or write days: 30d."
            reading.error(source.at(key), "working days need a calendar", remedy)
    if written.retention < MIN_KEEP_DAYS:
        message = f"documents are kept for {written.retention} days"
        reading.error(source.at("retention"), message, f"Write at least {MIN_KEEP_DAYS}d.")


def _strays(reading: Reading, place: Path, kinds: tuple[str, ...]) -> None:
    """Report schemas that a service of this kind does not have: they would be taken for part of it."""
    for part in (*_EXCHANGED, *_SENT):
        path = place / f"{part}.json"
        if part not in kinds and reading.is_file(path):
            remedy = f"Remove it, or correct the kind: this one has {' and '.join(f'{each}.json' for each in kinds)}."
            reading.error(Spot(reading.name(path), 1), f"a service of this kind has no {part}.json", remedy)


def _shape(reading: Reading, schemas: Schemas, place: Path, part: str) -> Shape | None:
    path = place / f"{part}.json"
    if not reading.is_file(path):
        spot = Spot(reading.name(path), 1)
        reading.error(spot, f"the schema of the {part} is missing", "Write a JSON Schema 2020-12 into this file.")
        return None
    return schemas.shape(path)


def _subjects(reading: Reading, written: manifests.Service, source: Source, shapes: _Shapes) -> None:
    subjects = written.subjects
    pointers = {"request": subjects.request, "response": subjects.response, "document": subjects.document}
    if written.personal_data and not any(pointers[part] for part in shapes):
        first = next(iter(shapes))
        remedy = f"Name the JSON Pointers of the identifiers: subjects: {{{first}: [/identifier]}}."
        reading.error(source.at("subjects"), "personal data needs subjects", remedy)
    for part, shape in shapes.items():
        for number, pointer in enumerate(pointers[part]):
            if shape is not None and not can_contain(shape.schema, pointer):
                message = f"the {part} can have nothing at {pointer}"
                meant = near(parts(pointer)[-1], member_names(shape.schema)) if pointer else ""
                remedy = f"{meant}Write a JSON Pointer to a member that {part}.json describes."
                reading.error(source.at("subjects", part, number), message, remedy)


def _examples(reading: Reading, place: Path, shapes: _Shapes) -> None:
    verdicts = set()
    kinds = tuple(shapes)
    for path in reading.inside(place / "examples"):
        spot = Spot(reading.name(path), 1)
        name = _EXAMPLE.fullmatch(path.name)
        if name is None or name[1] not in kinds:
            remedy = f"Name it <part>.<label>.pass.json or .fail.json, part being {' or '.join(kinds)}."
            reading.error(spot, "the file's name says no verdict", remedy)
            continue
        part, _, verdict = name.groups()
        verdicts.add((part, verdict))
        source = reading.json(path)
        shape = shapes[part]
        if source is None or shape is None:
            continue
        for message in _surprise(shape, source, verdict):
            reading.error(spot, message, f"Correct the example, {part}.json, or the verdict in the file's name.")
    for part, verdict in _NEEDED[kinds]:
        if (part, verdict) not in verdicts:
            spot = Spot(reading.name(place / "service.yaml"), 1)
            remedy = f"Add one beside it, such as examples/{part}.plain.{verdict}.json."
            reading.error(spot, f"no example of a {part} that must {verdict}", remedy)


def _surprise(shape: Shape, source: Source, verdict: str) -> Iterator[str]:
    """What is wrong with an example's verdict."""
    faults = shape.faults(source.value)
    if shape.fits(source.value) != (not faults):
        yield "the two engines that check bodies disagree about it"
    elif faults and verdict == "pass":
        places = "; ".join(f"{fault.pointer or 'the whole'} {fault.detail}" for fault in faults[:3])
        yield f"must pass and does not: {places}"
    elif not faults and verdict == "fail":
        yield "must fail and fits the schema"
