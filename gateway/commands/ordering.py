"""How an order that somebody types is carried out: by the command itself, or by the gateway that has the file."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

from gateway import __version__
from gateway.edge import control
from gateway.edge.control import Order, Orders, Outcome
from gateway.edge.journal import Journal
from gateway.edge.postgres import PostgresDriver, named
from gateway.edge.store import Driver, SqliteDriver, StoreFailed, StoreInUse, database_path, hold_ours
from gateway.settings import Settings


async def carried_out(chosen: Settings, order: Order, known: Callable[[], Orders]) -> Outcome:
    """By this process; or, where a gateway has the SQLite file, by that one. Raises StoreFailed or ValueError.

    ``known`` gives what this process can carry out; it is asked only where that is needed.
    """
    return await carried_out_at(chosen.database, chosen.instance, order, known)


async def carried_out_at(url: str, instance: str, order: Order, known: Callable[[], Orders]) -> Outcome:
    """The same on whatever database. Raises StoreFailed or ValueError."""
    if named(url):
        return await _by_this_one(PostgresDriver(url, instance), order, known())
    path = _file(url)
    hold_ours(path, made=True)
    try:
        driver = SqliteDriver(path, instance)
    except StoreInUse:
        return await control.hand_over(path, order)
    except OSError as error:
        raise StoreFailed(
            f"{path} cannot be opened ({error.strerror}): run the command as the gateway's user."
        ) from error
    return await _by_this_one(driver, order, known())


async def _by_this_one(driver: Driver, order: Order, known: Orders) -> Outcome:
    journal = Journal(driver)
    try:
        await journal.open(f"gateway {__version__} {order.kind}")
        return await control.carry_out(order, known, journal)
    finally:
        await journal.close()


def database_file(chosen: Settings) -> Path:
    """SQLite's. Raises StoreFailed where there is none, or ValueError."""
    return _file(chosen.database)


def _file(url: str) -> Path:
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(
            f"there is no database at {path}: is GATEWAY_DATABASE the gateway's own, and the folder right?"
        )
    return path


def user() -> str:
    """Who types. Not from the environment, where anything may stand."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
