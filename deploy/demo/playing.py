"""Plays the exchanges of the story: makes each call, holds it against what must come of it, and prints both."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import orjson
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploy.demo.desk import INSTANCE, Desks
from deploy.demo.ministries import NOTE
from deploy.demo.people import BY_SERIAL, body
from deploy.demo.scenes import LOOK_UP, SCENES, Scene, Way
from gateway.client import Answer, Refused
from gateway.edge import keys

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


class Story:
    """Plays scenes and remembers what a tool needs to play them again."""

    def __init__(self, desks: Desks) -> None:
        self._desks = desks
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
        client = await self._desks.client(scene.client)
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

    async def _call_bare(self, scene: Scene) -> Outcome:
        forged = scene.way is Way.FORGED
        token = self._forged(scene.client) if forged else await (await self._desks.client(scene.client)).token()
        headers = {"Authorization": f"Bearer {token}", **_headers(scene)}
        url = f"{self._desks.gateway}/v1/exchange/{scene.agency}/{scene.service}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=dict(scene.body), headers=headers) as reply,
        ):
            problem = orjson.loads(await reply.read())
            entry = reply.headers.get("Exchange-Entry")
            return Outcome(reply.status, problem.get("code"), problem, reply.headers["Exchange-Id"], entry)

    def _forged(self, system: str) -> str:
        key = jwt.PyJWK(keys.new_signing_key(INSTANCE))
        now = int(time.time())
        claims = {
            "iss": self._desks.gateway,
            "aud": INSTANCE,
            "sub": system,
            "client_id": system,
            "scope": "population:read",
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + 600,
        }
        return jwt.encode(claims, key.key, "ES256", {"typ": "at+jwt", "kid": key.key_id})

    def calls(self) -> list[dict[str, Any]]:
        """Every exchange of the story, for ``demo.json``."""
        return [
            {
                "client": scene.client,
                "method": "POST",
                "path": f"/v1/exchange/{scene.agency}/{scene.service}",
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
        ]


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
