"""Five hundred reloads of a gateway that is asked by sixteen connections meanwhile; prints what became of it as JSON.

A process of its own, so that memory is the gateway's and its callers', and not that of every test before.
"""

import asyncio
import contextlib
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import orjson

from gateway.core.model import Catalogue
from gateway.edge.telemetry import configure_logging
from tests.fakes.estate import DIRECTORY, asked, client
from tests.system.test_reload import SAENSUK, here

CONNECTIONS = 16
RELOADS = 500
WARM = 150
"""Reloads after which memory is measured first."""


async def main(folder: Path) -> None:
    """Sixteen connections ask in turn, four at a time, while two versions of three folders alternate."""
    async with here(folder) as (estate, _, reload, url), contextlib.AsyncExitStack() as stack:
        versions = [estate.files()]
        estate.edit(SAENSUK, "deadline: 1s", "deadline: 2s")
        estate.edit(DIRECTORY, "rate: 100000/s", "rate: 90000/s")
        estate.edit("adapters/finance/adapter.py", '"""', '"""\n\n')
        versions.append(estate.files())
        asking = [await stack.enter_async_context(client(url)) for _ in range(CONNECTIONS)]
        seen, sizes, begun = Counter[str](), [], time.monotonic()
        for number in range(RELOADS):
            turn = number % 4 * 4
            work = [reload.take(versions[number % 2]), *map(asked, asking[turn : turn + 4])]
            _, *codes = await asyncio.gather(*work)
            seen.update(map(str, codes))
            await asking[0].catalogue()
            if number + 1 in (WARM, RELOADS):
                sizes.append(resident())
        gc.collect()
        found = {
            "seconds": round(time.monotonic() - begun, 1),
            "calls": dict(seen),
            "mebibytes": [round(size, 1) for size in sizes],
            "grown": round(sizes[1] / sizes[0] - 1, 4),
            "catalogues": sum(isinstance(each, Catalogue) for each in gc.get_objects()),
        }
    sys.stdout.write(orjson.dumps(found).decode() + "\n")


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    configure_logging("ERROR")
    asyncio.run(main(Path(sys.argv[1])))
