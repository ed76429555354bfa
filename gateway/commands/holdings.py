"""What the keys folder lacks of what agencies' folders name, looked at where that folder is the gateway's own."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.catalogue import kafka
from gateway.catalogue.reading import Finding
from gateway.core import webhook
from gateway.core.model import AgencyId, Catalogue
from gateway.edge.keys import WEBHOOK_FILE

_WEBHOOK = "webhook"


def lacking(root: Path, keys: Path, catalogue: Catalogue) -> tuple[Finding, ...]:
    """Mistakes for which ``gateway serve`` would not start; none where there is no ``gateway/`` in the keys folder.

    Whoever looks after the catalogue alone has public keys, and no secrets.
    """
    try:
        if not (keys / "gateway").is_dir():
            return ()
        return tuple(_lacking(root, keys, catalogue))
    except PermissionError:  # they are not for whoever asks
        return ()


def _lacking(root: Path, keys: Path, catalogue: Catalogue) -> Iterator[Finding]:
    for name in _of_cluster(catalogue):
        if not (keys / "secrets" / name).is_file():
            yield _in(root, kafka.FILE, name, f"the secret {name} is missing from the keys folder", _there(keys, name))
    signs = (keys / "gateway" / WEBHOOK_FILE).is_file()
    for agency in catalogue.agencies.values():
        seen: set[str] = set()
        options = [each.options for each in agency.endpoints.values()] + [each.options for each in agency.deliveries]
        for name in (name for each in options for name in _named(each)):
            if name not in seen and not (keys / "secrets" / name).is_file():
                message = f"the secret {name} is missing from the keys folder"
                yield _at(root, agency.id, name, message, _there(keys, name))
            seen.add(name)
        for way in agency.deliveries:
            if way.protocol != _WEBHOOK:
                continue
            if not signs:
                remedy = "Make it with gateway keys gateway, and restart the gateway."
                message = f"the way {way.name} signs with gateway/{WEBHOOK_FILE}, which is missing from the keys folder"
                yield _at(root, agency.id, _WEBHOOK, message, remedy)
            name = str(way.options.get("secret", ""))
            if name and (why := _unfit(keys / "secrets" / name)):
                remedy = "Write it anew, and tell the agency."
                yield _at(root, agency.id, name, f"the secret {name} of the way {way.name} {why}", remedy)


def _of_cluster(catalogue: Catalogue) -> Iterator[str]:
    """The secrets that kafka.yaml names."""
    connection = catalogue.kafka.connection if catalogue.kafka is not None else None
    if connection is not None:
        yield from (connection.tls or {}).values()
        yield from [connection.sasl.password] if connection.sasl is not None else []


def _there(keys: Path, name: str) -> str:
    return f"Put it there: {keys / 'secrets' / name}."


def _named(options: Mapping[str, object]) -> Iterator[str]:
    """The secrets that an endpoint or a way names."""
    groups = [options.get("secret_headers"), options.get("tls"), {"secret": options.get("secret")}]
    for group in groups:
        if isinstance(group, Mapping):
            yield from (name for name in group.values() if isinstance(name, str))


def _unfit(path: Path) -> str | None:
    """What is wrong with a secret of webhooks that is there."""
    try:
        webhook.secrets(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return "is not UTF-8"
    except ValueError as error:
        return str(error)
    return None


def _at(root: Path, agency: AgencyId, word: str, message: str, remedy: str) -> Finding:
    """At the first line that has the word: which of several does not matter."""
    return _in(root, f"adapters/{agency}/agency.yaml", word, message, remedy)


def _in(root: Path, file: str, word: str, message: str, remedy: str) -> Finding:
    lines = (root / file).read_text("utf-8").splitlines()
    line = next((number for number, text in enumerate(lines, 1) if word in text), 1)
    return Finding("error", file, line, message, remedy)
