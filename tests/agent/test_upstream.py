"""The agent asks the gateway: what its answers mean, how its keys are kept, what a wrong clock is told."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.agent.ports import Final, Later, Report, Told, Unreachable
from gateway.agent.published import COOL_DOWN_SECONDS, FRESH_SECONDS, KEPT_SECONDS
from gateway.agent.upstream import Gateway, Gone
from gateway.client import GatewayClient, Pace, verify_receipt
from gateway.core.handling import Outcome
from tests.fakes import post_office
from tests.fakes.correspondents import DESK, REGISTER, Letters, way
from tests.fakes.gateway_double import NOW, Fault, Watch, cut, page, private_key, refusal
from tests.fakes.post_office import PostTown
from tests.fakes.town import Office, answers
from tests.fakes.upstream_double import UpstreamDouble, client, digest, doubled

ID = "01a2018d-199f-744a-a9f7-79005e4d0f41"


@dataclass(slots=True)
class Desk:
    """An agent's gateway, a double, on a clock of its own."""

    double: UpstreamDouble
    watch: Watch
    gateway: Gateway


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Of an agent of the treasury."""
    double, private = doubled()
    watch = Watch()
    async with double:
        gateway = Gateway(
            client(double, private, watch.pace(attempts=1)), "treasury", clock=lambda: watch.now, sleep=watch.sleep
        )
        yield Desk(double, watch, gateway)
        await gateway.aclose()


def report(outcome: Outcome = Outcome.RETRIEVED, document: str = ID) -> Report:
    number = "R-7" if outcome is Outcome.REGISTERED else None
    return Report(1, document, outcome, number, "defective" if outcome is Outcome.REJECTED else None)


async def test_outcomes_are_told_as_they_are(desk: Desk) -> None:
    """Each with what belongs to it, and nothing else."""
    for outcome in Outcome:
        assert await desk.gateway.report(report(outcome)) == Told()
    assert desk.double.told == [
        (ID, {"outcome": "retrieved"}),
        (ID, {"outcome": "registered", "number": "R-7"}),
        (ID, {"outcome": "rejected", "reason": "defective"}),
    ]
    assert desk.gateway.complaint is None


@pytest.mark.parametrize(
    ("fault", "answered"),
    [
        (refusal(409, "document.ended"), Final("document.ended")),
        (refusal(404, "document.unknown"), Final("document.unknown")),
        (refusal(422, "shape.request"), Final("shape.request")),
        (refusal(503, "gateway.overloaded", retry_after=7), Later(7.0)),
        (refusal(403, "policy.suspended"), Later(0.0)),
        (refusal(401, "identity.missing"), Later(0.0)),
        (refusal(500, "gateway.broken"), Later(0.0)),
        (page(404), Later(0.0)),
        (page(502), Later(0.0)),
        (cut, Later(0.0)),
    ],
    ids=["ended", "unknown", "shape", "overloaded", "suspended", "identity", "broken", "a 404", "a proxy", "cut"],
)
async def test_what_an_answer_means(desk: Desk, fault: Fault, answered: Final | Later) -> None:
    """Only the gateway's own last word on this document is final: what a proxy says never is."""
    desk.double.faults.append(fault)
    assert await desk.gateway.report(report()) == answered
    assert (desk.gateway.complaint is None) == isinstance(answered, Final)


def says(told: object) -> Fault:
    return page(200, orjson.dumps(told).decode(), "application/json")


@pytest.mark.parametrize("recipients", [7, None, [5], [{}], [{"recipient": "treasury", "state": [1]}]])
async def test_answers_that_are_not_the_gateways_are_none(desk: Desk, recipients: object) -> None:
    """They decide nothing, and end no agent: each is as good as a gateway that is away."""
    at = desk.gateway
    for ask in (lambda: at.state(ID), lambda: at.files(ID), lambda: at.arrived(None)):
        desk.double.faults.append(
            says({"document": ID, "state": "arrived", "recipients": recipients, "documents": [{}]})
        )
        with pytest.raises(Unreachable):
            await ask()


@pytest.mark.parametrize("told", [{"state": "arrived"}, {"document": ID[::-1]}, {"state": 5}, {"document": None}])
async def test_another_outcome_than_was_told_was_not_taken(desk: Desk, told: dict[str, object]) -> None:
    """A 200 that speaks of something else leaves the outcome to be told again."""
    desk.double.faults.append(says({"document": ID, "state": "retrieved", **told}))
    assert await desk.gateway.report(report()) == Later(0.0)
    assert "was not the gateway" in str(desk.gateway.complaint)
    assert await desk.gateway.report(report()) == Told()


async def test_a_token_that_ended_is_renewed(desk: Desk) -> None:
    """401 once: a new token, and the outcome is told in the same call."""
    await desk.gateway.report(report())
    desk.double.valid.clear()
    assert await desk.gateway.report(report()) == Told()
    assert len(desk.double.grants) == 2


async def test_a_wrong_clock_is_named(desk: Desk) -> None:
    """An assertion that is refused says by how much the clock is off, from the answer's Date."""
    desk.watch.day = NOW + 3600
    desk.double.public = {**desk.double.public, "x": desk.double.public["y"]}  # so that it takes none
    assert await desk.gateway.report(report()) == Later(0.0)
    assert "clock is 3600 s ahead of the gateway's" in str(desk.gateway.complaint)


async def test_keys_are_kept(desk: Desk) -> None:
    """Fresh ones are asked for once; afterwards beside what is at hand."""
    desk.double.keys = [{"kid": "a"}]
    assert (await desk.gateway.keys())["keys"] == [{"kid": "a"}]
    await desk.gateway.keys()
    assert desk.double.fetched == 1
    desk.watch.now += FRESH_SECONDS + 1
    desk.double.keys = [{"kid": "b"}]
    assert (await desk.gateway.keys())["keys"] == [{"kid": "a"}]
    assert (await desk.gateway.keys(desk.watch.now))["keys"] == [{"kid": "b"}]
    assert desk.double.fetched == 2


async def test_newer_keys_are_waited_for(desk: Desk) -> None:
    """An unknown kid fetches once more, and not sooner than the cool-down allows."""
    await desk.gateway.keys()
    desk.watch.now += 1
    await desk.gateway.keys(desk.watch.now)
    assert (desk.double.fetched, desk.watch.slept) == (2, [COOL_DOWN_SECONDS - 1])
    await desk.gateway.keys(desk.watch.now)
    assert desk.double.fetched == 2


async def test_the_last_good_keys_serve_for_a_day(desk: Desk) -> None:
    """Then nothing is believed any more, and the words say why."""
    await desk.gateway.keys()
    desk.double.key_faults.extend([page(502)] * 10)
    desk.watch.now += KEPT_SECONDS - 1
    assert "keys" in await desk.gateway.keys()
    desk.watch.now += COOL_DOWN_SECONDS + 2
    with pytest.raises(Unreachable, match="was not the gateway"):
        await desk.gateway.keys()


async def test_more_keys_than_a_gateway_has_are_none(desk: Desk) -> None:
    """An answer is bounded in what is believed, too."""
    desk.double.keys = [{"kid": str(number)} for number in range(65)]
    with pytest.raises(Unreachable, match="at most 64"):
        await desk.gateway.keys()


async def test_a_file_that_is_gone(desk: Desk, tmp_path: Path) -> None:
    """The gateway's word on it is final; all else may pass."""
    with pytest.raises(Gone):
        await desk.gateway.download("f1", tmp_path / "f1", digest(b""), 100)
    desk.double.files["f2"] = b"two"
    desk.double.faults.append(refusal(503, "attachment.unavailable"))
    with pytest.raises(Unreachable):
        await desk.gateway.download("f2", tmp_path / "f2", digest(b"two"), 100)


@dataclass(frozen=True, slots=True)
class Real:
    """A whole gateway that pushes letters to the interior ministry, whose register asks."""

    town: PostTown
    gateway: Gateway

    async def letter(self) -> str:
        """One that has arrived."""
        sent = await self.town.send()
        document = str(sent.body["document"])
        async with asyncio.timeout(20):
            while await self.gateway.state(document) != "arrived":
                pass
        return document


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Real]:
    """It is up, and the ministry's system takes everything."""
    office = Office()
    office.react = answers({})
    await office.open()
    pushed = way("interior", protocol="http", options={"url": f"{office.url}/in", "allow": ["loopback"]})
    async with post_office.opened(tmp_path, Letters(ways={"interior": (pushed,)})) as town:
        key = town.keys[REGISTER]
        named = {**key.private, "kid": key.thumbprint}
        gateway = Gateway(GatewayClient(town.at.public, client_id=REGISTER, key=named), "interior")
        yield Real(town, gateway)
        await gateway.aclose()
    await office.shut()


async def test_a_real_gateway_takes_an_outcome(real: Real) -> None:
    """Once and again; another one is final; of a document that nobody knows, too."""
    document = await real.letter()
    said = Report(1, document, Outcome.REGISTERED, "R-7", None)
    assert await real.gateway.report(said) == Told()
    assert await real.gateway.report(said) == Told()
    assert await real.gateway.report(report(Outcome.REJECTED, document)) == Final("document.ended")
    assert await real.gateway.report(report()) == Final("document.unknown")
    assert await real.gateway.state(document) == "registered"


async def test_a_real_gateway_says_what_stands_where(real: Real) -> None:
    """What has arrived, page by page; and nothing of what is nobody's, or not for this agency."""
    some = [await real.letter() for _ in range(3)]
    listed, following = await real.gateway.arrived(None)
    assert (list(listed), following) == (some[::-1], None)
    assert (await real.gateway.arrived(some[1]))[0] == [some[0]]
    assert await real.gateway.state(ID) is None
    elsewhere = await real.town.send(to="/documents/sila")
    assert await real.gateway.state(elsewhere.body["document"]) is None


async def test_receipts_are_checked_by_the_keys_of_a_real_gateway(real: Real) -> None:
    """They are what the gateway signs with."""
    sent = await real.town.send()
    assert verify_receipt(sent.body["receipt"], await real.gateway.keys(), "DEMO")["sender"] == DESK


async def test_a_gateway_that_is_away_decides_nothing(real: Real) -> None:
    """No answer is no state, and no empty list."""
    away = Gateway(
        GatewayClient("http://127.0.0.1:9", client_id=REGISTER, key=private_key(), pace=Pace(attempts=1)), "interior"
    )
    for asked in (away.state(ID), away.arrived(None), away.keys()):
        with pytest.raises(Unreachable):
            await asked
    assert await away.report(report()) == Later(0.0)
    await away.aclose()
