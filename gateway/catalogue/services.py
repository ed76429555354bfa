"""Services and code lists under ``schemas/``: what is said, with its schemas and examples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.catalogue import manifests
from gateway.catalogue.bundling import Schemas, member_names
from gateway.catalogue.complaints import manifest
from gateway.catalogue.notation import SERVICE
from gateway.catalogue.reading import Reading, Source, Spot, near
from gateway.core.minimise import can_contain, parts
from gateway.core.model import Effect, Kind, Pointer, Service, ServiceId, Visibility
from gateway.core.shape import Shape

_SERVICE = re.compile(SERVICE)
_EXAMPLE = re.compile(r"(request|response)\.([a-z0-9_-]+)\.(pass|fail)\.json")
_COMMON = "common"


@dataclass(slots=True)
class Services:
    """What was found under ``schemas/``."""

    good: dict[ServiceId, Service] = field(default_factory=dict)
    broken: set[ServiceId] = field(default_factory=set)
    """Described, and reported already: references to them are not reported again."""
    purposes: dict[str, str] | None = None
    """Code to title; None where the list itself is broken."""


def services(reading: Reading) -> Services:
    """Every service and the code list of purposes."""
    folder = reading.root / "schemas"
    schemas = Schemas(reading, folder)
    found = Services(purposes=_purposes(reading, folder / _COMMON / "purposes.yaml"))
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


def _service(reading: Reading, schemas: Schemas, place: Path) -> tuple[Service | None, set[ServiceId]]:
    """The service in a folder, if it is whole; and the names under which it was reported already."""
    path, name = place / "service.yaml", ServiceId(f"{place.parent.name}.{place.name}")
    if not reading.is_file(path):
        spot = Spot(reading.name(path), 1)
        reading.error(spot, "the folder has no service.yaml", "Describe the service in it, or remove the folder.")
        return None, {name}
    read = manifest(reading, path, manifests.Service)
    shapes = {part: _shape(reading, schemas, place, part) for part in ("request", "response")}
    _examples(reading, place, shapes)
    if read is None:
        return None, {name}
    written, source = read
    names = {name, ServiceId(written.service)}
    named = _identity(reading, written, source, name)
    _subjects(reading, written, source, shapes)
    request, response = shapes["request"], shapes["response"]
    if request is None or response is None or not named:
        return None, names
    made = Service(
        id=name,
        title=written.title,
        kind=Kind(written.kind),
        effect=Effect(written.effect),
        visibility=Visibility(written.visibility),
        personal_data=written.personal_data,
        request_subjects=tuple(map(Pointer, written.subjects.request)),
        response_subjects=tuple(map(Pointer, written.subjects.response)),
        max_bytes=written.max_bytes,
        standard=written.standard,
        request=request,
        response=response,
    )
    return made, names - {name}


def _identity(reading: Reading, written: manifests.Service, source: Source, name: ServiceId) -> bool:
    """Whether the folder's name is one that a service can have. Reports where it is not the service's."""
    named = _SERVICE.fullmatch(name) is not None
    if written.service != name:
        folder = "/".join(["schemas", *written.service.split(".", 1)])
        message = f'the service "{written.service}" stands in the folder {Path(source.file).parent.as_posix()}'
        rename = f"rename the folder to {folder}"
        remedy = f"Write service: {name}, or {rename}." if named else f"{rename.capitalize()}."
        reading.error(source.at("service"), message, remedy)
    if written.kind != "exchange":
        remedy = "Write kind: exchange, or leave the service out until the gateway serves the other kinds."
        reading.error(source.at("kind"), f'the kind "{written.kind}" is not served yet', remedy)
    return named


def _shape(reading: Reading, schemas: Schemas, place: Path, part: str) -> Shape | None:
    path = place / f"{part}.json"
    if not reading.is_file(path):
        spot = Spot(reading.name(path), 1)
        reading.error(spot, f"the schema of the {part} is missing", "Write a JSON Schema 2020-12 into this file.")
        return None
    return schemas.shape(path)


def _subjects(reading: Reading, written: manifests.Service, source: Source, shapes: dict[str, Shape | None]) -> None:
    pointers = {"request": written.subjects.request, "response": written.subjects.response}
    if written.personal_data and not any(pointers.values()):
        remedy = "Name the JSON Pointers of the identifiers: subjects: {request: [/identifier]}."
        reading.error(source.at("subjects"), "personal data needs subjects", remedy)
    for part, shape in shapes.items():
        for number, pointer in enumerate(pointers[part]):
            if shape is not None and not can_contain(shape.schema, pointer):
                message = f"the {part} can have nothing at {pointer}"
                meant = near(parts(pointer)[-1], member_names(shape.schema)) if pointer else ""
                remedy = f"{meant}Write a JSON Pointer to a member that {part}.json describes."
                reading.error(source.at("subjects", part, number), message, remedy)


def _examples(reading: Reading, place: Path, shapes: dict[str, Shape | None]) -> None:
    verdicts = set()
    for path in reading.inside(place / "examples"):
        spot = Spot(reading.name(path), 1)
        name = _EXAMPLE.fullmatch(path.name)
        if name is None:
            remedy = "Name it <part>.<label>.pass.json or .fail.json, part being request or response."
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
    for part, verdict in (("request", "pass"), ("request", "fail"), ("response", "pass")):
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
