"""Every endpoint's provider: how many calls it gets at once, when it is left alone, when it is asked again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.core.breaker import Outcome
from gateway.core.model import AgencyId, Catalogue, Endpoint, ServiceId
from gateway.edge.turnstile import Turnstile
from gateway.protocols import http, python
from gateway.protocols.protocol import Answer, Call, Factory, Provider, ProviderFault, Surroundings

PROTOCOLS: Mapping[str, Factory] = {"http": http.connect, "python": python.connect}
"""By the manifest's word. A new protocol is a module in ``protocols`` and a line here."""

LATE = 30.0
"""Seconds for which what a reload replaced serves the exchanges that began before: longer than a body may take."""
MAX_LATE = 256
"""Endpoints that are kept so."""

_FAILURES = frozenset({"provider.unavailable", "provider.timeout", "provider.broken"})

_Key = tuple[AgencyId, ServiceId]


class NotConnected(ValueError):
    """Some endpoints cannot be connected; the text has a line for each."""

    def __init__(self, wrong: Mapping[_Key, str]) -> None:
        super().__init__("\n".join(f"{agency} {service}: {why}" for (agency, service), why in wrong.items()))
        self.wrong = wrong


@dataclass(slots=True, eq=False)
class _Slot:
    """One endpoint as it is used now, in this process."""

    endpoint: Endpoint
    provider: Provider
    seal: bytes = b""
    """Of what it was connected with beside the endpoint's options."""
    turnstile: Turnstile = field(init=False)
    retired: bool = False

    def __post_init__(self) -> None:
        self.turnstile = Turnstile(self.endpoint)


class Providers:
    """Calls agencies' systems, each under its own limits."""

    def __init__(
        self,
        surroundings: Surroundings,
        clock: Callable[[], float],
        protocols: Mapping[str, Factory] = PROTOCOLS,
        *,
        late: float = LATE,
    ) -> None:
        """``clock`` gives monotonic seconds; ``late`` are LATE ones."""
        self._seconds_late = late
        self._surroundings = surroundings
        self._clock = clock
        self._protocols = protocols
        self._slots: dict[_Key, _Slot] = {}
        self._late: dict[_Slot, asyncio.TimerHandle] = {}
        """Replaced, and still there for exchanges that began before."""
        self._closing: set[asyncio.Task[None]] = set()

    def adopt(self, catalogue: Catalogue, seals: Mapping[str, bytes] | None = None) -> None:
        """Serve this catalogue's endpoints from now on: unchanged ones stay, others are connected anew.

        ``seals`` tell, by agency, whether what its endpoints are connected with changed: code and secrets. All or
        nothing: raises NotConnected. What is no longer used is closed LATE seconds later, or when its last call has
        ended.
        """
        slots, wrong = self._connected(catalogue, seals or {})
        if wrong:
            for each in slots.values():
                if each not in self._slots.values():
                    self._retire(each)
            raise NotConnected(wrong)
        for key, slot in slots.items():
            slot.endpoint = catalogue.agencies[key[0]].endpoints[key[1]]
        before, self._slots = self._slots, slots
        for key, slot in before.items():
            if slots.get(key) is not slot:
                self._replace(slot)

    def _connected(self, catalogue: Catalogue, seals: Mapping[str, bytes]) -> tuple[dict[_Key, _Slot], dict[_Key, str]]:
        """A slot for each endpoint, and what is wrong with the others."""
        slots: dict[_Key, _Slot] = {}
        wrong: dict[_Key, str] = {}
        for agency in catalogue.agencies.values():
            seal = seals.get(agency.id, b"")
            for endpoint in agency.endpoints.values():
                key = (endpoint.provider, endpoint.service)
                old = self._slots.get(key)
                if old is not None and old.seal == seal and _alike(old.endpoint, endpoint):
                    slots[key] = old
                    continue
                try:
                    slots[key] = _Slot(endpoint, self._connect(endpoint), seal)
                except ValueError as error:
                    wrong[key] = str(error)
        return slots, wrong

    def _replace(self, slot: _Slot) -> None:
        """An exchange that is still taking its body in asks the system that its own catalogue names."""
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
        """The one that the endpoint describes; of a catalogue before, as long as it is there."""
        slot = self._slots.get((endpoint.provider, endpoint.service))
        if slot is not None and (slot.endpoint is endpoint or _alike(slot.endpoint, endpoint)):
            return slot
        late = (each for each in self._late if _alike(each.endpoint, endpoint))
        return next(late, slot)

    def states(self) -> Mapping[_Key, str]:
        """The breaker of each endpoint: ``closed``, ``open`` or ``half-open``."""
        now = self._clock()
        return {key: str(slot.turnstile.state(now)) for key, slot in self._slots.items()}

    async def close(self) -> None:
        """Let go of every provider, whatever runs."""
        slots, self._slots = self._slots, {}
        for late in list(self._late):
            self._retire(late)
        for slot in slots.values():
            await slot.provider.close()
        await asyncio.gather(*self._closing)

    async def call(self, endpoint: Endpoint, call: Call, at: datetime, *, repeatable: bool) -> Answer:
        """Ask, within the endpoint's deadline and ``call.seconds``. Raises ProviderFault.

        ``repeatable``: the service only reads, so that a second attempt does no harm. ``at`` is the exchange's time.
        """
        _hold_maintenance(endpoint, at)
        slot = self._slot(endpoint)
        if slot is None:
            detail = f"{endpoint.provider} no longer provides {endpoint.service}."
            raise ProviderFault("provider.unavailable", detail, sent=False)
        ticket = slot.turnstile.enter(call.consumer, self._clock())
        harmless = repeatable or (endpoint.takes_key and call.idempotency_key is not None)
        outcome = Outcome.SILENT  # also of a call that is cancelled
        try:
            answer = await self._attempt(slot, call, harmless=harmless)
            outcome = Outcome.ANSWERED
        except ProviderFault as fault:
            outcome = _outcome(fault)
            raise
        finally:
            slot.turnstile.leave(ticket, outcome, self._clock())
            self._close_unused(slot)
        return answer

    async def _attempt(self, slot: _Slot, call: Call, *, harmless: bool) -> Answer:
        seconds = min(call.seconds, slot.endpoint.deadline)
        end = self._clock() + seconds
        try:
            return await slot.provider.call(call if call.seconds == seconds else replace(call, seconds=seconds))
        except ProviderFault as fault:
            left = end - self._clock()
            if not fault.unheard or left <= 0 or (fault.sent and not harmless):
                raise
            first = fault
        try:
            return await slot.provider.call(replace(call, seconds=left))
        except ProviderFault as fault:
            fault.sent = fault.sent or first.sent
            raise

    def _connect(self, endpoint: Endpoint) -> Provider:
        factory = self._protocols.get(endpoint.protocol)
        if factory is None:
            known = ", ".join(sorted(self._protocols))
            raise ValueError(f"the protocol {endpoint.protocol!r} is not served; use one of {known}")
        return factory(endpoint, self._surroundings)

    def _close_unused(self, slot: _Slot) -> None:
        if not slot.retired or slot.turnstile.running:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside of a loop nothing was called, so nothing is open
            return
        task = loop.create_task(slot.provider.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


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
