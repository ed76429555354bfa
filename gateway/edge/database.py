"""The database that a setting names: a file, or a PostgreSQL server's."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from gateway.edge.postgres import ERRORS, PostgresDriver, connect, dsn_of, first_line, may_undo, named
from gateway.edge.store import INSTANCE, Driver, SqliteDriver, SqliteReader, StoreFailed, database_path

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


async def instance_of(url: str) -> str:
    """The instance to which a database belongs. Raises StoreFailed."""
    if not named(url):
        rows = await SqliteReader(database_path(url)).read(INSTANCE)
        found = rows[0][0] if rows else None
    else:
        connection = await connect(dsn_of(url), {"application_name": "gateway journal"})
        try:
            found = await connection.fetchval(INSTANCE)
        except ERRORS as error:
            raise StoreFailed(f"the database cannot be asked whose it is: {first_line(error)}") from error
        finally:
            connection.terminate()
    if found is None:
        raise StoreFailed("the database belongs to no instance: is it the gateway's?")
    return str(found)


async def warn_of_owner(driver: Driver) -> None:
    """The role that serves should own nothing (decision 10); a try on one's own server may. Raises StoreFailed."""
    if isinstance(driver, PostgresDriver) and await may_undo(driver):
        log.warning("database_unguarded")


def give_back(driver: Driver) -> None:
    """Close it here and now, whether a loop runs or not."""
    with ThreadPoolExecutor(1) as aside:
        aside.submit(asyncio.run, driver.close()).result()
