"""Every endpoint's provider: how many calls it gets at once, when it is left alone, when it is asked again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.core.breaker import Breaker, Outcome, ask, settle
from gateway.core.model import AgencyId, Catalogue, Endpoint, ServiceId
from gateway.protocols import http, python
from gateway.protocols.protocol import Answer, Call, Factory, Provider, ProviderFault, Surroundings

PROTOCOLS: Mapping[str, Factory] = {"http": http.connect, "python": python.connect}
"""By the manifest's word. A new protocol is a module in ``protocols`` and a line here."""

_FAILURES = frozenset({"provider.unavailable", "provider.timeout", "provider.broken"})

_Key = tuple[AgencyId, ServiceId]


@dataclass(slots=True)
class _Slot:
    """One endpoint as it is used now, in this process."""

    endpoint: Endpoint
    provider: Provider
    breaker: Breaker = field(default_factory=Breaker)
    running: int = 0
    retired: bool = False


class Providers:
    """Calls agencies' systems, each under its own limits."""

    def __init__(
        self,
        surroundings: Surroundings,
        clock: Callable[[], float],
        protocols: Mapping[str, Factory] = PROTOCOLS,
    ) -> None:
        """``clock`` gives monotonic seconds."""
        self._surroundings = surroundings
        self._clock = clock
        self._protocols = protocols
        self._slots: dict[_Key, _Slot] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def adopt(self, catalogue: Catalogue) -> None:
        """Serve this catalogue's endpoints from now on: unchanged ones stay, others are connected anew.

        All or nothing: raises ValueError with a line for each endpoint that cannot be connected. What is no longer
        used is closed when its last call has ended.
        """
        slots, wrong = self._connected(catalogue)
        if wrong:
            self._retire(slots, but=self._slots)
            raise ValueError("\n".join(wrong))
        before, self._slots = self._slots, slots
        self._retire(before, but=slots)

    def _connected(self, catalogue: Catalogue) -> tuple[dict[_Key, _Slot], list[str]]:
        """A slot for each endpoint, and what is wrong with the others."""
        slots: dict[_Key, _Slot] = {}
        wrong: list[str] = []
        for agency in catalogue.agencies.values():
            for endpoint in agency.endpoints.values():
                key = (endpoint.provider, endpoint.service)
                old = self._slots.get(key)
                if old is not None and old.endpoint == endpoint:
                    slots[key] = old
                    continue
                try:
                    slots[key] = _Slot(endpoint, self._connect(endpoint))
                except ValueError as error:
                    wrong.append(f"{endpoint.provider} {endpoint.service}: {error}")
        return slots, wrong

    def _retire(self, slots: Mapping[_Key, _Slot], *, but: Mapping[_Key, _Slot]) -> None:
        for key, slot in slots.items():
            if but.get(key) is not slot:
                slot.retired = True
                self._close_unused(slot)

    def states(self) -> Mapping[_Key, str]:
        """The breaker of each endpoint: ``closed``, ``open`` or ``half-open``."""
        return {key: str(slot.breaker.state) for key, slot in self._slots.items()}

    async def close(self) -> None:
        """Let go of every provider, whatever runs."""
        slots, self._slots = self._slots, {}
        for slot in slots.values():
            await slot.provider.close()
        await asyncio.gather(*self._closing)

    async def call(self, endpoint: Endpoint, call: Call, at: datetime, *, repeatable: bool) -> Answer:
        """Ask, within the endpoint's deadline and ``call.seconds``. Raises ProviderFault.

        ``repeatable``: the service only reads, so that a second attempt does no harm. ``at`` is the exchange's time.
        """
        _hold_maintenance(endpoint, at)
        slot = self._slots.get((endpoint.provider, endpoint.service))
        if slot is None:
            detail = f"{endpoint.provider} no longer provides {endpoint.service}."
            raise ProviderFault("provider.unavailable", detail, sent=False)
        probe = self._admit(slot)
        harmless = repeatable or (endpoint.takes_key and call.idempotency_key is not None)
        outcome = Outcome.SILENT  # also of a call that is cancelled
        try:
            answer = await self._attempt(slot, call, harmless=harmless)
            outcome = Outcome.ANSWERED
        except ProviderFault as fault:
            outcome = _outcome(fault)
            raise
        finally:
            slot.running -= 1
            slot.breaker = settle(slot.breaker, outcome, self._clock(), probe=probe)
            self._close_unused(slot)
        return answer

    def _admit(self, slot: _Slot) -> bool:
        """Take one of the endpoint's places, if its breaker agrees; whether the call is the probe."""
        if slot.running >= slot.endpoint.concurrency:  # nobody queues: waiting callers would pile up
            detail = f"{slot.endpoint.provider} has as many calls in hand as it takes."
            raise ProviderFault("provider.unavailable", detail, sent=False, retry_after=1.0)
        given = ask(slot.breaker, self._clock())
        if given.wait is not None:
            detail = f"The system of {slot.endpoint.provider} has failed repeatedly and is left alone for now."
            raise ProviderFault("provider.unavailable", detail, sent=False, retry_after=given.wait)
        slot.breaker = given.breaker
        slot.running += 1
        return given.probe

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
        if not slot.retired or slot.running:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside of a loop nothing was called, so nothing is open
            return
        task = loop.create_task(slot.provider.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _hold_maintenance(endpoint: Endpoint, at: datetime) -> None:
    for window in endpoint.maintenance:
        if window.holds(at):
            wait = None if window.end is None else (window.end - at).total_seconds()
            until = "" if window.end is None else f" until {window.end.isoformat()}"
            detail = f"{endpoint.provider} is in maintenance{until}."
            raise ProviderFault("provider.maintenance", detail, sent=False, retry_after=wait)


def _outcome(fault: ProviderFault) -> Outcome:
    if fault.code in _FAILURES and not fault.definite:
        return Outcome.FAILED
    return Outcome.ANSWERED if fault.sent else Outcome.SILENT
