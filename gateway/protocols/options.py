"""What manifests give to protocols that speak HTTP: texts, headers, secrets, TLS; read and held when they connect."""

import re
import ssl
from collections.abc import Collection, Mapping

from gateway.catalogue.files import Files
from gateway.core.mapping import Line, line
from gateway.core.reach import LOOPBACK, Reach
from gateway.protocols.protocol import LONGEST_WAIT

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.6.2."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_OURS = re.compile(
    r"(?i:exchange-.*|idempotency-key|traceparent|webhook-.*|content-digest|host|connection|content-length"
    r"|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|accept-encoding|user-agent|cookie)"
)
"""Headers that a manifest cannot set: the evidence of the exchange, and what belongs to the connection."""


def hold_names(options: Mapping[str, object], known: Collection[str], what: str) -> None:
    """Raises ValueError where there is an option that nobody reads."""
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(f"{what} knows no option {', '.join(unknown)}; it knows {', '.join(sorted(known))}")


def text(value: object, name: str) -> str:
    """The value, if it is a text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text")  # noqa: TRY004 - a mistake in a manifest, not in the code
    return value


def texts(options: Mapping[str, object], name: str) -> dict[str, str]:
    """An option that is a mapping of texts. Raises ValueError."""
    value = options.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping of texts")  # noqa: TRY004 - same
    return {text(key, name): text(inner, f"{name}: {key}") for key, inner in value.items()}


def headers(options: Mapping[str, object], files: Files) -> tuple[dict[str, str], dict[str, Line]]:
    """Fixed headers, secrets among them, and those with placeholders. Raises ValueError."""
    written, secrets = texts(options, "headers"), texts(options, "secret_headers")
    names = [*written, *secrets]
    for name in names:
        if not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
            raise ValueError(f"the header {name!r} is no header's name, or one that the gateway sets itself")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("headers and secret_headers name the same header twice")
    if "authorization" in {name.lower() for name in written}:
        raise ValueError("Authorization is a secret: put it into a file and name that in secret_headers")
    templates = {name: Line(template) for name, template in written.items()}
    fixed = {name: template.fixed for name, template in templates.items() if template.fixed is not None}
    for name, file in secrets.items():
        fixed[name] = line(secret(files, file).removesuffix("\n").removesuffix("\r"), f"the secret {file!r}")
    return fixed, {name: template for name, template in templates.items() if template.fixed is None}


def secret(files: Files, name: str) -> str:
    """What a secret's file holds. Raises ValueError, without it."""
    try:
        held = _held(files, name).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the secret {name!r} is not UTF-8") from error
    if not held.strip("\r\n"):
        raise ValueError(f"the secret {name!r} is empty")
    return held


def _held(files: Files, name: str) -> bytes:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must be the name of a file in {files.path('keys/secrets')}, without a folder")
    try:
        return files.secret(name)
    except ValueError as error:
        raise ValueError(f"the secret {error}") from error


def context(tls: Mapping[str, str], files: Files) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server always verified; with ``ca``, by that authority alone. Raises ValueError."""
    if unknown := sorted(tls.keys() - {"client", "ca"}):
        raise ValueError(f"tls knows no {', '.join(unknown)}; it knows ca and client")
    path = {option: files.path(f"keys/secrets/{name}") for option, name in tls.items()}
    before = [_held(files, name) for name in tls.values()]
    try:
        made = ssl.create_default_context(cafile=path.get("ca"))
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if "client" in tls:
            # An empty password: a key that needs one is an error here, not a question at a terminal.
            made.load_cert_chain(path["client"], password="")
    except OSError as error:
        raise ValueError(f"tls: {' or '.join(tls.values())} in keys/secrets cannot be read as PEM") from error
    if before != [_held(files, name) for name in tls.values()]:  # OpenSSL reads the files itself
        raise ValueError(f"tls: {' or '.join(tls.values())} changed while the endpoint was connected")
    return made


def reach(options: Mapping[str, object]) -> Reach:
    """Which addresses a way may dial: ``allow: [loopback]`` opens that one. Raises ValueError."""
    allowed = options.get("allow", [])
    if not isinstance(allowed, list | tuple) or not set(allowed) <= {LOOPBACK}:
        raise ValueError(f"allow must be a list that holds nothing but {LOOPBACK}")
    return Reach(loopback=LOOPBACK in allowed)


def wait(value: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, would need both clocks to agree (RFC 9110, section 10.2.3)."""
    if value is None or not re.fullmatch(r"[0-9]{1,9}", value):
        return None
    return min(float(value), LONGEST_WAIT)
