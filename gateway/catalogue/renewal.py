"""From a catalogue that works and files that changed to the next one: what is broken keeps its last good version."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gateway.catalogue.files import Files
from gateway.catalogue.reading import Finding
from gateway.catalogue.snapshot import Loaded

MAX_SINGLY = 32
"""Changed units that are tried one by one; where more depend on each other and errors remain, none is taken over."""
_PASSES = 2
_ORDER = ("schemas/common", "schemas/", "kafka.yaml", "adapters/", "policies/")
"""What others refer to comes first. What is taken away goes the other way, in the second pass."""

Load = Callable[[Files], Loaded]
Kept = Mapping[str, tuple[Finding, ...]]
"""By unit that keeps its last good version, the errors that kept it."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The next catalogue, what it was made of, and what was not taken over."""

    loaded: Loaded
    files: Files
    """New where they were taken over, the last good ones elsewhere."""
    kept: Kept


def renewed(good: Files, new: Files, load: Load) -> Renewed | None:
    """As much of the new files as makes a catalogue without errors. None where not even the last good ones do.

    The new files; without the units that are themselves broken; or, where a change took the ground from under
    something that stayed, the last good files with every changed unit that can be taken over.
    """
    kept: dict[str, tuple[Finding, ...]] = {}
    files = new
    while True:  # each round puts units back that differed, so that it ends
        loaded = load(files)
        if loaded.catalogue is not None:
            return Renewed(loaded, files, kept)
        broken = _by_unit(files, loaded.errors(), files.changed(good))
        if not broken:
            return _singly(_Turn(good, files, load), loaded.errors(), kept)
        kept |= broken
        files = files.with_units(broken.keys(), good)


def _by_unit(files: Files, errors: Collection[Finding], units: Collection[str]) -> dict[str, tuple[Finding, ...]]:
    """The errors that stand in these units' own files."""
    found: dict[str, tuple[Finding, ...]] = {}
    for error in errors:
        unit = files.unit_of(error.file)
        if unit in units:
            found[unit] = (*found.get(unit, ()), error)
    return found


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is between two versions."""

    good: Files
    new: Files
    load: Load

    def with_or_without(self, files: Files, unit: str, waiting: Collection[str]) -> tuple[Files, tuple[Finding, ...]]:
        """The files with the unit, and with those that wait and break without its change; or the errors."""
        tried = files.with_units({unit}, self.new)
        errors = self.load(tried).errors()
        if not errors:
            return tried, ()
        others = _by_unit(tried, errors, waiting).keys() - {unit}
        together = tried.with_units(others, self.new) if others else tried
        return (files, errors) if not others or self.load(together).errors() else (together, ())


def _singly(turn: _Turn, errors: tuple[Finding, ...], kept: Kept) -> Renewed | None:
    """Every changed unit by itself, or with the changed ones that need it."""
    files = turn.good
    waiting = _in_order(turn.new.changed(files))
    left = dict.fromkeys(waiting, errors)
    whole = all(turn.new.unit_of(each.file) for each in errors)  # else a folder is gone or cannot be read
    for number in range(_PASSES if whole and len(waiting) <= MAX_SINGLY else 0):
        for unit in waiting if number == 0 else reversed(waiting):
            if unit in left:
                files, left[unit] = turn.with_or_without(files, unit, left)
                left = {each: left[each] for each in left if each in turn.new.changed(files)}
    loaded = turn.load(files)
    return None if loaded.catalogue is None else Renewed(loaded, files, {**kept, **left})


def _in_order(units: Collection[str]) -> list[str]:
    return sorted(units, key=lambda unit: (min(n for n, kind in enumerate(_ORDER) if unit.startswith(kind)), unit))
