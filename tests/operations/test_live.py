"""A real Prometheus scrapes two workers: troubles fire their alerts and clear, dashboards and runbooks have answers."""

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import orjson
import pytest
import pytest_asyncio

from deploy.grafana import agent, overview
from deploy.grafana.queries import QUIET
from tests.behaviour.server import Server, running
from tests.docs.pages import pages
from tests.fakes.brokers import Brokers
from tests.fakes.prometheus import Alert
from tests.operations.stage import CALLER, QUOTA, Stage, good, late, nonsense, staged
from tests.operations.stream import FUND, Stream, breaks, numbers, streaming

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        started.run("create database gateway_demo", "postgres")
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("operations"), server) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stream(stage: Stage, kafka: Brokers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stream]:
    """Where there is no Kafka, only the tests that need it are skipped."""
    async with streaming(stage, kafka, tmp_path_factory.mktemp("ministry")) as started:
        yield started


async def test_it_finds_every_process(stage: Stage) -> None:
    """The list at /targets leads it to the parent and to both workers, and every rule is evaluated without an error."""
    await stage.until({"parent", "1", "2"}.__eq__, stage.processes, stage.ask)
    wrong = [rule for rule in await stage.prometheus.rules() if rule["health"] == "err"]
    assert wrong == []


@dataclass(frozen=True, slots=True)
class Trouble:
    """What breaks, who notices, and what mends it."""

    alert: str
    breaks: Callable[[Stage], Awaitable[None]]
    mends: Callable[[Stage], Awaitable[None]]
    ask: Callable[[Stage], Awaitable[None]] = Stage.ask
    afterwards: Callable[[Stage], Awaitable[None]] = Stage.ask


def says(reaction: Callable[..., Awaitable[object]]) -> Callable[[Stage], Awaitable[None]]:
    async def told(stage: Stage) -> None:
        stage.react(reaction)  # type: ignore[arg-type] # a reaction gives a response

    return told


async def nothing(_: Stage) -> None:
    """It stops by itself."""


async def shut(stage: Stage) -> None:
    await stage.office.shut()


async def open_again(stage: Stage) -> None:
    await stage.office.open()


async def raised(stage: Stage) -> None:
    stage.agree(f"quota: {QUOTA}/day", "quota: 100000/day")


async def suspended(stage: Stage) -> None:
    await stage.order("suspend", CALLER, "--reason", "mistaken for another one")


async def lifted(stage: Stage) -> None:
    assert "mistaken for another one" in await stage.order("suspensions")
    await stage.order("lift", CALLER, "--reason", "it was a mistake")


async def broken(stage: Stage) -> None:
    stage.agree("grants:", "grant:")


async def restored(stage: Stage) -> None:
    stage.agree("grant:", "grants:")


JUSTICE = "adapters/justice/agency.yaml"


async def deaf(stage: Stage) -> None:
    """Saensuk and the others have what waits for them pushed: their systems are away."""
    await stage.warn()
    await stage.office.shut()
    await stage.warn()


async def heard(stage: Stage) -> None:
    assert "saensuk" in await stage.order("documents", "list")
    await stage.office.open()


async def narrow(stage: Stage) -> None:
    """The mailbox of justice takes three letters, and nobody there fetches."""
    stage.agree("protocol: mailbox}", "protocol: mailbox, max_waiting: 3}", JUSTICE)


async def wide(stage: Stage) -> None:
    assert "-> justice arrived" in await stage.order("documents", "list", "--recipient", "justice")
    stage.agree("protocol: mailbox, max_waiting: 3}", "protocol: mailbox}", JUSTICE)


def files(stage: Stage) -> Path:
    return Path(stage.environment["GATEWAY_ATTACHMENTS"])


async def unmounted(stage: Stage) -> None:
    files(stage).rename(files(stage).with_suffix(".away"))
    files(stage).mkdir()


async def mounted(stage: Stage) -> None:
    files(stage).rmdir()
    files(stage).with_suffix(".away").rename(files(stage))


TROUBLES = (
    Trouble("GatewayGateClosed", deaf, heard, Stage.wait, Stage.wait),
    Trouble("GatewayRecipientFull", narrow, wide, Stage.write, Stage.wait),
    Trouble("GatewayAttachmentsFailing", unmounted, mounted, Stage.wait, Stage.wait),
    Trouble("GatewayProviderSlow", says(late), says(good)),
    Trouble("GatewayProviderWrongAnswers", says(nonsense), says(good)),
    Trouble("GatewayTokenStorm", nothing, nothing, Stage.ask_for_tokens, Stage.ask),
    Trouble("GatewayQuotaExhausted", nothing, raised, Stage.ask_lampang, Stage.ask_lampang),
    Trouble("GatewayCatalogueKept", broken, restored),
    Trouble("GatewayRefusalsBurst", suspended, lifted),
    Trouble("GatewayProviderDown", shut, open_again),
)


def calm(firing: Sequence[Alert]) -> bool:
    """Budgets go on burning for days, many minutes here; that of the gateway's own time also if others work."""
    return all(each.name in ("GatewayProviderBudget", "GatewayOwnTimeBudget") for each in firing)


async def told(stage: Stage, alerts: set[str], ask: Callable[[], Awaitable[None]]) -> None:
    """Wait until all of them fire, and read whatever fires then."""
    firing = await stage.until(lambda seen: alerts <= {each.name for each in seen}, stage.prometheus.firing, ask)
    for alert in firing:
        sys.stdout.write(f"{alert.name} {dict(alert.labels)}\n  {alert.annotations['summary']}\n")
        assert "<" not in "".join(alert.annotations.values())  # <no value>, <error …>
        assert alert.annotations["runbook_url"].endswith(f"/runbooks/{alert.name}.md")


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.alert)
async def test_a_trouble_fires_its_alert_and_mending_clears_it(stage: Stage, trouble: Trouble) -> None:
    """Within seconds, as the windows are a hundredth of the real ones; the annotations are whole."""
    await stage.until(calm, stage.prometheus.firing, stage.ask)
    await trouble.breaks(stage)
    await told(stage, {trouble.alert}, lambda: trouble.ask(stage))
    await trouble.mends(stage)
    await stage.until(calm, stage.prometheus.firing, lambda: trouble.afterwards(stage))


async def test_every_process_has_the_catalogue_that_is_checked(stage: Stage) -> None:
    """The digest that `gateway check` prints is the one, and the only one, in use: as runbooks tell to compare them."""
    printed = await stage.order("check")
    used = await stage.prometheus.query("count by (digest) (gateway_catalogue_info)")
    assert [f"digest {each['metric']['digest']}" in printed for each in used] == [True]


CHOSEN = {"$instance": ".*", "$provider": ".*", "$service": ".*", "$__rate_interval": "1m"}


async def shows(stage: Stage, panel: dict[str, Any], job: str) -> None:
    """Every query of a dashboard is one that Prometheus takes; after the troubles it has an answer too."""
    chosen = {**CHOSEN, "$job": job}
    for target in panel["targets"]:
        samples = await stage.prometheus.query(re.sub(r"\$\w+", lambda found: chosen[found[0]], target["expr"]))
        assert samples or QUIET in panel["description"], target["expr"]


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in orjson.loads(file.read_bytes())["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("panel", panels(overview.FILE), ids=lambda panel: panel["title"])
async def test_a_panel_shows_something(stage: Stage, panel: dict[str, Any]) -> None:
    """Of the operators' dashboard."""
    await shows(stage, panel, "gateway")


QUERIES = [
    (page.path.stem, block.text)
    for page in pages()
    if page.place.startswith("docs/runbooks/")
    for block in page.blocks()
    if "promql" in block.words
]


@pytest.mark.parametrize(("place", "query"), QUERIES, ids=[place for place, _ in QUERIES])
async def test_a_runbook_s_queries_are_taken(stage: Stage, place: str, query: str) -> None:
    """Whoever pastes one gets no error."""
    for line in query.splitlines():
        await stage.prometheus.query(line)


async def lost_topic(stream: Stream) -> None:
    """A letter to an agency whose topic nobody has made."""
    assert await stream.write(FUND)


async def applied(stream: Stream) -> None:
    """As the page tells: what is missing is named, made, and the way opened at once."""
    assert "+ create topic DEMO.agency.social_security" in await stream.stage.order("topics", "plan")
    await stream.stage.order("topics", "apply")
    try:
        await stream.stage.order("documents", "reopen", FUND, "kafka", "--reason", "its topic is there now")
    except CalledProcessError as late:
        if "is not closed" not in late.stderr:  # that is, the gateway's own probe was there before
            raise


async def cut(stream: Stream) -> None:
    stream.link.refusing = True
    stream.link.drop()
    assert await stream.write()  # it is taken in all the same


async def joined(stream: Stream) -> None:
    stream.link.refusing = False


async def in_doubt(stream: Stream) -> None:
    """The registry breaks in the middle, and does not look at ids."""
    stream.registry.react = breaks
    assert await stream.write()


async def settled(stream: Stream) -> None:
    stream.registry.react = numbers
    unknown = re.findall(r"UNKNOWN (\S+) correspondence", await stream.order("show"))
    assert unknown  # one, or also the letter that had waited for Kafka
    for document in unknown:
        said = await stream.order("settle", document, "--as", "again", "--reason", "not in the register")
        assert "again, as" in said


async def looked(stream: Stream) -> None:
    assert "no_event" in await stream.order("show")
    await stream.order("missing", "--looked")


KAFKA_TROUBLES = {
    "GatewayTopicRefused": (lost_topic, applied),
    "GatewayKafkaAway GatewayAgentKafkaAway": (cut, joined),
    "GatewayAgentUnknown": (in_doubt, settled),
    "GatewayAgentForeign": (Stream.forge, looked),
}


@pytest.mark.parametrize("alerts", KAFKA_TROUBLES)
async def test_a_trouble_on_kafka_fires_its_alert_and_mending_clears_it(stream: Stream, alerts: str) -> None:
    """At the gateway and at the agency, by what the pages tell to type."""
    stage, (broken, mended) = stream.stage, KAFKA_TROUBLES[alerts]
    await stage.until(calm, stage.prometheus.firing, stage.wait)
    await broken(stream)
    await told(stage, set(alerts.split()), stage.wait)
    await mended(stream)
    await stage.until(calm, stage.prometheus.firing, stage.wait)


@pytest.mark.parametrize("panel", panels(agent.FILE), ids=lambda panel: panel["title"])
async def test_a_panel_of_an_agency_shows_something(stream: Stream, panel: dict[str, Any]) -> None:
    """Of the dashboard for those who run agents."""
    await shows(stream.stage, panel, "exchange-agent")
