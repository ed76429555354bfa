"""`gateway demo`: the gateway among pretend ministries, and a story that shows what it lets through and what not."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import orjson
import uvloop
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.demo.ministries import NOTE, ministries
from deploy.demo.people import BY_SERIAL, body
from deploy.demo.register import Register
from deploy.demo.scenes import DARA, LOOK_UP, SCENES, Scene, Way
from gateway.app import Gateway, compose
from gateway.catalogue.reading import render
from gateway.client import Answer, GatewayClient, Pace, Refused
from gateway.edge import archive, keys, store
from gateway.edge.telemetry import configure_logging
from gateway.footing import Addresses, NotStarted
from gateway.settings import DEMO, Settings

console = Console(width=110, highlight=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scene."""

    status: int
    code: str | None
    body: Mapping[str, Any]
    exchange: str
    entry: str | None
    replayed: bool = False
    retry_after: float | None = None


def play(*, root: Path, data: Path, port: int, ops_port: int, once: bool) -> int:
    """Start, play, and stay up unless ``once``. The exit code is 0 only if every scene held."""
    configure_logging("ERROR")
    return uvloop.run(_played(root, data, (_free(port), _free(ops_port)), once=once))


async def _played(root: Path, data: Path, ports: tuple[int, int], *, once: bool) -> int:
    begun = time.monotonic()
    register = Register()
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(ministries(register))
        try:
            gateway = _composed(root, data, ports, urls)
            addresses = await stack.enter_async_context(gateway.running())
        except NotStarted as error:
            console.print(f"[red]The gateway cannot start:[/] {error}\n{render(error.findings)}")
            return 1
        story = Story(root, addresses, stack)
        _introduce(gateway)
        failed = [scene.title for scene in SCENES if not await story.show(scene)]
        failed += _held_once(register)
        database = data / "gateway.sqlite3"
        failed += await asyncio.to_thread(_show_journal, database, story.exchanges)
        (data / "demo.json").write_text(json.dumps(story.driver(), indent=1, ensure_ascii=False), encoding="utf-8")
        _conclude(failed, time.monotonic() - begun)
        if not once and not failed:
            await _stay(addresses, data)
    return 1 if failed else 0


def _free(port: int) -> int:
    """The port, or one that is free: links and tokens carry it, so it must be known before the gateway is made."""
    if port:
        return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _hold_ports(ports: tuple[int, int]) -> None:
    """Refuse to begin where another program listens, before anything is removed."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                way = 'make demo DEMO="--port 0 --ops-port 0"'
                raise NotStarted(
                    f"Port {port} is in use: end what listens there, or take free ports with {way}"
                ) from error


def _composed(root: Path, data: Path, ports: tuple[int, int], urls: Mapping[str, str]) -> Gateway:
    _hold_ports(ports)
    try:
        store.remove(data / "gateway.sqlite3")  # each demonstration tells its own story
    except store.StoreFailed as error:
        raise NotStarted(f"A demonstration runs in {data}: end it, or use another folder with --data.") from error
    chosen = Settings(
        instance=DEMO,
        issuer=f"http://127.0.0.1:{ports[0]}",
        catalogue=root,
        keys=root / "deploy" / "demo" / "keys",
        database=f"sqlite:///{(data / 'gateway.sqlite3').resolve()}",
        listen=f"127.0.0.1:{ports[0]}",
        operations_listen=f"127.0.0.1:{ports[1]}",
        run_adapters=True,
        max_connections=256,  # a machine that lets nobody open many files can play it, too
        max_in_progress=100,
        shutdown_seconds=1,
    )
    return compose(chosen, urls)


class Story:
    """Plays scenes and remembers what a tool needs to play them again."""

    def __init__(self, root: Path, addresses: Addresses, stack: AsyncExitStack) -> None:
        self._private = root / "deploy" / "demo" / "keys" / "private"
        self._addresses = addresses
        self._stack = stack
        self._clients: dict[str, GatewayClient] = {}
        self.exchanges: dict[str, str] = {}
        """The title of each exchange by its id."""

    async def show(self, scene: Scene) -> bool:
        """Play one scene and print it; whether all of it held."""
        outcome = await self._call(scene)
        self.exchanges[outcome.exchange] = scene.title
        wrong = _wrong(scene, outcome)
        _print(scene, outcome, wrong)
        return not wrong

    async def _call(self, scene: Scene) -> Outcome:
        if scene.way is not Way.CLIENT:
            return await self._call_bare(scene)
        client = await self._client(scene.client)
        try:
            answer = await client.exchange(
                scene.agency,
                scene.service,
                scene.body,
                purpose=scene.purpose,
                case=scene.case,
                user=scene.user,
                idempotency_key=scene.key,
                scope=scene.scope,
            )
        except Refused as refused:
            problem = {
                "detail": refused.detail,
                "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in refused.errors],
            }
            return Outcome(
                refused.status, refused.code, problem, refused.exchange or "", None, retry_after=refused.retry_after
            )
        return _answered(answer)

    async def _client(self, system: str) -> GatewayClient:
        if system not in self._clients:
            client = GatewayClient(
                self._addresses.public, client_id=system, key=self._key(system), pace=Pace(attempts=1)
            )
            self._clients[system] = await self._stack.enter_async_context(client)
        return self._clients[system]

    def _key(self, system: str) -> dict[str, Any]:
        key: dict[str, Any] = orjson.loads((self._private / f"{system}.jwk.json").read_bytes())
        return key

    async def _call_bare(self, scene: Scene) -> Outcome:
        token = (
            self._forged(scene.client) if scene.way is Way.FORGED else await (await self._client(scene.client)).token()
        )
        headers = {"Authorization": f"Bearer {token}", **_headers(scene)}
        url = f"{self._addresses.public}/v1/exchange/{scene.agency}/{scene.service}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=dict(scene.body), headers=headers) as reply,
        ):
            problem = orjson.loads(await reply.read())
            entry = reply.headers.get("Exchange-Entry")
            return Outcome(reply.status, problem.get("code"), problem, reply.headers["Exchange-Id"], entry)

    def _forged(self, system: str) -> str:
        key = jwt.PyJWK(keys.new_signing_key(DEMO))
        now = int(time.time())
        claims = {
            "iss": self._addresses.public,
            "aud": DEMO,
            "sub": system,
            "client_id": system,
            "scope": "population:read",
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + 600,
        }
        return jwt.encode(claims, key.key, "ES256", {"typ": "at+jwt", "kid": key.key_id})

    def driver(self) -> dict[str, Any]:
        """``demo.json``: everything that another tool needs to make the same calls."""
        systems = sorted({scene.client for scene in SCENES})
        return {
            "gateway": self._addresses.public,
            "operations": self._addresses.operations,
            "clients": {system: {"client_id": system, "key": self._key(system)} for system in systems},
            "calls": [
                {
                    "client": scene.client,
                    "agency": scene.agency,
                    "service": scene.service,
                    "scope": scene.scope,
                    "headers": _headers(scene),
                    "body": scene.body,
                    "status": scene.status,
                    "code": scene.code,
                }
                for scene in SCENES
                if scene.way is not Way.FORGED
            ],
        }


def _answered(answer: Answer) -> Outcome:
    return Outcome(200, None, answer.body, answer.exchange, answer.entry, answer.replayed)


def _headers(scene: Scene) -> dict[str, str]:
    given = {
        "Exchange-Purpose": scene.purpose,
        "Exchange-Case": scene.case,
        "Exchange-User": scene.user,
        "Idempotency-Key": f'"{scene.key}"' if scene.key else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _wrong(scene: Scene, outcome: Outcome) -> list[str]:
    """What differs from what the scene promises."""
    wrong = []
    if (outcome.status, outcome.code) != (scene.status, scene.code):
        wrong.append(f"expected {scene.status} {scene.code or ''}, got {outcome.status} {outcome.code or ''}")
    if scene.fields is not None and set(outcome.body) != set(scene.fields):
        wrong.append(f"expected the members {', '.join(scene.fields)}, got {', '.join(outcome.body)}")
    if outcome.replayed != scene.replayed:
        wrong.append("expected a stored answer" if scene.replayed else "did not expect a stored answer")
    found = [fault["pointer"] for fault in outcome.body.get("errors", ())]
    if sorted(found) != sorted(scene.pointers):
        wrong.append(f"expected faults at {scene.pointers}, got {found}")
    if NOTE in json.dumps(outcome.body):
        wrong.append("the provider's internal note left the gateway")
    return wrong


def _print(scene: Scene, outcome: Outcome, wrong: list[str]) -> None:
    if scene.chapter:
        console.print()
        console.rule(f"[bold]{scene.chapter}")
    mark = "[red]NOT AS EXPECTED[/]" if wrong else "[green]as expected[/]"
    console.print(f"\n[bold]{scene.title}[/]  {mark}")
    console.print(f"  {scene.client} asks {scene.agency} for {scene.service}, purpose {scene.purpose}", style="dim")
    if scene.status == 200:
        _print_answer(scene, outcome)
    else:
        later = f" Retry after {outcome.retry_after:g} s." if outcome.retry_after else ""
        console.print(f"  [yellow]{outcome.status} {outcome.code}[/] {outcome.body.get('detail', '')}{later}")
        for fault in outcome.body.get("errors", ()):
            console.print(f"      at {fault['pointer'] or 'the top'}: {fault['detail']}")
    console.print(Padding(Text(scene.why, style="italic"), (0, 0, 0, 2)))
    for each in wrong:
        console.print(f"  [red]{each}[/]")


def _print_answer(scene: Scene, outcome: Outcome) -> None:
    again = " the stored answer of the first call" if outcome.replayed else ""
    console.print(f"  [green]200[/]{again}")
    members = Table.grid(padding=(0, 2))
    for name, value in outcome.body.items():
        members.add_row(name, json.dumps(value, ensure_ascii=False))
    console.print(Padding(members, (0, 0, 0, 6)))
    if scene.service == LOOK_UP:
        number = scene.body["identifier"]["value"]
        held = next(body(person) for person in BY_SERIAL.values() if person.identifier == number)
        kept_back = ", ".join(name for name in held if name not in outcome.body)
        console.print(f"      [dim]withheld: {kept_back}[/]")


def _introduce(gateway: Gateway) -> None:
    held = body(BY_SERIAL[90010001])
    now = gateway.catalogue
    console.print(
        Panel(
            f"The gateway runs as the instance {now.instance}, on its embedded database, among pretend ministries with "
            f"synthetic people.\nIts catalogue: {len(now.services)} services, {len(now.agencies)} agencies with "
            f"{len(now.systems)} systems, {len(now.agreements)} agreements; digest {now.digest[:16]}.\n\n"
            f"The interior ministry's register holds {len(held)} members about each resident: {', '.join(held)}.\n"
            f"Watch how few of them leave for whom, and why. The story's first resident is {DARA}.",
            title="Inter-agency data exchange gateway",
        )
    )


def _held_once(register: Register) -> list[str]:
    console.print()
    if register.changes == 1:
        console.print("  The register counts [green]one[/] change of address, for all those attempts.")
        return []
    return [f"the register counts {register.changes} changes of address"]


def _show_journal(database: Path, exchanges: Mapping[str, str]) -> list[str]:
    """The entries of all that passed identity, as an auditor finds them."""
    console.print()
    console.rule("[bold]What the journal kept")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("entry", "step", "consumer", "service", "outcome"):
        table.add_column(column, no_wrap=True)
    seen = set()
    for kept in archive.entries(database):
        facts = archive.shown(kept)
        if facts.get("exchange") not in exchanges:
            continue
        seen.add(facts["exchange"])
        outcome = f"{facts.get('status', '')} {facts.get('code', '')}".strip()
        named = (facts.get(name, "") for name in ("step", "consumer", "service"))
        table.add_row(str(facts["entry"]), *map(str, named), outcome)
    console.print(table)
    found = archive.check(database)
    console.print(
        Padding(
            f"{found.entries} entries, the first of which is the gateway's start; {len(found.faults)} faults. Each is "
            "bytes with a hash, numbered without gaps. Bodies are kept only as salted digests, persons as pseudonyms. "
            "The forged token has no entry, since nobody was identified; such attempts are counted.",
            (1, 0, 0, 2),
        )
    )
    unseen = [title for exchange, title in exchanges.items() if exchange not in seen and title != "A forged token"]
    return [*found.faults, *(f"no entry of: {title}" for title in unseen)]


def _conclude(failed: list[str], seconds: float) -> None:
    console.print()
    if failed:
        console.print(f"[red]{len(failed)} of the story's steps did not come out as expected:[/] {'; '.join(failed)}")
    else:
        console.print(f"[green]All {len(SCENES)} steps came out as expected[/], in {seconds:.1f} s.")


async def _stay(addresses: Addresses, data: Path) -> None:
    console.print(
        Panel(
            f"exchanges   {addresses.public}/v1/exchange/<agency>/<service>\n"
            f"refusals    {addresses.public}/docs/refusals\n"
            f"metrics     {addresses.operations}/metrics\n"
            f"readiness   {addresses.operations}/health/ready\n"
            f"driver      {data / 'demo.json'}   (clients, keys and all calls of the story)\n"
            f"journal     .venv/bin/gateway journal show --database sqlite:///{data / 'gateway.sqlite3'}\n"
            "ask why     .venv/bin/gateway explain --client finance.local_tax --provider interior \\\n"
            "              --service population.person_lookup.v1 --purpose statistics",
            title="The gateway stays up. Ctrl-C ends it.",
        )
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
