"""Traces of a whole gateway at a collector; trace and exchange in problems, log lines and exemplars."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from gateway.edge.spans import FLUSH_SECONDS
from tests.fakes.collector import Collector, Kept, collecting, says, silent
from tests.fakes.parties import CHANGE, LOOK_UP, MOVED, PERSON, RECORD, TAX
from tests.fakes.town import Town, answers, cuts, opened, until, usual
from tests.system.test_serve import failed, settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
SERVER = "POST /v1/exchange/{agency}/{service}"
MARK = "Zeugma"
"""Stands in every planted value and nowhere else."""
PROMETHEUS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus 2.42 accepts, shortened."""


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with collecting() as it:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", it.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield it


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Town]:
    """A town whose tax office has its token."""
    async with opened(folder) as town:
        await town.token(TAX)
        yield town


async def arrived(collector: Collector, exchange: str) -> tuple[Kept, list[Kept]]:
    """The server span of an exchange, and its children in the order of their begin."""

    def server(it: Collector) -> list[Kept]:
        return [span for span in it.spans if span.attributes.get("gateway.exchange") == exchange]

    await collector.until(server)
    (span,) = server(collector)
    parts = [each for each in collector.spans if each.parent == span.id]
    return span, sorted(parts, key=lambda each: each.begun)


async def test_an_exchange_is_a_span_with_its_parts(tmp_path: Path, collector: Collector) -> None:
    """The caller's trace is kept, the provider is given its own part's id, and the answer names the server span."""
    async with started(tmp_path) as town:
        reply = await town.call(TAX, LOOK_UP, PERSON, traceparent=CALLER)
        span, parts = await arrived(collector, reply.headers["Exchange-Id"])
    assert (span.name, span.kind, span.trace, span.parent) == (SERVER, "SERVER", TRACE, "00f067aa0ba902b7")
    assert [(part.name, part.kind, part.trace) for part in parts] == [
        ("provider", "CLIENT", TRACE),
        ("journal", "INTERNAL", TRACE),
    ]
    assert town.office.seen[0].headers["traceparent"] == f"00-{TRACE}-{parts[0].id}-01"
    assert reply.headers["traceparent"] == f"00-{TRACE}-{span.id}-01"
    assert span.begun <= parts[0].begun <= parts[0].ended <= parts[1].begun <= parts[1].ended <= span.ended


async def test_a_span_says_who_what_and_with_which_outcome(tmp_path: Path, collector: Collector) -> None:
    """Names of the catalogue, the exchange, the outcome and HTTP's own, and nothing else."""
    async with started(tmp_path) as town:
        reply = await town.call(TAX, LOOK_UP, PERSON)
        span, _ = await arrived(collector, reply.headers["Exchange-Id"])
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/exchange/{agency}/{service}",
        "http.response.status_code": 200,
        "gateway.exchange": reply.headers["Exchange-Id"],
        "gateway.consumer": TAX,
        "gateway.provider": "interior",
        "gateway.service": LOOK_UP,
        "gateway.agreement": "MOI-FIN-2024-014",
        "gateway.outcome": "answered",
    }
    assert collector.named("POST /oauth/token")[0].attributes["gateway.outcome"] == "issued"


async def test_a_write_shows_both_of_its_entries(tmp_path: Path, collector: Collector) -> None:
    """Admitted before the call, answered after it; a repetition shows no call."""
    async with started(tmp_path) as town:
        first = await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')
        again = await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')
        _, parts = await arrived(collector, first.headers["Exchange-Id"])
        span, replayed = await arrived(collector, again.headers["Exchange-Id"])
    assert [part.attributes.get("gateway.step", part.name) for part in parts] == ["admitted", "provider", "answered"]
    assert [part.attributes["gateway.step"] for part in replayed] == ["admitted", "replayed"]
    assert span.attributes["gateway.outcome"] == "replayed"


async def test_faults_are_errors_and_refusals_are_not(tmp_path: Path, collector: Collector) -> None:
    """5xx sets the status, with the code as its type and without words; what the caller did wrong does not."""
    async with started(tmp_path) as town:
        town.office.react = cuts
        fault = await town.call(TAX, LOOK_UP, PERSON)
        refusal = await town.call(TAX, LOOK_UP, {"identifier": MARK})
        broken, parts = await arrived(collector, fault.headers["Exchange-Id"])
        refused, _ = await arrived(collector, refusal.headers["Exchange-Id"])
    assert (fault.status, broken.error, broken.attributes["error.type"]) == (502, True, "provider.broken")
    assert (parts[0].error, parts[0].attributes["error.type"], parts[0].words) == (True, "provider.broken", "")
    assert (refusal.status, refused.error, "error.type" in refused.attributes) == (422, False, False)
    assert refused.attributes["gateway.outcome"] == "shape.request"


async def test_nothing_of_a_person_is_in_a_span(tmp_path: Path, collector: Collector) -> None:
    """Marks in body, answer, headers, trace state, path and in what breaks the gateway: no collector sees one."""
    said = {f"exchange_{name}": f"{MARK} 7" for name in ("case", "user")}
    said |= {"tracestate": f"a={MARK}", "baggage": f"a={MARK}", "user_agent": MARK, "traceparent": CALLER}
    async with started(tmp_path) as town:
        town.office.react = answers({**RECORD, "name": MARK})
        await town.call(TAX, LOOK_UP, PERSON, idempotency_key=f'"{MARK}"', **said)
        await town.call(TAX, LOOK_UP, {"identifier": MARK}, **said)
        await town.call(TAX, f"{MARK}.lookup.v1".lower(), PERSON, agency=MARK.lower(), **said)
        await town.call(TAX, MARK, PERSON, agency=MARK, exchange_purpose=MARK.lower())
        await town.call(None, LOOK_UP, PERSON, authorization=f"Bearer {MARK}")
        town.office.react = answers({MARK: MARK}, 500)
        await town.call(TAX, LOOK_UP, PERSON, **said)
        town.office.react = usual
        town.valve.mistakes = 1
        await town.call(TAX, LOOK_UP, PERSON, **said)
    sent = b"".join(collector.raw).lower()
    assert len(collector.named(SERVER)) == 7
    assert sent.count(b"gateway.broken") > 0
    assert [mark for mark in (MARK, "90010001", "sok dara", "bearer") if mark.lower().encode() in sent] == []
    assert {(span.state, span.words, span.events) for span in collector.spans} == {("", "", 0)}


async def test_a_stranger_is_named_as_nobody(tmp_path: Path, collector: Collector) -> None:
    """Without identity there is no consumer, and what the catalogue does not know is called unknown."""
    async with started(tmp_path) as town:
        reply = await town.call(None, "made.up.v1", PERSON, agency="nowhere")
        span, parts = await arrived(collector, reply.headers["Exchange-Id"])
    assert (span.attributes["gateway.provider"], span.attributes["gateway.service"]) == ("unknown", "unknown")
    assert ("gateway.consumer" in span.attributes, parts) == (False, [])


async def test_the_callers_flag_counts(tmp_path: Path, collector: Collector) -> None:
    """A caller that does not sample gets no span, and the provider is told so."""
    async with started(tmp_path) as town:
        unsampled = CALLER.removesuffix("01") + "00"
        reply = await town.call(TAX, LOOK_UP, PERSON, traceparent=unsampled)
        later = await town.call(TAX, LOOK_UP, PERSON)
        await arrived(collector, later.headers["Exchange-Id"])
    assert [span for span in collector.spans if span.trace == TRACE] == []
    told = town.office.seen[0].headers["traceparent"]
    assert told == reply.headers["traceparent"]
    assert (told[3:35], told[-2:]) == (TRACE, "00")


async def test_a_silent_collector_holds_up_nobody(tmp_path: Path, collector: Collector) -> None:
    """While it leaves an export unanswered, exchanges are answered, and the stop waits for a moment only."""
    collector.react = silent
    async with started(tmp_path) as town:
        await town.call(TAX, LOOK_UP, PERSON)
        await collector.until(lambda it: it.asked)
        for _ in range(50):
            assert (await town.call(TAX, LOOK_UP, PERSON)).status == 200
        assert collector.asked == 1
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < FLUSH_SECONDS + 2


@pytest.mark.parametrize(
    "react",
    [says(400, MARK.encode()), says(500, MARK.encode()), says(307, Location=f"http://127.0.0.1:9/{MARK}"), cuts],
)
async def test_what_a_collector_says_stays_there(
    tmp_path: Path, collector: Collector, react: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A refusal, a redirect, a broken connection: spans are counted as lost, one line says so, and quotes nothing."""
    collector.react = react
    with structlog.testing.capture_logs() as lines:
        async with started(tmp_path) as town:
            assert (await town.call(TAX, LOOK_UP, PERSON)).status == 200
            lost = 'gateway_spans_dropped_total{why="export"}'
            if react is not cuts:  # a broken connection is tried again, with pauses
                await until(town.gateway.meters.spans.labels("export")._value.get)
                assert (await town.metrics())[lost] > 0
    told = [line for line in lines if line["event"] == "spans_dropped"]
    assert len(told) <= 1
    assert all(line["collector"].startswith(("HTTP status ", "ConnectionError")) for line in told)
    assert MARK not in str(lines) + "".join(capfd.readouterr())


async def test_variables_that_cannot_be_followed_stop_the_start(tmp_path: Path, collector: Collector) -> None:
    """Nothing listens, and the variable is named."""
    code, words = await failed({**settings(tmp_path), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert (code, "Traceback" in words) == (1, False)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in words


async def test_every_line_of_an_exchange_names_exchange_and_trace(tmp_path: Path) -> None:
    """Deviations and mistakes of the program, and the exchange's own line, with a trace and without OpenTelemetry."""
    with structlog.testing.capture_logs() as lines:
        async with started(tmp_path) as town:
            town.office.react = answers({**RECORD, "name": 7})
            deviates = await town.call(TAX, LOOK_UP, PERSON, traceparent=CALLER)
            town.office.react = usual
            town.valve.mistakes = 2
            broken = await town.call(TAX, LOOK_UP, PERSON, traceparent=CALLER)
    ids = {deviates.headers["Exchange-Id"], broken.headers["Exchange-Id"]}
    about = [line for line in lines if line.get("exchange") in ids]
    assert {"exchange", "answer_deviates", "broken", "journal_broken"} == {line["event"] for line in about}
    assert {line["trace"] for line in about} == {deviates.body["trace"], broken.body["trace"]} == {TRACE}


async def test_a_problem_of_any_address_names_a_trace(tmp_path: Path) -> None:
    """What is no exchange is refused with the caller's trace too."""
    async with started(tmp_path) as town:
        reply = await town.ask("GET", "/nowhere", {"traceparent": CALLER})
        plain = await town.ask("GET", "/nowhere")
    assert reply.body["trace"] == TRACE
    assert plain.body["trace"] == plain.body["exchange"].replace("-", "")


async def scraped(town: Town, accept: str | None) -> tuple[str, str]:
    """The media type and the text of the metrics."""
    headers = {"Accept": accept} if accept else {}
    reply = await town.ask("GET", f"{town.at.operations}/metrics", headers)
    return reply.headers["Content-Type"], reply.raw.decode()


def names(families: Any) -> dict[str, Mapping[str, str]]:
    """Every series, as Prometheus stores it."""
    return {f"{s.name}{sorted(s.labels.items())}": s.labels for family in families for s in family.samples}


async def test_both_formats_have_the_same_series(tmp_path: Path) -> None:
    """Whichever Prometheus asks for, what it stores has the same names and labels, and no ``_created`` beside it."""
    async with started(tmp_path) as town:
        assert (await town.call(TAX, LOOK_UP, PERSON)).status == 200
        media, text = await scraped(town, None)
        assert media == "text/plain; version=0.0.4; charset=utf-8"
        asked, exposed = await scraped(town, PROMETHEUS)
        assert asked == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert (await scraped(town, "text/html, */*"))[0] == media
    stored = names(openmetrics(exposed))  # type: ignore[no-untyped-call] # the library's own lack
    assert names(plain(text)) == stored
    assert any(name.startswith("gateway_exchanges_total") for name in stored)
    assert [name for name in stored if name.partition("[")[0].endswith("_created")] == []


async def test_a_sampled_exchange_is_an_exemplar_of_its_bucket(tmp_path: Path, collector: Collector) -> None:
    """OpenMetrics shows its trace and id beside the bucket; the plain format has none."""
    async with started(tmp_path) as town:
        reply = await town.call(TAX, LOOK_UP, PERSON, traceparent=CALLER)
        _, exposed = await scraped(town, PROMETHEUS)
        _, text = await scraped(town, None)
    (shown,) = [s.exemplar for family in openmetrics(exposed) for s in family.samples if s.exemplar]  # type: ignore[no-untyped-call] # as above
    assert shown.labels == {"trace_id": TRACE, "exchange": reply.headers["Exchange-Id"]}
    assert TRACE not in text


async def test_without_a_trace_only_slow_exchanges_are_exemplars(tmp_path: Path) -> None:
    """A fast one without OpenTelemetry leaves none, whatever its caller's flag says."""
    async with started(tmp_path) as town:
        await town.call(TAX, LOOK_UP, PERSON, traceparent=CALLER)
        _, exposed = await scraped(town, PROMETHEUS)
    assert TRACE not in exposed
