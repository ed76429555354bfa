"""What a process stands on before anything runs: sockets, keys, trust, and the reasons why it cannot start."""

import gc
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue.reading import Finding
from gateway.core.model import Catalogue
from gateway.edge import keys
from gateway.edge.documents.vault import Vault, place_of
from gateway.edge.listener import bound, room
from gateway.edge.postgres import named
from gateway.edge.store import database_path
from gateway.edge.tls import served
from gateway.settings import Settings


class NotStarted(Exception):
    """The gateway cannot start; the text says why and what to do."""

    def __init__(self, reason: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(reason)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a gateway listens on; several processes may share the public one."""

    public: socket.socket
    operations: socket.socket


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens."""

    public: str
    operations: str


def keyring_of(settings: Settings) -> tuple[keys.Keyring | None, list[str]]:
    """The gateway's keys, and what is wrong with the files beside the catalogue's own."""
    keyring, reasons = None, []
    try:
        keyring = keys.read(settings.keys, settings.instance)
    except keys.BadKeys as error:
        reasons.append(str(error))
    connections, calls = settings.max_connections, settings.max_in_progress
    for part in (lambda: trust(settings.ca_file), lambda: served(settings), lambda: room(connections, calls)):
        try:
            part()
        except (NotStarted, ValueError) as error:
            reasons.append(str(error))
    return keyring, reasons


def vault_of(settings: Settings, catalogue: Catalogue) -> Vault | None:
    """Where files are kept; None where nothing says so, and no service takes any. Raises NotStarted."""
    where = settings.attachments
    if where is None and not named(settings.database):
        where = str(database_path(settings.database).absolute().parent / "attachments")
    if where is None:
        taking = [each.id for each in catalogue.services.values() if each.life and each.life.attachments]
        if taking:
            raise NotStarted(
                f"GATEWAY_ATTACHMENTS is not set, and {min(taking)} takes attachments: name the place for files that "
                "all nodes share, a folder or s3://bucket/prefix?region=…&endpoint=https://…."
            )
        return None
    try:
        return Vault(place_of(where, keys.bucket_key(settings.keys, settings.instance)))
    except (ValueError, keys.BadKeys) as error:
        raise NotStarted(f"GATEWAY_ATTACHMENTS: {error}") from error


def listening(settings: Settings, public: socket.socket | None = None) -> Sockets:
    """Both sockets; ``public`` is one that the process was given. Raises NotStarted."""
    return Sockets(public or _socket(settings.listen), _socket(settings.operations_listen))


def _socket(address: str) -> socket.socket:
    try:
        return bound(address)
    except OSError as error:
        raise NotStarted(f"{address} cannot be listened on: {error.strerror}. Is another gateway running?") from error


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """What answers to us must be certified by: the system's authorities and those of the file. Raises NotStarted."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise NotStarted(f"GATEWAY_CA_FILE {ca_file} cannot be read as certificates in PEM") from error
    return context


def spare_garbage_collection() -> None:
    """For a process that serves: what lives as long as it is not looked through again, the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)  # a request leaves hundreds of objects, and few circles
