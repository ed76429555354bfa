"""A broker's settings: the files beside this one, and what changes in them for brokers on this machine's loopback."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections: a broker that is down for a while gets its port back."""
LISTENERS = ("CLIENTS", "CONTROLLER", "BROKERS")

Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one broker."""

    clients: int
    controller: int
    brokers: int


def read(name: str) -> dict[str, str]:
    """A file of settings that lies here: ``broker.properties`` or ``three.properties``."""
    lines = (line.strip() for line in (HERE / name).read_text("utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def written(settings: Settings, path: Path) -> Path:
    """As Java reads them."""
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), "utf-8")
    return path


def here(number: int, ports: Sequence[Ports], data: Path, security: Mapping[str, str]) -> Settings:
    """What differs from the files for the broker of this number: its addresses and its folder, and nothing else.

    ``security``: the protocol of each listener, such as ``CLIENTS: SASL_SSL``; those that it leaves out are not there.
    """
    own = ports[number - 1]
    given = {"CLIENTS": own.clients, "CONTROLLER": own.controller, "BROKERS": own.brokers}
    addresses = ",".join(f"{name}://{HOST}:{given[name]}" for name in LISTENERS if name in security)
    return {
        "node.id": str(number),
        "controller.quorum.bootstrap.servers": ",".join(f"{HOST}:{each.controller}" for each in ports),
        "listeners": addresses,
        "advertised.listeners": addresses,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in security.items()),
        "log.dirs": str(data),
    }


def free_ports() -> Ports:
    """Three on which nobody listens."""
    found: set[int] = set()
    while len(found) < 3:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.add(port)
    return Ports(*found)
