"""When an endpoint is called, called again, or left alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.catalogue.files import NOTHING, Files, read
from gateway.core.breaker import FAILURES
from gateway.core.model import Agency, AgencyId, Catalogue, Endpoint, ServiceId, Standing, Window, catalogue
from gateway.edge.outbound import HttpOutbound
from gateway.edge.providers import Providers
from gateway.edge.workshop import Workshop
from gateway.protocols.protocol import Answer, Call, ProviderFault, Surroundings
from tests.fakes import systems
from tests.fakes.systems import call, endpoint, hostile
from tests.fakes.town import until

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = (AgencyId("interior"), ServiceId("population.person_lookup.v1"))
CODE = "adapters/interior/adapter.py"
ANSWER = Answer({}, b"", b"{}")
UNSENT = ProviderFault("provider.unavailable", "Nobody there.", sent=False, unheard=True)
CUT = ProviderFault("provider.broken", "Broke.", sent=True, unheard=True)
TIMEOUT = ProviderFault("provider.timeout", "Slow.", sent=True)
NOT_TAKEN = ProviderFault("provider.unavailable", "503.", sent=False)
NOT_FOUND = ProviderFault("provider.not_found", "None.", sent=True, definite=True)
BROKEN = ProviderFault("provider.broken", "Said so.", sent=True, definite=True)
UNFIT = ProviderFault("provider.refused", "The call was not made.", sent=False)


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scripted:
    """A provider that does what comes next in its script, and answers when that is over."""

    script: list[ProviderFault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    takes: float = 0.0
    clock: Clock = field(default_factory=Clock)
    wait: asyncio.Event | None = None
    closed: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    goes: asyncio.Event | None = None

    async def call(self, call: Call) -> Answer:
        self.calls.append(call)
        self.clock.now += self.takes
        if self.wait is not None:
            await self.wait.wait()
        if self.script:
            fault = self.script.pop(0)
            raise ProviderFault(
                fault.code, fault.detail, sent=fault.sent, definite=fault.definite, unheard=fault.unheard
            )
        return ANSWER

    async def close(self) -> None:
        self.closed += 1
        self.gone.set()
        if self.goes is not None:
            await self.goes.wait()


def of(*endpoints: Endpoint) -> Catalogue:
    agency = Agency(
        id=KEY[0],
        title={"en": "Interior"},
        kind="gov",
        country="KH",
        contacts={},
        units=(),
        groups=frozenset(),
        signatories={},
        systems={},
        endpoints={endpoint.service: endpoint for endpoint in endpoints},
        issuers=(),
        standing=Standing.ACTIVE,
    )
    return catalogue(
        instance="DEMO", zone=UTC, digest="", services={}, agencies={agency.id: agency}, agreements={}, purposes={}
    )


async def serving(provider: Scripted, served: Endpoint | None = None) -> tuple[Providers, Endpoint]:
    """Providers with one endpoint, behind which the scripted provider stands."""
    served = served or endpoint("scripted")
    around = Surroundings(HttpOutbound(), python=False)
    providers = Providers(around, provider.clock, Workshop({"scripted": lambda *_: provider}))
    await adopt(providers, of(served))
    return providers, served


async def adopt(providers: Providers, these: Catalogue, files: Files = NOTHING) -> None:
    providers.adopt(await providers.connect(these, files))


async def ask(providers: Providers, served: Endpoint, asked: Call | None = None, *, reads: bool = False) -> Answer:
    return await providers.call(served, asked or call("x"), AT, repeatable=reads)


async def fault(providers: Providers, served: Endpoint, *, reads: bool = False) -> ProviderFault:
    with pytest.raises(ProviderFault) as caught:
        await ask(providers, served, reads=reads)
    return caught.value


async def test_a_call_goes_through() -> None:
    """The provider gets the call as it is."""
    providers, served = await serving(provider := Scripted())
    assert await ask(providers, served) is ANSWER
    assert provider.calls == [call("x")]
    assert providers.states() == {KEY: "closed"}


@pytest.mark.parametrize(
    ("first", "reads", "calls"),
    [
        (UNSENT, False, 2),
        (UNSENT, True, 2),
        (CUT, False, 1),
        (CUT, True, 2),
        (TIMEOUT, True, 1),
        (NOT_TAKEN, True, 1),
        (NOT_FOUND, True, 1),
        (BROKEN, True, 1),
        (UNFIT, True, 1),
    ],
)
async def test_what_is_asked_again(first: ProviderFault, reads: bool, calls: int) -> None:  # noqa: FBT001
    """Only a connection that failed is tried again: unsent always, cut for a read; never after the provider spoke."""
    providers, served = await serving(provider := Scripted([first]))
    if calls == 2:
        await ask(providers, served, reads=reads)
    else:
        await fault(providers, served, reads=reads)
    assert len(provider.calls) == calls


@pytest.mark.parametrize(("takes", "key", "calls"), [(True, "k", 2), (True, None, 1), (False, "k", 1)])
async def test_a_write_is_repeated_only_with_its_key(takes: bool, key: str | None, calls: int) -> None:  # noqa: FBT001
    """A cut write goes out again where the provider takes the key, and the key is there."""
    providers, served = await serving(provider := Scripted([CUT, CUT]), replace(endpoint("scripted"), takes_key=takes))
    with pytest.raises(ProviderFault):
        await ask(providers, served, replace(call("x"), idempotency_key=key))
    assert len(provider.calls) == calls


async def test_there_is_one_retry_and_it_may_have_been_sent() -> None:
    """Two attempts at most; if the first may have arrived, the second one's being unsent does not undo that."""
    providers, served = await serving(provider := Scripted([CUT, UNSENT, UNSENT]))
    found = await fault(providers, served, reads=True)
    assert (len(provider.calls), found.code, found.sent) == (2, "provider.unavailable", True)


@pytest.mark.parametrize(("takes", "seconds"), [(0.0, [5.0, 5.0]), (2.0, [5.0, 3.0]), (5.0, [5.0])])
async def test_one_deadline_for_both_attempts(takes: float, seconds: list[float]) -> None:
    """The second attempt gets what is left, and there is none when nothing is left."""
    providers, served = await serving(provider := Scripted([UNSENT, UNSENT], takes=takes))
    await fault(providers, served)
    assert [asked.seconds for asked in provider.calls] == seconds


async def test_the_shorter_time_holds() -> None:
    """The endpoint's deadline bounds a call that was given more, and a call that was given less keeps it."""
    providers, served = await serving(provider := Scripted(), replace(endpoint("scripted"), deadline=2.0))
    for seconds in (60.0, 1.0):
        await ask(providers, served, replace(call("x"), seconds=seconds))
    assert [asked.seconds for asked in provider.calls] == [2.0, 1.0]


@pytest.mark.parametrize(("hours", "wait"), [(2, 7200.0), (None, None)])
async def test_maintenance(hours: int | None, wait: float | None) -> None:
    """In a window nothing is sent, and the consumer learns when it ends."""
    window = Window(AT - timedelta(hours=1), None if hours is None else AT + timedelta(hours=hours))
    providers, served = await serving(provider := Scripted(), replace(endpoint("scripted"), maintenance=(window,)))
    found = await fault(providers, served)
    assert (found.code, found.sent, found.retry_after) == ("provider.maintenance", False, wait)
    assert not provider.calls


@pytest.mark.parametrize("failure", [UNSENT, CUT, TIMEOUT, NOT_TAKEN])
async def test_a_failing_system_is_left_alone(failure: ProviderFault) -> None:
    """After failures in a row nothing is sent for a while; then one probe, and its success lets all through."""
    provider = Scripted([failure] * FAILURES * 2)
    providers, served = await serving(provider)
    for _ in range(FAILURES):
        await fault(providers, served)
    provider.script, calls = [], len(provider.calls)
    found = await fault(providers, served)
    assert (found.code, found.sent, found.retry_after) == ("provider.unavailable", False, 5.0)
    assert (len(provider.calls), providers.states()[KEY]) == (calls, "open")
    provider.clock.now += 5.0
    await ask(providers, served)
    assert providers.states()[KEY] == "closed"


@pytest.mark.parametrize("word", [NOT_FOUND, BROKEN, UNFIT])
async def test_a_definite_word_is_no_failure(word: ProviderFault) -> None:
    """A system that says no is a system that works."""
    providers, served = await serving(Scripted([word] * FAILURES))
    for _ in range(FAILURES):
        await fault(providers, served)
    assert providers.states()[KEY] == "closed"


async def test_a_cancelled_probe_lets_the_next_one_through() -> None:
    """A consumer that goes away during the probe locks nobody out."""
    providers, served = await serving(provider := Scripted([TIMEOUT] * FAILURES))
    for _ in range(FAILURES):
        await fault(providers, served)
    provider.clock.now += 5.0
    provider.wait = asyncio.Event()
    probe = asyncio.create_task(ask(providers, served))
    await asyncio.sleep(0)
    assert providers.states()[KEY] == "half-open"
    assert (await fault(providers, served)).retry_after == 1.0
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    provider.wait = None
    assert await ask(providers, served) is ANSWER


async def test_a_full_endpoint_keeps_nobody_waiting() -> None:
    """One call more than the endpoint takes is refused at once, and there is room again afterwards."""
    providers, served = await serving(
        provider := Scripted(wait=asyncio.Event()), replace(endpoint("scripted"), concurrency=2)
    )
    running = [asyncio.create_task(ask(providers, served)) for _ in range(2)]
    await asyncio.sleep(0)
    found = await fault(providers, served)
    assert (found.code, found.sent, found.retry_after) == ("provider.unavailable", False, 1.0)
    assert provider.wait is not None
    provider.wait.set()
    await asyncio.gather(*running)
    assert await ask(providers, served) is ANSWER
    assert providers.states()[KEY] == "closed"


def reloading(*, late: float = 0.0) -> tuple[Providers, list[Scripted]]:
    """Providers that note each connection; one whose options say so cannot be connected."""
    made: list[Scripted] = []

    def connect(endpoint: Endpoint, surroundings: Surroundings) -> Scripted:
        if endpoint.options.get("wrong"):
            raise ValueError("its options are wrong")
        made.append(Scripted())
        return made[-1]

    around = Surroundings(HttpOutbound(), python=False)
    return Providers(around, Clock(), Workshop({"scripted": connect}), late=late), made


async def test_a_reload_keeps_what_is_unchanged() -> None:
    """An unchanged endpoint keeps its provider and its record; a changed one is connected anew, the old one closed."""
    providers, made = reloading()
    await adopt(providers, of(endpoint("scripted", a=1)))
    await adopt(providers, of(endpoint("scripted", a=1)))
    assert len(made) == 1
    await adopt(providers, of(endpoint("scripted", a=2)))
    await until(lambda: made[0].closed)
    assert [provider.closed for provider in made] == [1, 0]


async def test_an_exchange_asks_the_system_of_its_own_catalogue() -> None:
    """What began before a reload is not sent to where the endpoint is now; what began after it is."""
    providers, made = reloading(late=30.0)
    before, after = endpoint("scripted", a=1), endpoint("scripted", a=2)
    for served in (before, after):
        await adopt(providers, of(served))
    await ask(providers, before)
    await ask(providers, after)
    await ask(providers, replace(after, standing=Standing.SUSPENDED))
    assert [len(each.calls) for each in made] == [1, 2]
    await providers.close()
    assert [each.closed for each in made] == [1, 1]


async def test_new_code_or_a_new_secret_connects_anew() -> None:
    """The manifest says the same and what it names changed: the endpoint is connected again."""
    providers, made = reloading()
    for code in (b"1", b"1", b"2"):
        await adopt(providers, of(endpoint("scripted")), replace(NOTHING, contents={CODE: code}))
    assert len(made) == 2


async def test_a_reload_lets_running_calls_end() -> None:
    """What is no longer served is closed when its last call has ended."""
    providers, made = reloading()
    served = endpoint("scripted")
    await adopt(providers, of(served))
    made[0].wait = asyncio.Event()
    running = asyncio.create_task(ask(providers, served))
    await asyncio.sleep(0)
    await adopt(providers, of())
    await asyncio.sleep(0)
    assert made[0].closed == 0
    made[0].wait.set()
    assert await running is ANSWER
    await providers.close()
    assert made[0].closed == 1
    assert (await fault(providers, served)).sent is False


async def test_a_wrong_reload_changes_nothing() -> None:
    """All or nothing: each wrong endpoint gets its line, and the old ones go on."""
    providers, made = reloading()
    served = endpoint("scripted")
    await adopt(providers, of(served))
    wrong = replace(endpoint("scripted", wrong=True), service=ServiceId("a.b.v1"))
    unknown = replace(endpoint("telex"), service=ServiceId("a.c.v1"))
    with pytest.raises(ValueError, match="its options are wrong") as caught:
        await adopt(providers, of(endpoint("scripted", a=2), wrong, unknown))
    assert str(caught.value).splitlines() == [
        "interior a.b.v1: its options are wrong",
        "interior a.c.v1: the protocol 'telex' is not served; use one of scripted",
    ]
    await asyncio.sleep(0)
    assert await ask(providers, served) is ANSWER
    assert [provider.closed for provider in made] == [0, 1]


async def test_close_lets_go_of_everything() -> None:
    """At shutdown every provider is closed once."""
    providers, served = await serving(provider := Scripted())
    await ask(providers, served)
    await providers.close()
    assert (provider.closed, providers.states()) == (1, {})


@pytest.fixture
async def around(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with HttpOutbound() as outbound:
        yield Surroundings(outbound, python=False, files=read(tmp_path, tmp_path))


@pytest.mark.parametrize(("reads", "connections"), [(True, 2), (False, 1)])
async def test_over_a_real_connection(around: Surroundings, reads: bool, connections: int) -> None:  # noqa: FBT001
    """A read whose connection breaks is asked twice on the wire, a write once."""
    async with hostile(systems.resets) as system:
        options: Mapping[str, object] = {"url": system.url}
        providers = Providers(around, asyncio.get_running_loop().time)
        await adopt(providers, of(served := endpoint("http", **options)))
        assert (await fault(providers, served, reads=reads)).code == "provider.broken"
    assert system.connections == connections
