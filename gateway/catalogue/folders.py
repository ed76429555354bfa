"""What an agency's folder may name: its own class, its own variables, its own secrets, addresses without users."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.catalogue.members import Tls
from gateway.catalogue.reading import Place, Reading, Source, Spot, near

_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_NAMED = re.compile(r"[a-z][a-z0-9_]*\.[a-z0-9_.-]+")
_ADDRESS = re.compile(r"https?://[^\s@/?#]+[^\s@]*")


@dataclass(frozen=True, slots=True)
class Folder:
    """One agency's folder, and where to report what it may not name."""

    reading: Reading
    source: Source
    path: Path
    environment: Mapping[str, str] | None
    """None leaves ``${NAME}`` as it is."""

    def python_class(self, name: str, place: Place) -> None:
        """Report a class that the folder's adapter.py does not have."""
        path = self.path / "adapter.py"
        spot = self.source.at(*place, "class")
        if not self.reading.is_file(path):
            remedy = f"Write the class {name} into {self.reading.name(path)}."
            self.reading.error(spot, "the agency has no adapter.py", remedy)
            return
        text = self.reading.text(path)
        if text is None:
            return
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = (error.lineno if isinstance(error, SyntaxError) else None) or 1
            self.reading.error(Spot(self.reading.name(path), line), "is no Python", "Correct the line.")
            return
        known = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if name not in known:
            remedy = f"{near(name, known)}Name a class that stands there."
            self.reading.error(spot, f"adapter.py has no class {name}", remedy)

    def expanded(self, option: Any, place: Place) -> Any:
        """The option with the environment's values for ``${NAME}`` in every text."""
        if isinstance(option, dict):
            return {name: self.expanded(inner, (*place, name)) for name, inner in option.items()}
        if not isinstance(option, str):
            return option
        return _VARIABLE.sub(lambda found: self._variable(found, place), option)

    def _variable(self, found: re.Match[str], place: Place) -> str:
        name = found[1]
        spot = self.source.at(*place)
        own = f"{self.path.name.upper()}_"
        if not name.startswith(own):  # nobody's folder may send others' variables to an address of its own
            remedy = f"Choose a name that begins with {own}."
            self.reading.error(spot, f"the environment variable {name} is not this agency's", remedy)
        elif self.environment is not None:
            if self.environment.get(name):
                return self.environment[name]
            remedy = f"Set {name} where the gateway is started."
            self.reading.error(spot, f"the environment variable {name} is not set", remedy)
        return found[0]

    def address(self, url: str, place: Place) -> None:
        """Report an address that is none, or holds a user's name."""
        if not _VARIABLE.search(url) and not _ADDRESS.fullmatch(url):
            message = "the address is no http or https URL, or has a user's name in it"
            remedy = "Write http:// or https://, a host and a path; put secrets into secret_headers."
            self.reading.error(self.source.at(*place, "url"), message, remedy)

    def delivery_address(self, url: str, place: Place, *, loopback: bool) -> None:
        """The same for an address that documents are sent to: no place in it takes anything of a document."""
        self.address(url, place)
        if "{/" in url:
            message = "an address that documents are sent to takes nothing of the document"
            self.reading.error(self.source.at(*place, "url"), message, "Take {/…} out: the body says what it is.")
        if not loopback and is_loopback(url):
            remedy = "Write the agency's own address; allow: [loopback] is for a system on the gateway's own machine."
            self.reading.error(self.source.at(*place, "url"), "the address leads to the gateway's own machine", remedy)

    def own_secrets(self, named: Mapping[Place, str | None]) -> None:
        """A secret leaves only towards the agency whose name it begins with."""
        for spot, secret in named.items():
            if secret is not None and not secret.startswith(f"{self.path.name}."):
                name = shown(secret)
                remedy = f"Name a secret of your own, such as {self.path.name}.{name.rpartition('.')[2]}."
                self.reading.error(self.source.at(*spot), f"the secret {name} is not this agency's", remedy)


def shown(secret: str) -> str:
    """The name of a secret, unless it looks like the secret itself, which somebody wrote where its name belongs."""
    return secret if _NAMED.fullmatch(secret) else "…"


def secrets(headers: Mapping[str, str], tls: Tls | None, place: Place) -> dict[Place, str | None]:
    """The secrets that headers and TLS name, by place."""
    named: dict[Place, str | None] = {(*place, "secret_headers", header): secret for header, secret in headers.items()}
    if tls is not None:
        named |= {(*place, "tls", "client"): tls.client, (*place, "tls", "ca"): tls.ca}
    return named


def is_loopback(url: str) -> bool:
    """Whether the address says by itself that it leads to the gateway's own machine; names are looked up later."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
