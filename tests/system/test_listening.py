"""The public listener under TLS, and what stops a start before anything listens."""

import asyncio
import signal
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import compose
from gateway.footing import NotStarted
from gateway.settings import Settings
from tests.fakes.certificates import AUTHORITY, calling
from tests.fakes.town import opened, until
from tests.system.test_serve import ROOT, served, settings


def files(folder: Path) -> dict[str, Any]:
    """A certificate and its key, as settings name them."""
    leaf = AUTHORITY.issue_cert("127.0.0.1", not_after=datetime(2035, 1, 1))  # noqa: DTZ001 - trustme wants it so
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.key").chmod(0o600)
    leaf.cert_chain_pems[0].write_to_path(folder / "tls.pem")
    return {"tls_certificate": str(folder / "tls.pem"), "tls_key": str(folder / "tls.key")}


async def test_the_gateway_speaks_tls(tmp_path: Path) -> None:
    """Its address says so, callers are served, and operators see when the certificate expires."""
    async with opened(tmp_path, **files(tmp_path)) as town, aiohttp.ClientSession() as session:
        assert town.at.public.startswith("https://")
        async with session.get(f"{town.at.public}/docs/refusals", ssl=calling(None)) as answer:
            assert (answer.status, answer.headers["Server"]) == (200, "gateway")
        expires = (await town.metrics())['gateway_certificate_expiry_timestamp_seconds{listener="public"}']
    assert datetime.fromtimestamp(expires).year in (2034, 2035)  # noqa: DTZ006 - the zone makes no difference


async def test_without_tls_nothing_expires(tmp_path: Path) -> None:
    """An alert on the time that is left must not see a zero."""
    async with opened(tmp_path) as town:
        assert not [name for name in await town.metrics() if "certificate_expiry" in name]


def test_a_start_that_cannot_be_says_why(tmp_path: Path) -> None:
    """The files of TLS are looked at before anything listens, and an operator reads which and why."""
    given = {**files(tmp_path), "database": f"sqlite:///{tmp_path / 'g.sqlite3'}"}
    (tmp_path / "tls.key").write_text("nothing")
    with pytest.raises(NotStarted, match=r"GATEWAY_TLS_KEY: .*tls.key cannot be read"):
        compose(Settings.model_validate(given), {})


async def test_too_few_files_stop_the_start(tmp_path: Path) -> None:
    """Where the process may open fewer files than its settings need, it says how many, and how to get them."""
    serve = ("sh", "-c", 'ulimit -n 1000; exec "$0" -m gateway serve', sys.executable)
    process = await asyncio.create_subprocess_exec(
        *serve, cwd=ROOT, env=settings(tmp_path), stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    assert process.returncode == 1
    assert b"need 5352 open files" in words.replace(b"\n", b" ")
    assert b"Traceback" not in words


async def asks_on(port: int, seen: Counter[str]) -> None:
    """Request after request; on another connection after an answer that was the last, until nobody listens."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        head = b""
        while b"Connection: close" not in head:
            writer.write(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: g\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")  # an empty answer or a reset raises
            length = next(line for line in head.splitlines() if line.startswith(b"Content-Length: "))
            await reader.readexactly(int(length.split()[1]))
            seen[head.split()[1].decode()] += 1
        writer.close()


async def test_a_stop_loses_no_request(tmp_path: Path) -> None:
    """SIGTERM while eight callers ask without a pause, beside idle connections: every request is answered."""
    environment = settings(tmp_path)
    port = int(environment["GATEWAY_LISTEN"].rpartition(":")[2])
    seen: Counter[str] = Counter()
    async with served(environment) as process:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        callers = [asyncio.create_task(asks_on(port, seen)) for _ in range(8)]
        await until(lambda: seen["200"] > 200)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        for reader, writer in idle:
            assert await reader.read() == b""
            writer.close()
        assert await process.wait() == 0
    assert set(seen) == {"200"}
