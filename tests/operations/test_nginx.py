"""The example proxy of deploy/nginx in a real nginx: TLS, client certificates, two nodes, the caller's address."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway.client import GatewayClient
from tests.fakes import ports
from tests.fakes.certificates import AUTHORITY, calling, certificate
from tests.fakes.parties import LOOK_UP, PERSON, PURPOSE, TAX, Terms
from tests.fakes.town import Town, opened
from tests.system.test_serve import ROOT

OURS, THIEF = certificate(), certificate()
CALLER = "127.0.0.2"
"""Not the proxy's own address, which the gateway trusts."""
NGINX = ROOT / "deploy" / "nginx" / "gateway.conf"


def there() -> str:
    """The program's path; the test is skipped where there is none, but not in CI."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        message = "nginx is not there: install it (Debian: apt-get install nginx-light)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def configuration(folder: Path, port: int, node: str, down: str) -> str:
    """The example with this test's addresses and files, and a frame around it."""
    leaf = AUTHORITY.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(folder / "proxy.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "proxy.pem")
    AUTHORITY.cert_pem.write_to_path(folder / "authorities.pem")
    written = NGINX.read_text("utf-8")
    for given, ours in {
        "gw1.example:8080": down,
        "gw2.example:8080": node,
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/tls/gateway.example.pem": str(folder / "proxy.pem"),
        "/etc/nginx/tls/gateway.example.key": str(folder / "proxy.key"),
        "/etc/nginx/tls/client-authorities.pem": str(folder / "authorities.pem"),
        "/var/log/nginx/gateway-refused.log": str(folder / "refused.log"),
    }.items():
        assert given in written
        written = written.replace(given, ours)
    places = "".join(f"{each}_temp_path {folder};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 64; }}\nhttp {{\n{places}{written}\n}}\n"
    )


@asynccontextmanager
async def proxied(folder: Path, town: Town) -> AsyncIterator[str]:
    """nginx before the town's gateway and before a node that is down; its address."""
    program, port = there(), ports.free()[0]
    config = folder / "nginx.conf"
    config.write_text(configuration(folder, port, town.at.public.removeprefix("http://"), "127.0.0.1:1"), "utf-8")
    checked = await asyncio.create_subprocess_exec(program, "-q", "-t", "-c", str(config))
    assert await checked.wait() == 0
    process = await asyncio.create_subprocess_exec(program, "-c", str(config), stderr=asyncio.subprocess.DEVNULL)
    try:
        await listening(port)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def listening(port: int) -> None:
    """Until somebody listens there."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0)
                continue
            writer.close()
            return


async def looked_up(address: str, token: str, tls: ssl.SSLContext, **headers: str) -> tuple[int, str | None]:
    """Status and code of a look-up through the proxy."""
    given = {"Authorization": f"Bearer {token}", "Exchange-Purpose": PURPOSE, "Content-Type": "application/json"}
    sent = {**given, **{name.replace("_", "-"): value for name, value in headers.items()}}
    url = f"{address}/v1/exchange/interior/{LOOK_UP}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, local_addr=(CALLER, 0))) as session,
        session.post(url, data=orjson.dumps(PERSON), headers=sent) as answer,
    ):
        return answer.status, (await answer.json(content_type=None)).get("code")


async def test_the_example_proxy(tmp_path: Path) -> None:
    """A bound token needs its certificate, what a caller claims is replaced, a node that is down is not noticed."""
    terms = Terms(certificate_bound=True)
    async with opened(tmp_path, terms, trusted_proxies="127.0.0.1") as town, proxied(tmp_path, town) as address:
        key = {**town.keys[TAX].private, "kid": town.keys[TAX].thumbprint}
        trust, shown = tmp_path / "authorities.pem", OURS.saved(tmp_path)
        async with GatewayClient(address, client_id=TAX, key=key, ca_file=trust, certificate=shown) as client:
            await client.exchange("interior", LOOK_UP, PERSON, purpose=PURPOSE)
            token = await client.token()
        claimed = {"Client_Cert": OURS.escaped, "X_Forwarded_For": "203.0.113.9"}
        assert await looked_up(address, token, calling(OURS), **claimed) == (200, None)
        assert await looked_up(address, token, calling(THIEF), **claimed) == (401, "identity.invalid")
        assert await looked_up(address, token, calling(None), **claimed) == (401, "identity.invalid")
        assert [entry.facts["remote"] for entry in town.entries() if entry.facts["step"] == "answered"][1:] == [CALLER]
        assert not [entry for entry in town.entries() if "203.0.113.9" in entry.kept.entry.decode()]
        assert len(town.office.seen) == 2
    told = (tmp_path / "refused.log").read_text("utf-8").splitlines()
    assert [line.split()[0] for line in told] == [CALLER] * 2  # who was refused, and nobody else
    assert all(" 401 " in line and "203.0.113.9" not in line for line in told)
