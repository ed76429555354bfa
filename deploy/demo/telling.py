"""How the documents' part of the story is told: a step is a call, what must come of it, and why."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from deploy.demo.desk import Ask, Desks, Reply

PATIENCE = 20.0
"""Seconds within which whatever is waited for must have come."""
_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What must come of a call."""

    status: int
    code: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)
    """Members of the answer and their values."""


class Teller:
    """Makes the calls, prints them, and remembers what did not come out as promised."""

    def __init__(self, console: Console, desks: Desks) -> None:
        self.desks = desks
        self.failed: list[str] = []
        self.steps = 0
        self.played: list[dict[str, Any]] = []
        """The submissions, for ``demo.json``."""
        self._console = console

    def chapter(self, title: str) -> None:
        """A new part begins."""
        self._console.print()
        self._console.rule(f"[bold]{title}")

    async def step(self, title: str, why: str, ask: Ask, promise: Promise) -> Reply:
        """One call, and whether what was promised came of it."""
        reply = await self.desks.call(ask)
        wrong = _wrong(reply, promise)
        self._heading(title, wrong)
        self._console.print(f"  {ask.client}: {ask.method} {ask.path}{_named(ask)}", style="dim", soft_wrap=True)
        self._outcome(reply, promise)
        self._ending(why, wrong)
        return reply

    async def submit(self, title: str, why: str, ask: Ask, promise: Promise) -> Reply:
        """The same for a document or an event that is sent: other tools can make that call again."""
        *_, agency, service = ("", *ask.path.split("/"))
        self.played.append(
            {
                "client": ask.client,
                "method": "POST",
                "path": ask.path,
                "agency": None if agency in ("documents", "events") else agency,
                "service": service,
                "scope": ask.scope,
                "headers": {**ask.headers, "Idempotency-Key": _another(ask.headers["Idempotency-Key"])},
                "body": ask.body,
                "status": promise.status,
                "code": promise.code,
            }
        )
        return await self.step(title, why, ask, promise)

    async def seen(self, title: str, why: str, true: Callable[[], Awaitable[str | None]]) -> None:
        """Something that must soon be so; ``true`` gives the words to print once it is, and None before."""
        until = time.monotonic() + (0 if self.failed else PATIENCE)  # where a step failed, what it led to cannot come
        found = await true()
        while found is None and time.monotonic() < until:
            await asyncio.sleep(_PAUSE)
            found = await true()
        wrong = [] if found else [f"it did not come within {PATIENCE:g} s"]
        self._heading(title, wrong)
        if found:
            self._console.print(Padding(Text(found, style="green"), (0, 0, 0, 2)))
        self._ending(why, wrong)

    def _heading(self, title: str, wrong: list[str]) -> None:
        self.steps += 1
        if wrong:
            self.failed.append(title)
        mark = "[red]NOT AS EXPECTED[/]" if wrong else "[green]as expected[/]"
        self._console.print(f"\n[bold]{title}[/]  {mark}")

    def _outcome(self, reply: Reply, promise: Promise) -> None:
        if reply.status >= 400:
            self._console.print(f"  [yellow]{reply.status} {reply.code}[/] {reply.body.get('detail', '')}")
            return
        said = ", ".join(f"{name} {_short(str(value))}" for name, value in promise.members.items())
        self._console.print(f"  [green]{reply.status}[/] {said}")

    def _ending(self, why: str, wrong: list[str]) -> None:
        self._console.print(Padding(Text(why, style="italic"), (0, 0, 0, 2)))
        for each in wrong:
            self._console.print(f"  [red]{each}[/]")


def _another(reference: str) -> str:
    """A reference for whoever makes the call again: the story's own belongs to the very bytes that it sent."""
    return '"again/' + reference.lstrip('"')


def _named(ask: Ask) -> str:
    said = [f"for {ask.headers['Exchange-For']}"] if "Exchange-For" in ask.headers else []
    said += [f"by the {ask.clerk.post} {ask.clerk.subject}"] if ask.clerk else []
    return "".join(f", {each}" for each in said)


def _short(text: str) -> str:
    """A receipt is long, and its beginning is the same in all of them: its end, the signature, tells them apart."""
    return text if len(text) <= 60 else f"…{text[-20:]}"


def _wrong(reply: Reply, promise: Promise) -> list[str]:
    wrong = []
    if (reply.status, reply.code) != (promise.status, promise.code):
        wrong.append(f"expected {promise.status} {promise.code or ''}, got {reply.status} {reply.code or ''}")
    elif promise.members:
        body = reply.body
        for name, value in promise.members.items():
            if body.get(name) != value:
                wrong.append(f"expected {name} {value!r}, got {body.get(name)!r}")
    return wrong
