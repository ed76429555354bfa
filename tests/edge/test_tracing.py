"""When traces are made at all, how a caller's trace goes on, and what bounds the spans that wait."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.edge import tracing
from gateway.edge.spans import FLUSH_SECONDS, MAX_SPANS, MAX_TRACES, Recording
from gateway.edge.telemetry import SLOW, exemplar
from gateway.edge.tracing import JOURNAL, PROVIDER, PassingOn, Untraced, mistakes, wanted
from tests.architecture.sources import ROOT, modules, resolved
from tests.fakes.collector import collecting, says, silent
from tests.fakes.town import until

EXCHANGE = "01a200c3-2c37-7272-b800-464fee4a4a36"
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROUTE = "POST /v1/exchange/{agency}/{service}"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CLOSED = "http://127.0.0.1:1"
"""Nobody listens there."""


class Count:
    """Counts what is lost."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()

    def spans_dropped(self, why: str, count: int) -> None:
        self.lost[why] += count


def recorded() -> tuple[Recording, Count]:
    """A tracer, and what counts for it."""
    count = Count()
    return Recording("KH", count), count


refuses = says(400, b"nonsense")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "asks"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": ""}, False),
        ({"OTEL_SERVICE_NAME": "gateway"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({ENDPOINT: "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_standard_variables_ask_for_traces(environment: Mapping[str, str], asks: bool) -> None:  # noqa: FBT001 - a column of the table
    """An exporter or an address switches traces on; none and disabled switch them off."""
    assert wanted(environment) is asks
    assert mistakes(environment) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        (ENDPOINT, "collector:4317"),
        (ENDPOINT, "http://[::1"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_start(name: str, value: str) -> None:
    """The SDK would go on with something else; the gateway names the variable instead."""
    (wrong,) = mistakes({ENDPOINT: "http://127.0.0.1:4318", name: value})
    assert wrong.startswith(("OTEL_TRACES_SAMPLER_ARG", name))
    with pytest.raises(ValueError, match=name):
        tracing.opened({ENDPOINT: "http://127.0.0.1:4318", name: value}, "DEMO", Count())


@pytest.mark.parametrize("ratio", ["", "half", "1.5", "-0.1", "nan"])
def test_a_ratio_is_a_ratio(ratio: str) -> None:
    """From 0 to 1, and nothing else."""
    environment = {ENDPOINT: "http://c:1", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    assert len(mistakes(environment)) == 1
    assert mistakes({**environment, "OTEL_TRACES_SAMPLER_ARG": "0.25"}) == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (CALLER, "00-4bf92f3577b34da6a3ce929d0e0e4736-b800464fee4a4a36-01"),
        (None, "00-01a200c32c377272b800464fee4a4a36-b800464fee4a4a36-00"),
        ("00-zz-1-01", "00-01a200c32c377272b800464fee4a4a36-b800464fee4a4a36-00"),
    ],
)
def test_without_opentelemetry_a_trace_goes_on(theirs: str | None, ours: str) -> None:
    """The caller's trace and flag are kept; without one, or with a broken one, the exchange's id is the trace's."""
    span = PassingOn().begin(ROUTE, theirs, EXCHANGE)
    assert (span.traceparent, span.sampled) == (ours, False)
    with span.part(PROVIDER, provider="interior") as traceparent:
        assert traceparent == ours


def test_one_module_knows_opentelemetry() -> None:
    """No other module imports it, and none imports that one: it is loaded by name, where variables ask for it."""
    knows = {
        module.name
        for module in modules("gateway")
        for name, _ in module.imports()
        if name.partition(".")[0] in ("opentelemetry", "requests")
    }
    takes = [module.name for module in modules("gateway") for name, _ in module.imports() if resolved(name) in knows]
    assert (knows, takes) == ({"gateway.edge.spans"}, [])


SCRIPT = """
import asyncio, sys
from pathlib import Path
import gateway.commands.serve
from tests.fakes.parties import LOOK_UP, PERSON, TAX
from tests.fakes.town import opened

async def main():
    async with opened(Path(sys.argv[1])) as town:
        assert (await town.call(TAX, LOOK_UP, PERSON)).status == 200

asyncio.run(main())
strange = ("opentelemetry", "requests", "google")
print([name for name in sys.modules if name.partition(".")[0] in strange], file=sys.stderr)
"""


def test_nothing_of_opentelemetry_is_loaded_without_its_variables(tmp_path: Path) -> None:
    """A process that serves an exchange without them has none of its modules; with them it has."""
    seen = []
    for number, variables in enumerate(({}, {ENDPOINT: "http://127.0.0.1:9"})):
        (folder := tmp_path / str(number)).mkdir()
        told = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "-c", SCRIPT, str(folder)],
            env={**os.environ, **variables},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        seen.append(told.stderr.decode().strip().splitlines()[-1])
    assert seen[0] == "[]"
    assert "opentelemetry.sdk.trace" in seen[1]


async def test_a_system_has_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its share one system's requests become no spans; another's still do."""
    monkeypatch.setenv(ENDPOINT, CLOSED)
    recording, count = recorded()
    for _ in range(MAX_TRACES + 50):
        recording.begin(ROUTE, CALLER, EXCHANGE).end(200, consumer="finance.local_tax")
    assert 1 <= count.lost["share"] <= 50
    before = count.lost["share"]
    recording.begin(ROUTE, CALLER, EXCHANGE).end(200, consumer="health.roster")
    assert count.lost["share"] == before
    await recording.close()


async def test_spans_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that never answers: MAX_SPANS wait, whole requests beyond are dropped and counted, nothing blocks."""
    async with collecting() as collector:
        collector.react = silent
        monkeypatch.setenv(ENDPOINT, collector.url)
        recording, count = recorded()
        for number in range(MAX_SPANS):
            span = recording.begin(ROUTE, CALLER, EXCHANGE)
            with span.part(JOURNAL, step="answered"):
                pass
            span.end(200, consumer=str(number % 100))
        assert MAX_SPANS * 0.5 <= count.lost["queue"] <= MAX_SPANS
        assert count.lost["queue"] % 2 == 0
        assert count.lost["share"] == 0
        async with asyncio.timeout(FLUSH_SECONDS + 2):
            await recording.close()


async def test_a_ratio_counts_on_traces_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter is sampled: an exchange's id would not do as a trace's, since its last 64 bits begin with two fixed."""
    monkeypatch.setenv(ENDPOINT, CLOSED)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    recording, _ = recorded()
    spans = [recording.begin(ROUTE, None, EXCHANGE) for _ in range(2000)]
    assert 400 < sum(span.sampled for span in spans) < 600
    followed = recording.begin(ROUTE, CALLER, EXCHANGE)
    refused = recording.begin(ROUTE, CALLER.removesuffix("01") + "00", EXCHANGE)
    assert (followed.sampled, refused.sampled, isinstance(refused, Untraced)) == (True, False, True)
    assert refused.traceparent.endswith("-00")
    await recording.close()


async def test_what_waits_is_sent_at_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans made just before the end arrive, although the batch was not full and its time not come."""
    async with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        recording, count = recorded()
        recording.begin(ROUTE, CALLER, EXCHANGE).end(200, consumer="finance.local_tax")
        await recording.close()
        assert [span.name for span in collector.spans] == [ROUTE]
        assert not count.lost


async def test_the_resource_is_what_its_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count more than what the gateway calls itself."""
    async with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "kh-gateway")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=production")
        recording, _ = recorded()
        recording.begin(ROUTE, None, EXCHANGE).end(200)
        await recording.close()
        assert collector.resource["service.name"] == "kh-gateway"
        assert collector.resource["deployment.environment.name"] == "production"
        assert collector.resource["gateway.instance"] == "KH"


async def test_a_collector_that_recovers_gets_spans_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost while it refuses is counted once; later spans arrive."""
    async with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        recording, count = recorded()
        usual, collector.react = collector.react, refuses
        recording.begin(ROUTE, None, EXCHANGE).end(200)
        await until(lambda: count.lost["export"] == 1)
        collector.react = usual
        recording.begin(ROUTE, None, EXCHANGE).end(200)
        await collector.until(lambda it: len(it.spans) == 2)
        await recording.close()
        assert count.lost == {"export": 1}


def test_slow_and_sampled_exchanges_are_exemplars() -> None:
    """Others are not; what an exemplar says fits into the 128 characters of OpenMetrics."""
    assert exemplar(0.01, EXCHANGE, CALLER[3:35], sampled=False) is None
    told = exemplar(SLOW, EXCHANGE, CALLER[3:35], sampled=False)
    assert told == exemplar(0.01, EXCHANGE, CALLER[3:35], sampled=True)
    assert told is not None
    assert sum(len(name) + len(value) for name, value in told.items()) <= 128
