"""Every endpoint's provider: how many calls it gets at once, when it is left alone, when it is asked again."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.catalogue.files import Files
from gateway.core.breaker import Outcome
from gateway.core.model import AgencyId, Catalogue, Endpoint, Kind
from gateway.edge.turnstile import Turnstile
from gateway.edge.workshop import PROTOCOLS, Key, Workshop
from gateway.protocols.protocol import Answer, Call, Provider, ProviderFault, Surroundings

LATE = 30.0
"""Seconds for which what a reload replaced serves the exchanges that began before: longer than a body may take."""
MAX_LATE = 256
"""Endpoints that are kept so."""

_FAILURES = frozenset({"provider.unavailable", "provider.timeout", "provider.broken"})


class NotConnected(ValueError):
    """Some endpoints cannot be connected; the text has a line for each."""

    def __init__(self, wrong: Mapping[Key, str] | Mapping[tuple[AgencyId, str], str]) -> None:
        """``wrong`` is by endpoint, or by the name of a way."""
        super().__init__("\n".join(f"{agency} {what}: {why}" for (agency, what), why in wrong.items()))
        self.wrong: Mapping[tuple[AgencyId, str], str] = {(agency, what): why for (agency, what), why in wrong.items()}


@dataclass(slots=True, eq=False)
class _Slot:
    """One endpoint as it is used now, in this process."""

    endpoint: Endpoint
    provider: Provider
    seal: bytes
    """Of what it was connected with beside the endpoint's options."""
    turnstile: Turnstile = field(init=False)
    retired: bool = False

    def __post_init__(self) -> None:
        self.turnstile = Turnstile(self.endpoint)


@dataclass(frozen=True, slots=True)
class _Lacking:
    """An endpoint that could not be connected, with what, and why."""

    endpoint: Endpoint
    seal: bytes
    why: str

    def same(self, before: "_Lacking | None") -> bool:
        """Whether it was lacking before, and nothing changed that it is connected with."""
        return before is not None and before.seal == self.seal and _alike(before.endpoint, self.endpoint)


@dataclass(frozen=True, slots=True)
class Connected:
    """What serves a catalogue's endpoints, ready to be adopted."""

    catalogue: Catalogue
    slots: Mapping[Key, _Slot]
    lacking: Mapping[Key, _Lacking]
    """They answer ``provider.unavailable``."""


class Providers:
    """Calls agencies' systems, each under its own limits."""

    def __init__(
        self,
        surroundings: Surroundings,
        clock: Callable[[], float],
        workshop: Workshop[Endpoint, Provider] | None = None,
        *,
        late: float = LATE,
    ) -> None:
        """``clock`` gives monotonic seconds; ``late`` are LATE ones."""
        self._seconds_late = late
        self._workshop = workshop or Workshop(PROTOCOLS)
        self._surroundings = surroundings
        self._clock = clock
        self._slots: Mapping[Key, _Slot] = {}
        self._lacking: Mapping[Key, _Lacking] = {}
        self._late: dict[_Slot, asyncio.TimerHandle] = {}
        """Replaced, and still there for exchanges that began before."""
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self, catalogue: Catalogue, files: Files, *, whole: bool = True) -> Connected:
        """Make ready what serves this catalogue's endpoints: unchanged ones stay, others are connected anew.

        ``files`` are what it was made of; code or secrets that changed there connect an endpoint anew too. Raises
        NotConnected; but an endpoint that is lacking already may be so unchanged, and where not ``whole``, any.
        """
        seals = files.seals()
        slots: dict[Key, _Slot] = {}
        wanted: dict[Key, Endpoint] = {}
        for key, endpoint in _endpoints(catalogue):
            old = self._slots.get(key)
            if old is not None and old.seal == seals.get(key[0], b"") and _alike(old.endpoint, endpoint):
                slots[key] = old
            else:
                wanted[key] = endpoint
        lacking: dict[Key, _Lacking] = {}
        for key, made in (await self._workshop.made(wanted, replace(self._surroundings, files=files))).items():
            endpoint, seal = wanted[key], seals.get(key[0], b"")
            if isinstance(made, str):
                lacking[key] = _Lacking(endpoint, seal, made)
            else:
                slots[key] = _Slot(endpoint, made, seal)
        wrong = {key: each.why for key, each in lacking.items() if whole and not each.same(self._lacking.get(key))}
        if wrong:
            for key in wanted.keys() & slots.keys():
                self._retire(slots[key])
            raise NotConnected(wrong)
        return Connected(catalogue, slots, lacking)

    def adopt(self, connected: Connected) -> None:
        """Serve its catalogue from now on. What is no longer used is closed LATE seconds later.

        Where a call runs then, it is closed when its last one has ended.
        """
        for key, slot in connected.slots.items():
            slot.endpoint = connected.catalogue.agencies[key[0]].endpoints[key[1]]
        before, self._slots, self._lacking = self._slots, connected.slots, connected.lacking
        for key, slot in before.items():
            if self._slots.get(key) is not slot:
                self._replace(slot)

    def discard(self, connected: Connected) -> None:
        """Let go of what was made for a catalogue that is not adopted."""
        for key, slot in connected.slots.items():
            if self._slots.get(key) is not slot:
                self._retire(slot)

    def lacking(self) -> Mapping[tuple[AgencyId, str], str]:
        """Endpoints of the catalogue in use that are not connected, and why."""
        return {(agency, service): each.why for (agency, service), each in self._lacking.items()}

    def _replace(self, slot: _Slot) -> None:
        """Keep it for exchanges that began before: they ask the system that their own catalogue names, or none."""
        self._late[slot] = asyncio.get_running_loop().call_later(self._seconds_late, self._retire, slot)
        while len(self._late) > MAX_LATE:
            self._retire(next(iter(self._late)))

    def _retire(self, slot: _Slot) -> None:
        timer = self._late.pop(slot, None)
        if timer is not None:
            timer.cancel()
        slot.retired = True
        self._close_unused(slot)

    def _slot(self, endpoint: Endpoint) -> _Slot | None:
        """The one that the endpoint describes; of a catalogue before, as long as it is there. Never another one."""
        slot = self._slots.get((endpoint.provider, endpoint.service))
        if slot is not None and (slot.endpoint is endpoint or _alike(slot.endpoint, endpoint)):
            return slot
        return next((each for each in self._late if _alike(each.endpoint, endpoint)), None)

    def states(self) -> Mapping[Key, str]:
        """The breaker of each endpoint: ``closed``, ``open`` or ``half-open``."""
        now = self._clock()
        return {key: str(slot.turnstile.state(now)) for key, slot in self._slots.items()}

    async def close(self) -> None:
        """Let go of every provider, whatever runs."""
        slots, self._slots = self._slots, {}
        for late in list(self._late):
            self._retire(late)
        await asyncio.gather(*self._closing, *(slot.provider.close() for slot in slots.values()))

    async def call(self, endpoint: Endpoint, call: Call, at: datetime, *, repeatable: bool) -> Answer:
        """Ask, within the endpoint's deadline and ``call.seconds``. Raises ProviderFault.

        ``repeatable``: the service only reads, so that a second attempt does no harm. ``at`` is the exchange's time.
        """
        _hold_maintenance(endpoint, at)
        slot = self._slot(endpoint)
        if slot is None:
            detail = f"{endpoint.provider} cannot be asked for {endpoint.service}: the endpoint changed or is amiss."
            raise ProviderFault("provider.unavailable", detail, sent=False)
        ticket = slot.turnstile.enter(call.consumer, self._clock())
        harmless = repeatable or (endpoint.takes_key and call.idempotency_key is not None)
        outcome = Outcome.SILENT  # also of a call that is cancelled
        try:
            answer = await _attempted(slot, call, self._clock, harmless=harmless)
            outcome = Outcome.ANSWERED
        except ProviderFault as fault:
            outcome = _outcome(fault)
            raise
        finally:
            slot.turnstile.leave(ticket, outcome, self._clock())
            self._close_unused(slot)
        return answer

    def _close_unused(self, slot: _Slot) -> None:
        if slot.retired and not slot.turnstile.running:
            task = asyncio.get_running_loop().create_task(slot.provider.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _attempted(slot: _Slot, call: Call, clock: Callable[[], float], *, harmless: bool) -> Answer:
    seconds = min(call.seconds, slot.endpoint.deadline)
    end = clock() + seconds
    try:
        return await slot.provider.call(call if call.seconds == seconds else replace(call, seconds=seconds))
    except ProviderFault as fault:
        left = end - clock()
        if not fault.unheard or left <= 0 or (fault.sent and not harmless):
            raise
        first = fault
    try:
        return await slot.provider.call(replace(call, seconds=left))
    except ProviderFault as fault:
        fault.sent = fault.sent or first.sent
        raise


def _endpoints(catalogue: Catalogue) -> Iterable[tuple[Key, Endpoint]]:
    """Those of exchanges: documents are handed over by ways, and nobody asks for events."""
    for agency in catalogue.agencies.values():
        for endpoint in agency.endpoints.values():
            service = catalogue.services.get(endpoint.service)
            if service is None or service.kind is Kind.EXCHANGE:
                yield (endpoint.provider, endpoint.service), endpoint


def _alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether both are called in the same way; whether they may be, others decide."""
    return all(getattr(one, name) == getattr(other, name) for name in _CALLED)


_CALLED = ("provider", "service", "protocol", "options", "deadline", "concurrency", "takes_key")


def _hold_maintenance(endpoint: Endpoint, at: datetime) -> None:
    for window in endpoint.maintenance:
        if window.holds(at):
            wait = None if window.end is None else (window.end - at).total_seconds()
            until = "" if window.end is None else f" until {window.end.isoformat()}"
            detail = f"{endpoint.provider} is in maintenance{until}."
            raise ProviderFault("provider.maintenance", detail, sent=False, retry_after=wait)


def _outcome(fault: ProviderFault) -> Outcome:
    if fault.code in _FAILURES and not fault.definite:
        return Outcome.UNREACHED if fault.unheard and not fault.sent else Outcome.FAILED
    return Outcome.ANSWERED if fault.sent else Outcome.SILENT
