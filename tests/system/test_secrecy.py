"""What the gateway shows of persons to those who watch it: nothing. Values are planted everywhere, then looked for."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import orjson
import pytest

from deploy.demo.ministries import ministries
from deploy.demo.people import BY_SERIAL, body
from deploy.demo.scenes import LOOK_UP, SCENES, Scene
from gateway.client import GatewayClient
from tests.behaviour.server import in_a_thread
from tests.fakes.collector import collecting
from tests.system.test_serve import PRIVATE, ROOT, SERVE, settings

MARK = "Zeugma"
"""Stands in every planted value and nowhere else."""
PUBLIC = {"KH-DEMO", "Phnom Penh", "single", "married", "female", "unknown"}
"""What stands in the register and is no secret of anybody."""


def texts(value: Any) -> Iterator[str]:
    """Every text in a body."""
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from texts(inner)
        case list() | tuple():
            for inner in value:
                yield from texts(inner)


def secrets() -> frozenset[str]:
    """What the register holds of its residents, and what the story's callers send."""
    held = {each for person in BY_SERIAL.values() for each in texts(body(person))}
    said = {each for scene in SCENES for each in (*texts(scene.body), scene.case, scene.user, scene.key) if each}
    return frozenset(each for each in (held | said) - PUBLIC if len(each) > 4) | {MARK}


def planted(scene: Scene) -> Iterable[tuple[str, Mapping[str, str], bytes]]:
    """The scene's call as it is, and with a mark in each place that a caller can fill: path, headers, raw body."""
    path = f"/v1/exchange/{scene.agency}/{scene.service}"
    given = {
        "Content-Type": "application/json",
        "Exchange-Purpose": scene.purpose,
        "Exchange-Case": f"{MARK}-case",
        "Exchange-User": f"{MARK} the clerk",
        "Idempotency-Key": f'"{MARK}-{scene.title}"',
    }
    raw = orjson.dumps(dict(scene.body))
    yield path, given, raw
    # The name of a member that the schema lacks is told to its sender, and to nobody else; its value is not.
    yield path, given, orjson.dumps({**scene.body, "another_member": f"{MARK}-value"})
    yield path, given, orjson.dumps({"identifier": {"scheme": MARK, "value": MARK}})
    yield path, given, raw + MARK.encode()
    yield path, given, b"\xff" + MARK.encode()
    yield f"{path}?name={MARK}", given, raw
    yield f"/v1/exchange/{MARK.lower()}/{MARK.lower()}.of_somebody.v1", given, raw
    yield f"/v1/exchange/{scene.agency}/{MARK}", given, raw
    yield f"/people/{MARK}", given, raw
    for name in (
        "Authorization",
        "Content-Type",
        "Content-Encoding",
        "Exchange-Purpose",
        "Exchange-For",
        "Exchange-User-Assertion",
        "Expect",
        "X-Somebody",
        "traceparent",
        "Client-Cert",
        "X-Forwarded-For",
    ):
        yield path, {**given, name: f"{MARK}.{MARK}.{MARK}"}, raw


async def played(address: str) -> list[str]:
    """Every scene in every form; what was said to those who were refused."""
    said = []
    async with aiohttp.ClientSession() as session:
        for scene in SCENES:
            key = PRIVATE / f"{scene.client}.jwk.json"
            async with GatewayClient(address, client_id=scene.client, key=key) as client:
                token = await client.token()
            for path, headers, raw in planted(scene):
                given = {"Authorization": f"Bearer {token}", **headers}
                async with session.post(address + path, data=raw, headers=given) as answer:
                    words = await answer.text()
                    said.append("" if answer.status == 200 else f"{words} {dict(answer.headers)}")
        form = {"grant_type": "client_credentials", "client_id": MARK, "client_assertion": MARK, "scope": MARK}
        async with session.post(f"{address}/oauth/token", data=form) as answer:
            said.append(f"{await answer.text()} {dict(answer.headers)}")
    return said


async def watched(folder: Path) -> Mapping[str, str]:
    """The whole demonstration against a gateway that logs all it can; what came out of it, by where."""
    outputs = {"log": folder / "log", "standard error": folder / "error"}
    async with ministries() as urls, collecting() as collector, AsyncExitStack() as stack:
        watching = {"GATEWAY_LOG_LEVEL": "DEBUG", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        environment = {**settings(folder, dict(urls)), **watching, "OTEL_TRACES_SAMPLER": "always_on"}
        files = {where: stack.enter_context(path.open("wb")) for where, path in outputs.items()}
        process = await asyncio.create_subprocess_exec(
            *SERVE, cwd=ROOT, env=environment, stdout=files["log"], stderr=files["standard error"]
        )
        try:
            aside = f"http://{environment['GATEWAY_OPERATIONS_LISTEN']}"
            await asyncio.to_thread(until_ready, aside)
            said = await played(environment["GATEWAY_ISSUER"])
            async with aiohttp.ClientSession() as session:
                shown = {}
                for where in ("metrics", "health/ready", "targets"):
                    async with session.get(f"{aside}/{where}") as answer:
                        shown[where] = await answer.text()
        finally:
            process.terminate()
            await process.wait()
    logged = {where: path.read_text("utf-8") for where, path in outputs.items()}
    traces = b"".join(collector.raw).decode(errors="replace")
    return {**logged, **shown, "traces": traces, "refusals": "\n".join(said)}


def until_ready(aside: str) -> None:
    """Ask until it answers; ``urlopen`` raises for any answer but 200."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urlopen(f"{aside}/health/ready", timeout=5):  # noqa: S310 - our own address
                return
        except OSError:
            continue
    raise TimeoutError


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return in_a_thread(asyncio.run, watched(tmp_path_factory.mktemp("secrecy")))


OUTPUTS = ("log", "standard error", "metrics", "health/ready", "targets", "traces", "refusals")


@pytest.mark.parametrize("where", OUTPUTS)
def test_no_output_names_anybody(outputs: Mapping[str, str], where: str) -> None:
    """Neither what was planted nor what the register holds stands in any output but the answers themselves."""
    # A caller is told which address it called, in its own words; nobody else is, whoever was named in it.
    sought = secrets() if where == "refusals" else secrets() | {MARK.lower()}
    found = sorted(each for each in sought if each in outputs[where])
    assert not found, [line for line in outputs[where].splitlines() if found[0] in line][:9]


def test_the_search_finds_what_is_there(outputs: Mapping[str, str]) -> None:
    """The outputs are those of a story that was played: its services, outcomes and refusals stand in them."""
    assert outputs["log"].count('"event":"exchange"') > len(SCENES) * 10
    assert LOOK_UP in outputs["metrics"]
    assert {"answered", "shape.request", "policy.purpose"} <= set(outputs["metrics"].split('"'))
    assert outputs["traces"].count("POST /v1/exchange") > len(SCENES)
    assert outputs["refusals"].count('"code"') > len(SCENES) * 10
    assert secrets() > {MARK, "clerk 7"}
