"""How an operator's order reaches the one process that writes a SQLite file: a Unix socket beside it.

An order is a kind and its fields; what a kind means stands in a table of plans, each of which is one transaction of the
journal. One JSON line goes each way. Who may open the socket is the file system's to say: the gateway's user alone.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from gateway.core.line import is_line
from gateway.core.refusal import Refusal
from gateway.edge.journal import Book, Journal
from gateway.edge.store import Plan, StoreFailed
from gateway.edge.telemetry import place

MAX_LINE = 8192
"""Bytes of an order, and of what is answered."""
MAX_TEXT = 500
"""Characters of a field."""
MAX_AT_ONCE = 8
"""Orders that are taken at once."""
SECONDS = 5.0
"""In which an order must come."""
PATIENCE = 15.0
"""Seconds for which whoever gave an order waits for the answer."""
LONGEST_PATH = 107
"""Bytes of a socket's path (unix(7))."""

log = structlog.get_logger()


class BadOrder(Exception):
    """An order that cannot be carried out as it stands; the text says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """Something that a person wants the gateway to do."""

    kind: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order, in a sentence."""

    done: bool
    text: str


Orders = Mapping[str, Callable[[Mapping[str, str]], Callable[[Book], Plan[Outcome]]]]
"""By kind: from the fields to the plan that carries the order out. Raises BadOrder."""


async def carry_out(order: Order, orders: Orders, journal: Journal) -> Outcome:
    """Do it in one transaction, with its entry."""
    if order.kind not in orders:
        return Outcome(done=False, text=f'the gateway knows no order "{order.kind}": is it of another version?')
    try:
        return await journal.run(orders[order.kind](order.fields))
    except BadOrder as error:
        return Outcome(done=False, text=str(error))
    except Refusal as refusal:
        why = refusal.__cause__ or "too much waits for it"
        return Outcome(done=False, text=f"the journal cannot be written now, so that nothing was done: {why}")


def hold_fields(fields: Mapping[str, str], wanted: Collection[str]) -> None:
    """Raises BadOrder where a field is missing, unknown, empty, too long or unfit for one line of a terminal."""
    if fields.keys() != set(wanted):
        raise BadOrder(f"the order must have the fields {', '.join(wanted)}, and no others")
    for name, value in fields.items():
        if len(value) > MAX_TEXT or not is_line(value):
            raise BadOrder(
                f"{name} must be one line of 1 to {MAX_TEXT} characters, with something to see, and without control "
                "characters and ones that turn the direction of writing"
            )


def socket_path(database: Path) -> Path:
    """Where orders are taken. Raises StoreFailed."""
    path = database.with_name(database.name + ".control")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StoreFailed(
            f"the path {path} is longer than the {LONGEST_PATH} bytes that a socket's may have: "
            "give GATEWAY_DATABASE a shorter path."
        )
    return path


@contextlib.asynccontextmanager
async def taking(database: Path, done: Callable[[Order], Awaitable[Outcome]]) -> AsyncIterator[None]:
    """Orders are taken until the context ends; what runs then is finished. Raises StoreFailed.

    Only for the process that has the database's lock: a socket that stands there is nobody's.
    """
    path = socket_path(database)
    desk = _Desk(done)
    server = await asyncio.start_unix_server(desk.serve, sock=_bound(path), limit=MAX_LINE)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        await _finished(desk.running)


async def _finished(running: set[asyncio.Task[Any]]) -> None:
    """Orders have the time in which somebody waits for them; more would hold up a stop."""
    if running:
        _, late = await asyncio.wait(running, timeout=PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _bound(path: Path) -> socket.socket:
    """Nobody can connect before it listens, and by then it is the owner's alone."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        made.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        made.close()
        raise StoreFailed(f"orders cannot be taken at {path} ({error.strerror}): what stands there?") from error
    return made


class _Desk:
    """Takes orders, a few at once."""

    def __init__(self, done: Callable[[Order], Awaitable[Outcome]]) -> None:
        self._done = done
        self.running: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine runs in one
        self.running.add(task)
        try:
            outcome = await self._outcome(reader)
            writer.write(orjson.dumps(asdict(outcome)) + b"\n")
            async with asyncio.timeout(SECONDS):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):  # whoever asked went away, or never said anything
            pass
        finally:
            self.running.discard(task)
            writer.close()

    async def _outcome(self, reader: asyncio.StreamReader) -> Outcome:
        if len(self.running) > MAX_AT_ONCE:
            return Outcome(done=False, text="too many orders are being carried out: try again.")
        try:
            async with asyncio.timeout(SECONDS):
                line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return Outcome(done=False, text=f"an order has at most {MAX_LINE} bytes.")
        try:
            return await self._done(_order(line))
        except BadOrder as error:
            return Outcome(done=False, text=str(error))
        except Exception as error:  # noqa: BLE001 - whoever asked is to be told
            log.error("order_broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            return Outcome(done=False, text="the gateway failed to carry it out: see its log.")


def _order(line: bytes) -> Order:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadOrder("an order is a line of JSON.") from error
    match said:
        case {"kind": str(kind), "fields": dict(fields), **rest} if not rest:
            if all(isinstance(value, str) for value in fields.values()):
                return Order(kind[:MAX_TEXT], fields)
    raise BadOrder("an order is an object with kind, a text, and fields, an object of texts.")


async def hand_over(database: Path, order: Order) -> Outcome:
    """Have the process that holds the database carry it out. Raises StoreFailed where nobody takes it."""
    path = socket_path(database)
    try:
        async with asyncio.timeout(PATIENCE):
            line = await _asked(path, orjson.dumps(asdict(order)) + b"\n")
        said = orjson.loads(line)
        return Outcome(done=said["done"] is True, text=str(said["text"]))
    except TimeoutError as error:
        raise StoreFailed(
            f"the gateway did not answer within {PATIENCE:.0f} s: whether it was done is not known."
        ) from error
    except PermissionError as error:
        raise StoreFailed(f"{path} may not be used by you: run the command as the gateway's user.") from error
    except OSError as error:
        raise StoreFailed(
            f"{database.name} is in use by a process that takes no orders: a gateway that starts, stops or is of an "
            "older version. Try again."
        ) from error
    except (ValueError, KeyError, TypeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise StoreFailed("the gateway broke off its answer: whether it was done is not known.") from error


async def _asked(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readuntil(b"\n")
    finally:
        writer.close()
