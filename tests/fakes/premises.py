"""An agency's own machine, as its agent finds it: agent.yaml, adapter.py, keys and secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gateway.agent.manifest import Setup, setup
from gateway.core.jwk import thumbprint
from gateway.edge import keys
from tests.fakes import idp

AGENCY = "treasury"
SYSTEM = "treasury.agent"
PLAIN: Mapping[str, Any] = {
    "agency": AGENCY,
    "instance": "DEMO",
    "gateway": "${TREASURY_GATEWAY}",
    "system": "agent",
    "kafka": {"bootstrap": ["127.0.0.1:9"]},
    "deliveries": [{"services": ["*"], "protocol": "http", "url": "${TREASURY_URL}/documents"}],
}
VARIABLES = {"TREASURY_GATEWAY": "http://127.0.0.1:9", "TREASURY_URL": "http://127.0.0.1:9"}


@dataclass(slots=True)
class Premises:
    """A folder for all of it."""

    folder: Path
    agency: str = AGENCY
    key: idp.Key = field(default_factory=idp.key)
    environment: dict[str, str] = field(default_factory=lambda: dict(VARIABLES))

    @property
    def keys(self) -> Path:
        """The keys folder."""
        return self.folder / "keys"

    @property
    def data(self) -> Path:
        """The agent's own folder."""
        return self.folder / "data"

    def write(self, **changes: Any) -> Path:
        """agent.yaml, with these members changed; None leaves one out."""
        said = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
        path = self.folder / "adapters" / self.agency / "agent.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            YAML().dump(said, file)
        return path

    def adapter(self, code: str) -> None:
        """The agency's own class."""
        path = self.folder / "adapters" / self.agency / "adapter.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")

    def own_key(self, system: str = SYSTEM, instance: str = "DEMO") -> None:
        """The private key of the system that reports."""
        place = self.keys / "private"
        place.mkdir(parents=True, exist_ok=True)
        keys.save(
            place / f"{system}.jwk.json",
            {"instance": instance, **self.key.private, "kid": thumbprint(self.key.private)},
        )

    def secret(self, name: str, held: str | bytes) -> None:
        """A file in secrets/."""
        path = self.keys / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held if isinstance(held, bytes) else held.encode())

    def setup(self) -> Setup:
        """As the agent reads it. Raises NotReady."""
        return setup(self.folder, self.keys, self.agency, self.environment)


def premises(folder: Path, **changes: Any) -> Premises:
    """All that an agent needs."""
    made = Premises(folder)
    made.write(**changes)
    made.own_key()
    return made
