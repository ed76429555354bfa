"""The database that a setting names: a file, or a PostgreSQL server's."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from gateway.edge.postgres import PostgresDriver, may_undo, named
from gateway.edge.store import Driver, SqliteDriver, StoreFailed, database_path

log = structlog.get_logger()


def opened(url: str, instance: str, *, create: bool) -> Driver | None:
    """The database; None where it would have to be made and is not to be. Raises StoreFailed."""
    if named(url):
        try:
            return PostgresDriver(url, instance)
        except ValueError as error:
            raise StoreFailed(str(error)) from error
    path = database_path(url)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreFailed(
            f"GATEWAY_DATABASE: there is no folder {folder}. Make it, owned by the gateway's user, or correct the path."
        )
    if not create and not path.exists():
        return None
    try:
        return SqliteDriver(path, instance)
    except OSError as error:
        raise StoreFailed(f"GATEWAY_DATABASE: {path} cannot be opened ({error.strerror}): who owns it?") from error


async def warn_of_owner(driver: Driver) -> None:
    """The role that serves should own nothing (decision 10); a try on one's own server may. Raises StoreFailed."""
    if isinstance(driver, PostgresDriver) and await may_undo(driver):
        log.warning("database_unguarded")


def give_back(driver: Driver) -> None:
    """Close it here and now, whether a loop runs or not."""
    with ThreadPoolExecutor(1) as aside:
        aside.submit(asyncio.run, driver.close()).result()
