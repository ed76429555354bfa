"""What the documents' benchmark plays on: a catalogue in folders, and `gateway serve` on it."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from ruamel.yaml import YAML

from gateway.core.jwk import thumbprint
from gateway.edge import keys

INSTANCE = "BENCH"
SENDER = "platform.desk"
WAYS = ("mailbox", "webhook", "http", "python")
KAFKA = "kafka"
AGENT = "agent"
"""The system of the agency behind Kafka that reports for it."""
PARTITIONS = 12
SITE = "site"
"""The agency's own keys folder: a gateway starts with no private keys of others."""
BODY = orjson.dumps({"subject": "A notice of one KiB", "text": "n" * 976})
_SCHEMA = {
    "type": "object",
    "required": ["subject", "text"],
    "additionalProperties": False,
    "properties": {"subject": {"type": "string", "maxLength": 200}, "text": {"type": "string", "maxLength": 4000}},
}
_ADAPTER = """
from gateway.adapter import Adapter, Document


class Taking(Adapter):
    async def take(self, document: Document) -> None:
        pass
"""
_YAML = YAML()


def service(way: str) -> str:
    """The service whose documents go by this way."""
    return f"bench.by_{way}.v1"


@dataclass(frozen=True)
class Serving:
    """A gateway that runs."""

    pid: int
    port: int
    token: str
    folder: Path


@contextmanager
def serving(
    folder: Path, recipient: str, database: str | None = None, bootstrap: str | None = None
) -> Iterator[Serving]:
    """`gateway serve`; what is pushed goes to the address ``recipient``, and with ``bootstrap`` to Kafka as well."""
    jwk = _founded(folder, recipient, KAFKA if bootstrap else None)
    if bootstrap:
        _cluster(folder, bootstrap)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    issuer = f"http://127.0.0.1:{port}"
    environment = {
        **surroundings(folder),
        "GATEWAY_ISSUER": issuer,
        "GATEWAY_DATABASE": database or f"sqlite:///{folder / 'gateway.sqlite3'}",
        "GATEWAY_ATTACHMENTS": str(folder / "attachments"),
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_OPERATIONS_LISTEN": "127.0.0.1:0",
        "GATEWAY_RUN_ADAPTERS": "true",
    }
    if bootstrap:
        command = [sys.executable, "-m", "gateway", "topics", "apply"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)  # noqa: S603 - ours
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"], env=environment, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield Serving(process.pid, _port(process), _token(folder, jwk, issuer), folder)
    finally:
        process.terminate()
        process.wait(60)


def surroundings(folder: Path) -> dict[str, str]:
    """The variables that `gateway` reads for all that it does here."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
        "GATEWAY_INSTANCE": INSTANCE,
        "GATEWAY_CATALOGUE": str(folder),
        "GATEWAY_KEYS": str(folder / "keys"),
        "GATEWAY_LOG_LEVEL": "INFO",
    }


def _port(process: "subprocess.Popen[bytes]") -> int:
    """Where it listens; from then on what it logs is read and thrown away by a thread of the shell's own."""
    assert process.stdout
    end = time.monotonic() + 30
    while time.monotonic() < end and select.select([process.stdout], [], [], 1) is not None:
        line = process.stdout.readline()
        if b'"started"' in line:
            subprocess.Popen(["/bin/cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            return int(orjson.loads(line)["public"].rpartition(":")[2])
        if not line:
            break
    raise RuntimeError("the gateway did not start: see errors.txt")


def _founded(folder: Path, recipient: str, more: str | None) -> dict[str, object]:
    """Writes catalogue and keys. Gives the sender's public key."""
    private, public = keys.new_client_key(INSTANCE)
    home = folder / "keys"
    for each in ("gateway", "agencies"):
        (home / each).mkdir(parents=True)
    keys.save(home / "gateway" / "signing.jwk.json", keys.new_signing_key(INSTANCE))
    keys.save(home / "gateway" / "master.key.json", keys.new_master_key(INSTANCE))
    keys.save(home / "gateway" / "webhook.jwk.json", keys.new_webhook_key(INSTANCE))
    keys.save(home / "agencies" / f"{SENDER}.jwks.json", public)
    _agency(folder, "platform", {"systems": {"desk": {"keys": SENDER}}})
    for way in (*WAYS, *([more] if more else ())):
        _service(folder, way)
        options = {"services": [service(way)], "protocol": way, "concurrency": 32}
        if way in ("webhook", "http"):
            options |= {"url": recipient, "allow": ["loopback"]}
        if way == "python":
            options["class"] = "Taking"
        systems = {"systems": {AGENT: {"keys": _client(folder, way)}}} if way == KAFKA else {}
        _agency(folder, f"office_{way}", {"deliveries": [options], **systems})
        _agreement(folder, way)
    (folder / "adapters" / "office_python" / "adapter.py").write_text(_ADAPTER, encoding="utf-8")
    purposes = [{"code": "correspondence", "title": "Letters"}]
    _write(
        folder / "schemas/common/purposes.yaml",
        {"source": "benchmark", "date": datetime(2026, 1, 1, tzinfo=UTC).date(), "purposes": purposes},
    )
    assert private["kid"]
    listed = public["keys"]
    assert isinstance(listed, list)
    found: dict[str, object] = listed[0]
    return found


def _client(folder: Path, way: str) -> str:
    """A system's pair of keys, and its name."""
    name = f"office_{way}.{AGENT}"
    private, public = keys.new_client_key(INSTANCE)
    keys.save(folder / "keys" / "agencies" / f"{name}.jwks.json", public)
    home = folder / SITE / "private"
    home.mkdir(parents=True)
    keys.save(home / f"{name}.jwk.json", private)
    return name


def _cluster(folder: Path, bootstrap: str) -> None:
    topics = {"partitions": PARTITIONS, "replication": 1, "min_insync": 1}
    _write(folder / "kafka.yaml", {"bootstrap": [bootstrap], "topics": topics})


def agent(folder: Path, gateway: str, bootstrap: str) -> list[str]:
    """The command of the agent of the agency behind Kafka, whose system is a class that takes everything."""
    home = folder / "adapters" / f"office_{KAFKA}"
    (home / "adapter.py").write_text(_ADAPTER, encoding="utf-8")
    described = {
        "agency": f"office_{KAFKA}",
        "instance": INSTANCE,
        "gateway": gateway,
        "system": AGENT,
        "kafka": {"bootstrap": [bootstrap]},
        "deliveries": [{"services": ["*"], "protocol": "python", "class": "Taking", "takes_key": True}],
    }
    _write(home / "agent.yaml", described)
    command = [sys.executable, "-m", "gateway", "agent", "--agency", f"office_{KAFKA}", "--data", str(folder / "agent")]
    return [*command, "--operations-listen", "127.0.0.1:0"]


def _service(folder: Path, way: str) -> None:
    home = folder / "schemas" / "bench" / f"by_{way}.v1"
    described = {"service": service(way), "title": f"Notices by {way}", "kind": "document", "personal_data": False}
    _write(home / "service.yaml", described)
    examples = {"document.plain.pass": orjson.loads(BODY), "document.empty.fail": {}}
    (home / "examples").mkdir()
    (home / "document.json").write_bytes(orjson.dumps(_SCHEMA))
    for name, value in examples.items():
        (home / "examples" / f"{name}.json").write_bytes(orjson.dumps(value))


def _agency(folder: Path, name: str, more: Mapping[str, object]) -> None:
    contacts = dict.fromkeys(("technical", "security", "data_protection"), f"desk@{name}.example")
    plain = {"agency": name, "title": {"en": name}, "class": "gov", "country": "KH", "contacts": contacts}
    _write(folder / "adapters" / name / "agency.yaml", {**plain, **more})


def _agreement(folder: Path, way: str) -> None:
    name = f"BENCH-{way.upper()}"
    days = {"from": datetime(2026, 1, 1, tzinfo=UTC).date(), "until": datetime(2099, 12, 31, tzinfo=UTC).date()}
    grant = {
        "service": service(way),
        "provider": f"office_{way}",
        "consumers": [SENDER],
        "purposes": ["correspondence"],
    }
    parties = ["platform", f"office_{way}"]
    agreed = {"agreement": name, "title": "Notices", "parties": parties, "valid": days, "grants": [grant]}
    _write(folder / "policies" / f"{name}.yaml", agreed)


def _write(path: Path, value: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        _YAML.dump(dict(value), file)


def _token(folder: Path, jwk: dict[str, object], issuer: str) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": INSTANCE,
        "sub": SENDER,
        "client_id": SENDER,
        "scope": "",
        "jti": "bench",
        "iat": now,
        "exp": now + 7200,
        "client_key": thumbprint(jwk),
    }
    return keys.read(folder / "keys", INSTANCE).signing.jwt(claims, "at+jwt")
