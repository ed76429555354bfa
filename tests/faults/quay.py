"""Gateways, a broker and an agency's agents under load, each killed, stopped and started; counted at both ends."""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt

from gateway.core import kafka as topics
from gateway.edge.tasks import cancelled
from tests.fakes import ports
from tests.fakes.agents import Process, Site, agent, command
from tests.fakes.brokers import Brokers
from tests.fakes.district import INSTANCE, SENDER, District, Pushed
from tests.fakes.registry import Entry, Registry
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, pause
from tests.faults.campaign import Campaign, Found, Store

SECONDS = float(os.environ.get("GATEWAY_TEST_CAMPAIGN_SECONDS", "15"))
"""For which the disturbances go on; 600 are ten minutes."""
PATIENCE = 180.0
"""Seconds for everything to be handed over and told."""
AGENCY = "treasury"
PARTITIONS = 3
CASES = 6
"""Files that are written at the same time."""
BEAT = 0.05
"""Seconds between two documents of a case: what waits after a disturbance is soon gone."""
DEADLINE = "2s"
"""Of a hand-over to Kafka: its claim lasts ten seconds."""
BEYOND = 13.0
"""Seconds beyond a claim of the gateway's, and beyond the time that a group waits for its member."""
AT_FIRST = (1.0, 6.0)
"""Seconds before the first disturbance of each."""
BETWEEN = {"gateway": (5.0, 20.0), "agent": (20.0, 60.0), "broker": (40.0, 90.0)}
"""Seconds between two of the same one: an agent that is never long in its group hands nothing over."""
ASKED = 16
"""Documents that their sender asks for at once."""
_UNTOLD = "select count(*) from deliveries where state in ('held', 'submitted', 'arrived')"
_BEGUN = "select count(*) from seen where standing = 'begun'"
_OWED = "select count(*) from owed"


@dataclass(slots=True)
class Post:
    """One of the agency's agents: its machine, and the process that runs there."""

    site: Site
    running: Process | None = None

    def in_doubt(self) -> int:
        """Documents of which its memory alone knows what became: the other agent may hand them over once more."""
        return self.begun() + self.owed()

    def owed(self) -> int:
        """Outcomes that the gateway was not told."""
        return self._number(_OWED)

    def begun(self) -> int:
        """Documents of which it does not know itself."""
        return self._number(_BEGUN)

    def _number(self, select: str) -> int:
        path = self.site.data / "agent.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as memory:
            return int(memory.execute(select).fetchone()[0])


@dataclass(slots=True)
class Quay:
    """Who takes part."""

    going: Campaign
    kafka: Brokers
    registry: Registry
    folder: Path
    takes_key: bool
    posts: list[Post] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """What was done to whom."""
    repeatable: int = 0
    """Documents that may come once more for it."""
    implied: int = 0
    """Documents whose arrival was only learnt from their outcome."""
    codes: Counter[int] = field(default_factory=Counter)
    """With which agents ended that were asked to."""

    async def serve(self, address: str = "") -> Node:
        """One more gateway, or one that comes back to its address."""
        self.going.district.listen = address or f"127.0.0.1:{ports.free()[0]}"
        return await self.going.start()

    async def hire(self, node: Node) -> Post:
        """One more agent, which calls that gateway."""
        post = Post(Site(self.folder / f"site{len(self.posts)}", AGENCY))
        way = {
            "services": ["*"],
            "protocol": "http",
            "url": f"{self.registry.url}{len(self.posts)}",
            "number": "/register/number",
        }
        post.site.found(self.going.district, node.url, {**way, "takes_key": self.takes_key})
        self.posts.append(post)
        await self.begin(post)
        return post

    async def begin(self, post: Post) -> None:
        """Start it, on what it has."""
        post.running = await self.going.stack.enter_async_context(agent(post.site))

    def write(self) -> None:
        """The load: files of cases."""
        for number in range(CASES):
            written = self.going.desk.write(AGENCY, f"case{number}", self.going.enough, {})
            self.going.writers.append(asyncio.create_task(written))

    async def dry(self) -> float:
        """No more load; returns when every outcome is known at the gateway: the seconds that it took."""
        begun = time.monotonic()
        self.going.enough.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.going.writers)
            while await self.going.store.number(_UNTOLD):
                await pause(0.2)
        return time.monotonic() - begun

    def doubt(self) -> None:
        """Something happens now that may have documents handed over once more."""
        self.repeatable += PARTITIONS + sum(post.in_doubt() for post in self.posts)

    async def counted(self) -> Found:
        """At both ends."""
        await self.going.same_again()
        self.going.done.append(str(dict(self.done)))
        return await self.going.counted()

    async def untrue(self) -> list[str]:
        """Documents of which their sender sees something else than the registry entered, or a receipt twice."""
        wrong: list[str] = []
        left = iter(self.registry.entries.items())

        async def asked() -> None:
            for document, entry in left:
                if found := await self._untrue(document, entry):
                    wrong.append(f"{document}: {found}")

        await asyncio.gather(*(asked() for _ in range(ASKED)))
        return wrong

    async def _untrue(self, document: str, entry: Entry) -> str | None:
        reply = await self.going.desk.call("GET", f"/v1/documents/{document}")
        if reply.status != 200:
            return f"answered {reply.status}"
        (recipient,) = reply.body["recipients"]
        shown = Entry(recipient["state"], recipient["number"])
        if shown != entry:
            return f"{shown} instead of {entry}"
        states = [_state(each) for each in reply.body["receipts"]]
        wanted = ["submitted", "arrived", entry.state]
        if states == ["submitted", entry.state]:  # the agent was quicker than Kafka's acknowledgement, or that was lost
            self.implied += 1
            return None
        return None if states == wanted else f"receipts {states} instead of {wanted}"

    async def shown(self) -> list[str]:
        """What each agent shows to people at the end: nothing that waits for them."""
        lines: list[str] = []
        for post in self.posts:
            async with asyncio.timeout(PATIENCE):
                while post.owed():  # not those that it had in hand when it died, and the other one dealt with
                    await pause(0.2)
            code, told = await command(post.site, "show")
            assert code == 0, told
            lines.append(told.strip())
        return lines

    def figures(self) -> str:
        """What the agency's own system met."""
        states = Counter(each.state for each in self.registry.entries.values())
        often = Counter(map(len, self.registry.visits.values()))
        return (
            f"entered {dict(states)}; came so often: {dict(often)}, that is {self.registry.beyond} beyond the first, "
            f"of {self.repeatable} that might; unannounced {self.registry.ledger.unannounced}; arrivals implied: "
            f"{self.implied}; agents ended with {dict(self.codes)}"
        )


def _state(receipt: str) -> str:
    claims = jwt.decode(receipt, options={"verify_signature": False})
    return str(claims["state"])


Disturbance = Callable[[random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Disturbs all of them for a while, each for itself."""

    quay: Quay

    async def go_on(self, seconds: float) -> None:
        """Each gets each of its disturbances in turn, in an order of chance; the last ones come to their end."""
        until = time.monotonic() + seconds
        nodes = [("gateway", self._node(node.url.removeprefix("http://"))) for node in self.quay.going.nodes]
        agents = [("agent", self._agent(post)) for post in self.quay.posts]
        async with asyncio.TaskGroup() as all_of_them:
            for number, (name, kinds) in enumerate([*nodes, *agents, ("broker", self._broker())]):
                all_of_them.create_task(_disturbed(kinds, until, number, BETWEEN[name]))

    def _node(self, address: str) -> Sequence[Disturbance]:
        quay = self.quay

        def here() -> Node:
            return next(each for each in quay.going.nodes if each.url == f"http://{address}")

        async def killed(chance: random.Random) -> None:
            node = here()
            await node.killed()
            quay.done["gateway killed"] += 1
            quay.going.nodes.remove(node)
            await pause(chance.uniform(0, 3))
            await quay.serve(address)

        async def halted(chance: random.Random) -> None:
            node = here()
            await node.stopped()
            quay.done["gateway stopped"] += 1
            await pause(chance.uniform(1, BEYOND))
            node.signal(signal.SIGCONT)

        return killed, halted

    def _agent(self, post: Post) -> Sequence[Disturbance]:
        quay = self.quay

        async def killed(chance: random.Random) -> None:
            assert post.running
            await post.running.killed()
            quay.done["agent killed"] += 1
            quay.doubt()
            await pause(chance.uniform(0, 3))
            await quay.begin(post)

        async def halted(chance: random.Random) -> None:
            assert post.running
            post.running.process.send_signal(signal.SIGSTOP)
            quay.done["agent stopped"] += 1
            quay.doubt()
            await pause(chance.uniform(1, BEYOND))
            post.running.process.send_signal(signal.SIGCONT)

        async def restarted(chance: random.Random) -> None:
            assert post.running
            quay.codes[await post.running.ended()] += 1
            quay.done["agent restarted"] += 1
            quay.doubt()
            await pause(chance.uniform(0, 1))
            await quay.begin(post)

        return killed, halted, restarted

    def _broker(self) -> Sequence[Disturbance]:
        quay = self.quay

        async def killed(chance: random.Random) -> None:
            await asyncio.to_thread(quay.kafka.kill)
            quay.done["broker killed"] += 1
            quay.doubt()
            await pause(chance.uniform(0, 3))
            await quay.kafka.restart()
            quay.doubt()

        async def halted(chance: random.Random) -> None:
            quay.kafka.pause()
            quay.done["broker stopped"] += 1
            quay.doubt()
            await pause(chance.uniform(1, BEYOND))
            quay.kafka.resume()
            quay.doubt()

        async def restarted(chance: random.Random) -> None:
            await quay.kafka.stop()
            quay.done["broker restarted"] += 1
            quay.doubt()
            await pause(chance.uniform(0, 1))
            await quay.kafka.restart()
            quay.doubt()

        return killed, halted, restarted


async def _disturbed(kinds: Sequence[Disturbance], until: float, number: int, between: tuple[float, float]) -> None:
    chance = random.Random(number)
    left = [kinds[number % 2]]  # in a short run one of two is killed, the other stopped
    await pause(chance.uniform(*AT_FIRST))
    while time.monotonic() < until:
        left = left or chance.sample(kinds, len(kinds))
        await left.pop()(chance)
        await pause(min(chance.uniform(*between), max(0.0, until - time.monotonic())))


async def unknown(post: Post) -> list[str]:
    """Documents that wait for a person, as `gateway agent show` names them."""
    code, shown = await command(post.site, "show")
    found = [line.split()[1] for line in shown.splitlines() if line.startswith("UNKNOWN ")]
    assert code == bool(found), shown
    return found


async def settle(post: Post, document: str, entry: Entry | None) -> str:
    """A person has looked into the registry, and says what is true; the word that was said."""
    word = "again" if entry is None else "rejected" if entry.state == "rejected" else "taken"
    number = ["--number", entry.number] if entry is not None and entry.number else []
    told = ("settle", document, "--as", word, *number, "--reason", "looked it up")
    code, answer = await command(post.site, *told)
    assert code == 0, answer
    return word


@asynccontextmanager
async def quay(
    folder: Path, store: Store, kafka: Brokers, registry: Registry, *, takes_key: bool = True
) -> AsyncIterator[Quay]:
    """An agency with a topic of three partitions; nobody runs yet but the broker."""
    async with AsyncExitStack() as stack:
        district = District(folder / "district", kafka.bootstrap)
        district.found([Pushed(AGENCY, "", "kafka")])
        key = f"{AGENCY}.register"
        way: dict[str, Any] = {"services": ["*"], "protocol": "kafka", "deadline": DEADLINE}
        district._agency(AGENCY, {"systems": {"register": {"keys": key}}, "deliveries": [way]})
        await kafka.topic(topics.topic(INSTANCE, AGENCY), PARTITIONS)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        nodes: list[Node] = []
        chance = random.Random(1)

        def where() -> str:
            return chance.choice(nodes).url if nodes else "http://127.0.0.1:1"

        desk = Desk(session, where, district.token(SENDER), beat=BEAT)
        going = Campaign(district, store, desk, {AGENCY: registry.ledger}, stack, nodes, chance)
        try:
            yield Quay(going, kafka, registry, folder, takes_key)
        finally:
            await cancelled(*going.writers)
