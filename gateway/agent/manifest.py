"""What an agent starts with: its agent.yaml read for good, its key, its secrets; all that is missing told at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.catalogue import agents
from gateway.catalogue.agents import Plan
from gateway.catalogue.files import Files, read
from gateway.catalogue.reading import Finding, Reading, Spot
from gateway.edge.keys import DEMO, BadKeys, barred, hold_secret


class NotReady(Exception):
    """The agent cannot start. The text says why; ``findings`` say where, and what to do."""

    def __init__(self, reason: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(reason)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that was declared."""

    plan: Plan
    files: Files
    """The adapter's bytes, and where secrets lie."""
    key: Path
    """The private JWK of the system that reports."""

    @property
    def client_id(self) -> str:
        """The system that reports."""
        return f"{self.plan.agency}.{self.plan.system}"

    def secret(self, name: str) -> Path | None:
        """The file of a secret that ``tls`` names, of the gateway's address."""
        held = self.plan.tls.get(name)
        return None if held is None else self.files.path(f"keys/secrets/{held}")


def setup(root: Path, keys: Path, agency: str, environment: Mapping[str, str]) -> Setup:
    """Of ``adapters/<agency>/agent.yaml`` below ``root``, and the keys folder. Raises NotReady."""
    files = read(root, keys)
    reading = Reading(files)
    path = reading.root / "adapters" / agency / agents.FILE
    if not reading.is_file(path):
        raise NotReady(
            f"{path} is missing: describe there what the agent of {agency} does (docs/agent.md), or name the folder "
            "that holds adapters/ in GATEWAY_CATALOGUE."
        )
    plan = agents.plan(reading, path, environment)
    if plan is not None:
        _hold_secrets(reading, plan)
    if plan is None or reading.errors():
        raise NotReady(f"{reading.name(path)} has errors:", tuple(reading.findings))
    key = reading.keys / "private" / f"{agency}.{plan.system}.jwk.json"
    _hold_key(key, plan.instance, f"{agency}.{plan.system}")
    return Setup(plan, files, key)


def _hold_secrets(reading: Reading, plan: Plan) -> None:
    """Report the secrets that are not there; protocols look into their own when they connect."""
    named = {"tls": tuple(plan.tls.values())}
    if plan.kafka.sasl is not None:
        named["kafka"] = (plan.kafka.sasl.password,)
    if plan.kafka.tls:
        named["kafka"] = (*named.get("kafka", ()), *map(str, plan.kafka.tls.values()))
    for place, secrets in named.items():
        for secret in secrets:
            if not isinstance(reading.files.contents.get(f"keys/secrets/{secret}"), bytes):
                spot: Spot = plan.spots[place]
                remedy = f"Put it into {reading.keys / 'secrets' / secret}, readable by the agent's user."
                reading.error(spot, f"the secret {secret} is not there", remedy)


def _hold_key(path: Path, instance: str, system: str) -> None:
    """Raises NotReady; nothing of the key is told."""
    make = f"make one with `gateway keys party {system} --instance {instance}`, and send its public half to the gateway"
    try:
        with path.open("rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read(65_536)
        if instance != DEMO:
            hold_secret(path, mode)
    except FileNotFoundError as error:
        raise NotReady(f"The private key of {system} is missing: {path}; {make}.") from error
    except PermissionError as error:
        raise NotReady(barred(path)) from error
    except (OSError, BadKeys) as error:
        raise NotReady(f"The private key of {system} cannot be used: {error}") from error
    try:
        held = orjson.loads(raw)
    except orjson.JSONDecodeError:
        # Not chained: the exception carries the file's text.
        raise NotReady(f"{path} is no JSON: it must hold one private JWK; {make}.") from None
    if not isinstance(held, dict) or held.get("instance", instance) != instance:
        raise NotReady(f"{path} is no key of the instance {instance}: {make}.")
