"""`gateway demo`: the gateway among pretend ministries, and a story that shows what it lets through and what not."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import uvloop
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table

from deploy.demo import cluster, streams
from deploy.demo.alarms import alarm
from deploy.demo.corrections import corrections
from deploy.demo.desk import Desks
from deploy.demo.mail import letter, permit
from deploy.demo.ministries import ministries
from deploy.demo.people import BY_SERIAL, body
from deploy.demo.playing import Story, console
from deploy.demo.register import Register
from deploy.demo.scenes import DARA, SCENES
from deploy.demo.telling import Teller
from deploy.demo.townhalls import TownHalls
from gateway.app import Gateway, compose
from gateway.catalogue.reading import render
from gateway.edge import archive, store
from gateway.edge.telemetry import configure_logging
from gateway.footing import Addresses, NotStarted
from gateway.settings import DEMO, Settings

CLERKS = ("interior.civil_registry", "interior.correspondence", "justice.correspondence", "public_works.permit_office")
"""Systems that fetch and decide; the others stand in the calls."""
STATES = ("held", "submitted", "arrived", "retrieved", "registered", "rejected")
"""What becomes of documents in the story."""


def play(*, root: Path, data: Path, port: int, ops_port: int, once: bool, kafka: str | None = None) -> int:
    """Start, play, and stay up unless ``once``. The exit code is 0 only if every scene held.

    ``kafka``: where a fresh cluster is reached; the story goes on over it then.
    """
    configure_logging("ERROR")
    return uvloop.run(_played(Chosen(root, data, kafka, once), (_free(port), _free(ops_port))))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was said on the command line."""

    root: Path
    data: Path
    kafka: str | None
    once: bool


async def _played(chosen: Chosen, ports: tuple[int, int]) -> int:
    begun = time.monotonic()
    register, halls = Register(), TownHalls(f"http://127.0.0.1:{ports[0]}")
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(ministries(register, halls))
        try:
            if chosen.kafka is not None:
                await cluster.hold_fresh(chosen.kafka)
                urls = {**urls, "KAFKA_BOOTSTRAP": chosen.kafka}
            gateway = _composed(chosen.root, chosen.data, ports, urls)
            addresses = await stack.enter_async_context(gateway.running())
        except NotStarted as error:
            console.print(f"[red]The gateway cannot start:[/] {error}\n{render(error.findings)}")
            return 1
        desks = Desks(addresses.public, chosen.root / "deploy" / "demo" / "keys" / "private", stack)
        story, tell = Story(desks), Teller(console, desks)
        _introduce(gateway)
        failed = [scene.title for scene in SCENES if not await story.show(scene)]
        failed += _held_once(register)
        for chapter in (permit, letter, alarm):
            await chapter(tell, halls)
        await corrections(tell, register)
        if chosen.kafka is not None:
            behind = streams.staged(chosen.root, chosen.data, addresses.public, chosen.kafka)
            await streams.streams(tell, await stack.enter_async_context(behind))
        failed += tell.failed
        failed += await asyncio.to_thread(_show_journal, chosen.data / "gateway.sqlite3", story.exchanges)
        told = _driver(addresses, desks, [*story.calls(), *tell.played])
        if chosen.kafka is not None:
            told["kafka"] = chosen.kafka
        (chosen.data / "demo.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        _conclude(failed, len(SCENES) + tell.steps, time.monotonic() - begun)
        if not chosen.once and not failed:
            await _stay(addresses, chosen)
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
        attachments=str((data / "attachments").resolve()),
        listen=f"127.0.0.1:{ports[0]}",
        operations_listen=f"127.0.0.1:{ports[1]}",
        run_adapters=True,
        max_connections=256,  # a machine that lets nobody open many files can play it, too
        max_in_progress=100,
        shutdown_seconds=1,
    )
    return compose(chosen, urls)


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
    entries = [archive.shown(kept) for kept in archive.entries(database)]
    seen = _show_exchanges([facts for facts in entries if facts.get("exchange") in exchanges])
    steps = _show_documents([facts for facts in entries if "recipients" in facts or "recipient" in facts])
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
    missing = [f"no entry of a document that is {state}" for state in STATES if state not in steps]
    return [*found.faults, *(f"no entry of: {title}" for title in unseen), *missing]


def _show_exchanges(entries: list[Mapping[str, Any]]) -> set[str]:
    table = _table("entry step consumer service outcome")
    for facts in entries:
        outcome = f"{facts.get('status', '')} {facts.get('code', '')}".strip()
        named = (facts.get(name, "") for name in ("step", "consumer", "service"))
        table.add_row(str(facts["entry"]), *map(str, named), outcome)
    console.print(table)
    return {str(facts["exchange"]) for facts in entries}


def _show_documents(entries: list[Mapping[str, Any]]) -> set[str]:
    """Each step of each document; the same step at several recipients is one line."""
    table = _table("entry step from for service at")
    alike = groupby(entries, lambda facts: (facts.get("document"), facts["step"]))
    for (_, step), group in alike:
        first, *others = group
        to = str(first.get("recipient") or f"{len(first['recipients'])} agencies")
        sender, behalf = str(first["sender"]).partition(".")[0], str(first.get("on_behalf") or "")
        where = f"{to} and {len(others)} others" if others else to
        row = (first["entry"], step, sender, behalf, first["service"], where)
        table.add_row(*map(str, row))
    console.print()
    console.print(table)
    return {str(facts["step"]) for facts in entries}


def _table(columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns.split():
        table.add_column(column, no_wrap=True)
    return table


def _driver(addresses: Addresses, desks: Desks, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """``demo.json``: everything that another tool needs to make the same calls."""
    systems = sorted({each["client"] for each in calls} | set(CLERKS))
    return {
        "gateway": addresses.public,
        "operations": addresses.operations,
        "clients": {system: {"client_id": system, "key": desks.key(system)} for system in systems},
        "calls": calls,
    }


def _conclude(failed: list[str], steps: int, seconds: float) -> None:
    console.print()
    if failed:
        console.print(f"[red]{len(failed)} of the story's steps did not come out as expected:[/] {'; '.join(failed)}")
    else:
        console.print(f"[green]All {steps} steps came out as expected[/], in {seconds:.1f} s.")


async def _stay(addresses: Addresses, chosen: Chosen) -> None:
    data, more = chosen.data, ""
    if chosen.kafka is not None:
        more = f"topics      kcat -b {chosen.kafka} -L   (and {data / 'agents'}: each agent's log and memory)\n"
    console.print(
        Panel(
            f"exchanges   {addresses.public}/v1/exchange/<agency>/<service>\n"
            f"documents   {addresses.public}/v1/documents/<agency>/<service>\n"
            f"refusals    {addresses.public}/docs/refusals\n"
            f"metrics     {addresses.operations}/metrics\n"
            f"readiness   {addresses.operations}/health/ready\n"
            f"{more}"
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
