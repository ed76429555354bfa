"""Takes changed folders into use while the gateway runs: looked at, read, loaded aside, adopted between two calls.

Nothing watches by events: a look at names, sizes and times finds a change on network folders and mounted volumes too.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from gateway.catalogue.files import Files, Look, look, read, unit_of
from gateway.catalogue.lastgood import keep
from gateway.catalogue.reading import Finding
from gateway.catalogue.renewal import Kept, Renewed, renewed
from gateway.catalogue.snapshot import Loaded, Loader
from gateway.core.entry import Draft
from gateway.core.model import Catalogue
from gateway.core.refusal import Refusal
from gateway.edge.evidence import administered
from gateway.edge.journal import Journal
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
MAX_OWED = 64
"""Entries that wait for a journal that cannot be written."""
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
    adopt: Callable[[Catalogue, Files], None]
    """Use this one from the next call on. Raises NotConnected, and then nothing changed."""
    renew: Callable[[], None] | None = None
    """Read the listener's certificate again. Raises ValueError, and then the one before stays."""


class Reload:
    """One reload at a time."""

    def __init__(self, use: Use, declared: Declared, places: Places, journal: Journal, meters: Meters) -> None:
        self.kept: Kept = {}
        """What runs on an older version than its files."""
        self._use = use
        self._good = declared.files
        self._offered: Files | None = declared.files
        """What was last worked on to its end; None: what comes next is worked on, whatever it is."""
        self._load = lambda files: declared.loader.load(files, datetime.now(UTC))
        self._last_good = declared.last_good
        self._places = places
        self._journal = journal
        self._meters = meters
        self._seen: Look | None = None
        self._certificate = self._certificate_seen = _stamps(places.certificate)
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._owed: deque[Draft] = deque(maxlen=MAX_OWED)

    def ask(self) -> None:
        """Read everything again now, changed or not."""
        self._asked.set()

    async def go_on(self) -> None:
        """Look again and again, until cancelled."""
        await self._keep(self._good)
        while True:
            took = 0.0
            try:
                took = await self._round()
            except Exception as error:  # noqa: BLE001 - the next look must come
                self._seen = None
                log.error("reload_broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            try:
                async with asyncio.timeout(min(max(EVERY, took * PART), SELDOM)):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float:
        """The seconds that a look takes."""
        asked = self._asked.is_set()
        self._asked.clear()
        begun = time.monotonic()
        seen = await _looked(self._places)
        took = time.monotonic() - begun
        if asked or seen != self._seen:
            files, moving = await self._settled(seen)
            await self.take(files, moving, asked=asked)
        self._renew(asked=asked)
        await self._write()
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
            self._tell(found.kept, taken)
            if self._use.loaded() is not before:
                known = {"was": before.digest, "kept": _some(found.kept) or None}
                self._owed.append(administered(self._use.loaded(), "reload", **known))
            self._offered = None if moving else files
            if taken:
                await self._keep(found.files)
        await self._write()

    async def _keep(self, files: Files) -> None:
        if self._last_good is None:
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
            if files.same(good):
                return Renewed(loaded, good, kept)
            found = await asyncio.to_thread(renewed, good, files, self._load)
            if found is None or found.loaded.catalogue is None:
                break
            kept = {**kept, **found.kept}
            if found.files.same(good):
                return Renewed(loaded, good, kept)
            try:
                self._use.adopt(found.loaded.catalogue, found.files)
            except NotConnected as error:
                kept = {**kept, **_unconnected(error)}
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

    async def _write(self) -> None:
        async with self._writing:
            while self._owed:
                try:
                    await self._journal.append(self._owed[0])
                except Refusal:
                    return  # a reload must not wait: nothing else leaves while the journal cannot be written
                self._owed.popleft()

    def health(self) -> str:
        """The check ``catalogue``."""
        if not self.kept:
            return "ok"
        many = len(self.kept)
        what = "1 folder keeps its" if many == 1 else f"{many} folders keep their"
        return f"{what} last good version: {_some(self.kept)}"


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


def _unconnected(error: NotConnected) -> dict[str, tuple[Finding, ...]]:
    """By unit, as findings."""
    found: dict[str, tuple[Finding, ...]] = {}
    for (agency, service), why in error.wrong.items():
        unit = f"adapters/{agency}"
        finding = Finding("error", f"{unit}/agency.yaml", 1, f"{service}: {why}", "Correct the endpoint.")
        found[unit] = (*found.get(unit, ()), finding)
    return found
