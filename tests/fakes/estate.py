"""A copy of the demonstration's folders, which a test may change while a gateway serves them."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Gateway, compose
from gateway.catalogue.files import Files, read
from gateway.client import GatewayClient, Pace, Refused
from gateway.footing import Addresses
from gateway.settings import read as read_settings

ROOT = Path(__file__).parents[2]
PRIVATE = ROOT / "deploy/demo/keys/private"
SILA = "sila.front_desk"
DIRECTORY = "policies/LOCAL-DIRECTORY-2026-001.yaml"


class Estate:
    """The folders, and what asks a gateway that serves them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "estate"
        for name in ("schemas", "adapters", "policies"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "kafka.yaml", self.root)
        shutil.copytree(ROOT / "deploy/demo/keys", self.root / "keys", ignore=shutil.ignore_patterns("private"))
        self.edit(DIRECTORY, "rate: 20/s", "rate: 100000/s")  # nothing is signed there, and tests ask often

    def among(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment of a gateway that serves this."""
        return {**environment, "GATEWAY_CATALOGUE": str(self.root), "GATEWAY_KEYS": str(self.root / "keys")}

    def files(self) -> Files:
        """What lies there now."""
        return read(self.root, self.root / "keys")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file, the file in one step, as editors do and `git pull` does."""
        path = self.root / name
        text = path.read_text("utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def write(self, name: str, text: str) -> None:
        """A whole file in one step."""
        path = self.root / name
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(text, "utf-8")
        beside.rename(path)


def client(url: str, system: str = SILA) -> GatewayClient:
    """One of the demonstration's systems."""
    return GatewayClient(url, client_id=system, key=PRIVATE / f"{system}.jwk.json", pace=Pace(attempts=1))


async def asked(of: GatewayClient, *, purpose: str = "public_information") -> str:
    """What the directory of Saensuk gives: answered, or the code of the refusal."""
    try:
        await of.exchange("saensuk", "places.office_directory.v1", {"subdivision": "TH-20"}, purpose=purpose)
    except Refused as refused:
        return refused.code
    return "answered"


@asynccontextmanager
async def opened(
    environment: Mapping[str, str], last_good: Path | None = None
) -> AsyncIterator[tuple[Gateway, Addresses]]:
    """A gateway in this process; one of several, where it is told where they keep what works."""
    gateway = compose(read_settings(environment), environment, last_good)
    async with gateway.running() as at:
        yield gateway, at
