"""Takes changed folders into use while the gateway runs: looked at, read, loaded aside, adopted between two calls.

Nothing watches by events: a look at names, sizes and times finds a change on network folders and mounted volumes too.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from gateway.catalogue.files import NOTHING, Files, Look, look, read, unit_of
from gateway.catalogue.lastgood import keep, without
from gateway.catalogue.reading import Finding
from gateway.catalogue.renewal import Kept, Renewed, renewed
from gateway.catalogue.snapshot import Loaded, Loader
from gateway.core.model import AgencyId, Catalogue
from gateway.edge.evidence import administered
from gateway.edge.journal import Journal
from gateway.edge.owed import Owed
from gateway.edge.providers import NotConnected
from gateway.edge.telemetry import Meters, place

EVERY = 0.5
"""Seconds between two looks, where they are quick."""
SELDOM = 1.0
"""Seconds between two at most."""
PART = 8
"""Looks take at most about this part of the time, an eighth, until they take more than that of a second."""
SETTLED = 0.1
"""Seconds for which nothing may change before it is read: an editor, a copy or `git pull` may be at work."""
LOOKS = 5
"""Looks that wait for that; then what still changes keeps its last good version, and the rest is read."""
ROUNDS = 4
"""Attempts to leave out what cannot be connected."""
SHOWN = 5
"""Folders and findings named in a log line, an entry or a health check; the others are counted."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Declared:
    """What the catalogue in use was made of, and how."""

    files: Files
    loader: Loader
    last_good: Path | None = None
    """Where the files that work are kept for processes that start later."""

    def load(self, files: Files) -> Loaded:
        """What these files make now."""
        return self.loader.load(files, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Places:
    """Where it is looked for changes."""

    root: Path
    keys: Path
    certificate: tuple[Path, ...] = ()
    """The files of the listener's TLS."""


@dataclass(frozen=True, slots=True)
class Use:
    """What is done with what was found."""

    loaded: Callable[[], Catalogue]
    """The one in use, as it was read."""
    adopt: Callable[[Catalogue, Files], Awaitable[None]]
    """Use this one from the next call on. Raises NotConnected, and then nothing changed."""
    lacking: Callable[[], Mapping[tuple[AgencyId, str], str]]
    """Endpoints and ways of the one in use that are not connected, and why."""
    renew: Callable[[], None] | None = None
    """Read the listener's certificate again. Raises ValueError, and then the one before stays."""


J = TypeVar("J", covariant=True)


class Connecting(Protocol[J]):
    """What makes a catalogue's systems ready: ``Providers``, or ``systems.Systems`` with the ways of documents too."""

    async def connect(self, catalogue: Catalogue, files: Files, *, whole: bool = True) -> J:
        """Raises NotConnected."""


@dataclass(frozen=True, slots=True)
class Begun(Generic[J]):
    """What a process starts with."""

    declared: Declared | None
    connected: J
    kept: str = ""
    """Folders of which it is not the new version, or not connected."""


async def begin(systems: Connecting[J], catalogue: Catalogue, declared: Declared | None) -> Begun[J]:
    """Connect what the catalogue names; nothing was declared in files where there is none.

    Beside others, which keep a last good version, one agency's missing secret or broken code keeps back nobody else:
    its last good version is used, and what cannot be connected even so goes lacking. Raises NotConnected in the first.
    """
    try:
        return Begun(declared, await systems.connect(catalogue, declared.files if declared else NOTHING))
    except NotConnected as error:
        units = frozenset(_unconnected(error.wrong))
        if declared is None:
            raise
        found = await asyncio.to_thread(without, units, declared.files, declared.load, declared.last_good)
        if found is None or found[0].catalogue is None:
            raise
    loaded, files = found[0].catalogue, found[1]
    connected = await systems.connect(loaded, files, whole=False)
    return Begun(replace(declared, files=files), connected, _some(units))


class Reload:
    """One reload at a time."""

    def __init__(self, use: Use, declared: Declared, places: Places, journal: Journal, meters: Meters) -> None:
        self.kept: Kept = {}
        """What runs on an older version than its files."""
        self._use = use
        self._good = declared.files
        self._offered: Files | None = None if use.lacking() else declared.files
        """What was last worked on to its end; None: what comes next is worked on, whatever it is."""
        self._load = declared.load
        self._last_good = declared.last_good
        self._unkept: Files | None = declared.files
        self._places = places
        self._meters = meters
        self._seen: Look | None = None
        self._certificate = self._certificate_seen = _stamps(places.certificate)
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._owed = Owed(journal)

    def ask(self) -> None:
        """Read everything again now, changed or not."""
        self._asked.set()

    async def go_on(self) -> None:
        """Look again and again, until cancelled; then what is owed to the journal is tried once more."""
        try:
            while True:
                took = await self._guarded()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(EVERY, took * PART), SELDOM)):
                        await self._asked.wait()
        finally:
            await self._owed.end()

    async def _guarded(self) -> float:
        """A round; whatever goes wrong in it, the next one must come."""
        try:
            return await self._round()
        except Exception as error:  # noqa: BLE001 - as above
            self._seen = None
            log.error("reload_broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            return 0.0

    async def _round(self) -> float:
        """The seconds that a look takes."""
        asked = self._asked.is_set()
        self._asked.clear()
        await self._keep()
        begun = time.monotonic()
        seen = await _looked(self._places)
        took = time.monotonic() - begun
        if asked or seen != self._seen:
            files, moving = await self._settled(seen)
            await self.take(files, moving, asked=asked)
        self._renew(asked=asked)
        await self._owed.write()  # it does not wait for a journal that fails: nothing else leaves meanwhile
        return took

    def _renew(self, *, asked: bool) -> None:
        """The listener's certificate, when its files changed and have rested for one round."""
        now = _stamps(self._places.certificate)
        rested, self._certificate_seen = now == self._certificate_seen, now
        if self._use.renew is None or not (asked or (rested and now != self._certificate)):
            return
        self._certificate = now
        try:
            self._use.renew()
        except ValueError as error:
            log.warning("certificate_not_renewed", why=str(error))
        else:
            log.info("certificate_renewed")

    async def _settled(self, seen: Look) -> tuple[Files, frozenset[str]]:
        """A reading during which nothing changed; or, where it never stops, what it is that changed."""
        for last in (*itertools.repeat(False, LOOKS - 1), True):
            await asyncio.sleep(SETTLED)
            before, seen = seen, await _looked(self._places)
            if before != seen and not last:
                continue
            files = await asyncio.to_thread(read, self._places.root, self._places.keys)
            seen = await _looked(self._places)
            if before == seen:
                self._seen = seen
                return files, frozenset()
        self._seen = None
        return files, frozenset(unit_of(label) for label, _ in before.items() ^ seen.items())

    async def take(self, files: Files, moving: Collection[str] = (), *, asked: bool = False) -> None:
        """Use as much of the files as can be used; ``moving`` are units that nobody could read in peace."""
        async with self._one:
            if not (asked or moving or self._offered is None) and files.same(self._offered):
                return
            self._offered = None
            before, was = self._use.loaded(), self._good
            found = await self._next(files, {unit: (_moving(unit),) for unit in moving})
            taken = found.files.changed(was)
            self._good = found.files
            kept = {**_unconnected(self._use.lacking()), **found.kept}
            self._tell(kept, taken)
            if self._use.loaded() is not before:
                self._owed.add(administered(self._use.loaded(), "reload", was=before.digest, kept=_some(kept) or None))
            self._offered = None if moving else files
            if taken:
                self._unkept = found.files
                await self._keep()
        await self._owed.write()

    async def _keep(self) -> None:
        files, self._unkept = self._unkept, None
        if self._last_good is None or files is None:
            return
        try:
            await asyncio.to_thread(keep, files, self._last_good)
        except OSError as error:
            log.warning("last_good_not_kept", why=error.strerror)

    async def _next(self, files: Files, kept: Kept) -> Renewed:
        """What could be taken over, and is in use now. What cannot be connected counts as broken."""
        good, loaded = self._good, Loaded(self._use.loaded(), (), ())
        for _ in range(ROUNDS):
            files = files.with_units(kept.keys(), good)
            same = Renewed(loaded, good, {})
            found = same if files.same(good) else await asyncio.to_thread(renewed, good, files, self._load)
            if found is None:
                break
            kept = {**kept, **found.kept}
            if found.files.same(good):
                found = same
                if not self._use.lacking():  # else what is lacking may be there again
                    return replace(same, kept=kept)
            if found.loaded.catalogue is None:
                break
            try:
                await self._use.adopt(found.loaded.catalogue, found.files)
            except NotConnected as error:
                kept = {**kept, **_unconnected(error.wrong)}
                continue
            return replace(found, kept=kept)
        return Renewed(loaded, good, {**dict.fromkeys(files.changed(good), ()), **kept})

    def _tell(self, kept: Kept, taken: Collection[str]) -> None:
        news, self.kept = kept != self.kept, kept
        outcome = ("kept_part" if kept else "taken") if taken else ("failed" if kept else "unchanged")
        self._meters.reloads.labels(outcome).inc()
        self._meters.kept.clear()
        for unit in kept:
            self._meters.kept.labels(unit).set(1)
        if taken:
            log.info("catalogue_reloaded", catalogue=self._use.loaded().digest[:16], folders=_some(taken))
        if kept and news:
            findings = list(itertools.chain.from_iterable(kept.values()))
            told = [f"{each.file}:{each.line}: {each.message}" for each in dict.fromkeys(findings)]
            log.warning("catalogue_kept", folders=_some(kept), findings=told[:SHOWN])
        elif not kept and (news or not taken):
            log.info("catalogue_whole", catalogue=self._use.loaded().digest[:16])

    def health(self) -> str:
        """The check ``catalogue``."""
        lacking = self._use.lacking()
        kept = {*_unconnected(lacking), *self.kept}
        if not kept:
            return "ok"
        what = "1 folder keeps its" if len(kept) == 1 else f"{len(kept)} folders keep their"
        rest = f"; endpoints not connected: {len(lacking)}" if lacking else ""
        return f"{what} last good version: {_some(kept)}{rest}"


async def _looked(places: Places) -> Look:
    return await asyncio.to_thread(look, places.root, places.keys)


def _stamps(paths: Iterable[Path]) -> tuple[tuple[int, int] | None, ...]:
    """What tells that a file changed; None where it is not there."""
    found: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_ctime_ns))
    return tuple(found)


def _some(units: Iterable[str]) -> str:
    names = sorted(units)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _moving(unit: str) -> Finding:
    return Finding("error", unit, 1, "its files keep changing", "Let them rest for a second.")


def _unconnected(wrong: Mapping[tuple[AgencyId, str], str]) -> dict[str, tuple[Finding, ...]]:
    """By unit, as findings."""
    found: dict[str, tuple[Finding, ...]] = {}
    for (agency, what), why in wrong.items():
        unit = f"adapters/{agency}"
        finding = Finding("error", f"{unit}/agency.yaml", 1, f"{what}: {why}", "Correct it.")
        found[unit] = (*found.get(unit, ()), finding)
    return found
