"""A depot as a process of its own: it prints its address and a token, and lives until its standard input ends."""

import asyncio
import sys
from pathlib import Path

import orjson
import structlog
import uvloop

from tests.fakes import depot


async def main(folder: Path) -> None:
    """Serve."""
    loop = asyncio.get_running_loop()
    async with depot.opened(folder) as opened:
        sys.stdout.write(orjson.dumps({"url": opened.url, "token": opened.token(depot.SENDER)}).decode() + "\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(main(Path(sys.argv[1])))
