"""The demonstration holds what it says: every step, and every call of it again by a tool that knows only demo.json."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from deploy.demo.desk import CIVIL_SERVICE, Ask, Clerk, Desks
from deploy.demo.papers import ALERT, APPLICATION, CORRECTION, LETTER
from gateway.client import GatewayClient, Pace

ROOT = Path(__file__).parents[2]
PRIVATE = ROOT / "deploy" / "demo" / "keys" / "private"
INTERNAL = ("lane", "gate", "lease", "snapshot", "minimise", "seal")
"""Developers' words: no clerk and no terminal sees them."""


@pytest.fixture(name="told", scope="module")
def _told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a demonstration that stays up has printed, and its demo.json."""
    data = tmp_path_factory.mktemp("demo")
    program = [str(Path(sys.executable).with_name("gateway")), "demo", "--port", "0", "--ops-port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    with subprocess.Popen(  # noqa: S603 - our own program
        [*program, "--data", str(data)],
        cwd=ROOT,
        env={**environment, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if "stays up" in line:
                    break
            assert "stays up" in printed, printed
            yield printed, orjson.loads((data / "demo.json").read_bytes())
        finally:
            process.terminate()


def test_every_step_holds_in_time(told: tuple[str, dict[str, Any]]) -> None:
    """Nothing comes out otherwise than it says, well within the time that somebody watches."""
    printed, _ = told
    assert "NOT AS EXPECTED" not in printed
    steps, seconds = re.findall(r"All (\d+) steps came out as expected, in ([0-9.]+) s", printed)[0]
    assert int(steps) == printed.count("  as expected")
    assert float(seconds) < 40


def test_the_words_are_those_of_an_office(told: tuple[str, dict[str, Any]]) -> None:
    """The story speaks of documents as clerks do, and never as the program's authors do."""
    printed, _ = told
    prose = "\n".join(line for line in printed.splitlines() if "/v1/" not in line)
    for word in INTERNAL:
        assert not re.search(rf"\b{word}s?\b", prose, re.IGNORECASE), word


def test_every_service_of_documents_is_in_the_calls(told: tuple[str, dict[str, Any]]) -> None:
    """A tool finds each of them, with the status that must come and the reasons for which it is refused."""
    _, driver = told
    calls = {(call["service"], call["status"], call["code"]) for call in driver["calls"]}
    assert {(service, 202, None) for service in (APPLICATION, LETTER, ALERT, CORRECTION)} <= calls
    assert (APPLICATION, 403, "identity.not_mandated") in calls
    assert (APPLICATION, 422, "idempotency.reused") in calls


def _assertion(driver: dict[str, Any], desks: Desks, call: dict[str, Any]) -> dict[str, str]:
    """Who asks for a correction is somebody; the assertion of that is made anew, since it lives for minutes."""
    assert driver["gateway"] == desks.gateway
    if call["service"] != CORRECTION:
        return {}
    return {"Exchange-User-Assertion": desks.assertion(Clerk("chamkar_mon", "cs-20117", "registrar"))}


async def test_every_call_can_be_made_again(told: tuple[str, dict[str, Any]]) -> None:
    """A tool with demo.json alone gets the same status and code for each call, in their order."""
    _, driver = told
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())
        desks = Desks(driver["gateway"], PRIVATE, stack)
        for call in driver["calls"]:
            key = driver["clients"][call["client"]]["key"]
            client = GatewayClient(driver["gateway"], client_id=call["client"], key=key, pace=Pace(attempts=1))
            async with client:
                token = await client.token(call["scope"])
            headers = {"Authorization": f"Bearer {token}", **call["headers"], **_assertion(driver, desks, call)}
            url = driver["gateway"] + call["path"]
            async with session.request(call["method"], url, json=call["body"], headers=headers) as reply:
                body = await reply.json(content_type=None)
                assert (reply.status, body.get("code")) == (call["status"], call["code"]), call["path"]


async def test_no_clerk_of_another_agency_sees_the_application(told: tuple[str, dict[str, Any]]) -> None:
    """What went to the works office shows to the platform, to Saensuk and to that office, and to nobody else."""
    _, driver = told
    async with AsyncExitStack() as stack:
        desks = Desks(driver["gateway"], PRIVATE, stack)
        listed = await desks.call(Ask(client="digital_local.platform", method="GET", path="/v1/documents?role=sent"))
        document = listed.body["documents"][0]["document"]
        asked = {
            client: asyncio.create_task(desks.call(Ask(client=client, method="GET", path=f"/v1/documents/{document}")))
            for client in ("saensuk.permits", "public_works.permit_office", "sila.front_desk", "justice.courts")
        }
        statuses = {client: (await task).status for client, task in asked.items()}
    assert list(statuses.values()) == [200, 200, 404, 404]


def test_the_issuer_of_persons_is_one_that_folders_name() -> None:
    """The story's clerks sign in where the folders say that they do."""
    for agency in ("interior", "chamkar_mon"):
        assert CIVIL_SERVICE in (ROOT / "adapters" / agency / "agency.yaml").read_text("utf-8")
