"""What differs between deployments: under twenty settings, read once from GATEWAY_* variables.

What differs by agency or service is a manifest or an agreement, never a setting. Secrets are files in the keys folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PREFIX = "GATEWAY_"
DEMO = "DEMO"

Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]


class BadSettings(Exception):
    """The settings do not let the gateway start; the text says which and what to do."""


class Settings(BaseModel):
    """Each is the variable GATEWAY_ and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: str = Field(
        default=DEMO, pattern=r"^[A-Z][A-Z0-9-]{1,31}$", description="The national or test environment."
    )
    issuer: str = Field(
        default="http://127.0.0.1:8080", description="The public address: issuer of tokens, base of links."
    )
    catalogue: Path = Field(default=Path(), description="The folder that holds schemas/, adapters/ and policies/.")
    keys: Path = Field(default=Path("deploy/demo/keys"), description="The folder of keys and secrets.")
    database: str = Field(
        default="sqlite:///gateway.sqlite3", description="Where state and journal are kept: sqlite:///file."
    )
    listen: Address = Field(
        default="127.0.0.1:8080", description="Address and port for the systems that exchange records."
    )
    operations_listen: Address = Field(default="127.0.0.1:9090", description="Address and port for metrics and health.")
    time_zone: str = Field(default="Asia/Phnom_Penh", description="Where days begin: validity and quotas (IANA name).")
    run_adapters: bool = Field(default=False, description="Whether agencies' Python adapters may run in the gateway.")
    ca_file: Path | None = Field(default=None, description="Certificates (PEM) trusted beside the system's, for JWKS.")
    max_in_progress: int = Field(
        default=1000, ge=1, le=100_000, description="Exchanges worked on at once; more get 503."
    )
    shutdown_seconds: float = Field(
        default=20.0, ge=0, le=300, description="Seconds that running exchanges have at a stop."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least that is logged."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("is no IANA time zone such as Asia/Bangkok") from error
        return name

    @field_validator("issuer")
    @classmethod
    def _plain_address(cls, address: str) -> str:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be an address such as https://gateway.example")
        return address.rstrip("/")

    @model_validator(mode="after")
    def _demo_at_home(self) -> "Settings":
        """The demonstration's keys are public: nobody else may reach a gateway that trusts them."""
        home = ("127.0.0.1", "localhost", "[::1]")
        if self.instance == DEMO and self.listen.rpartition(":")[0] not in home:
            raise ValueError("the instance DEMO listens on loopback only: set GATEWAY_INSTANCE and keys of its own")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The instance's time zone."""
        return ZoneInfo(self.time_zone)


def read(environment: Mapping[str, str]) -> Settings:
    """The settings of the environment. Raises BadSettings, also for a GATEWAY_ variable that nobody reads."""
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    given = {name: value for name, value in given.items() if not name.startswith("test_")}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise BadSettings("\n".join(_sentence(fault["loc"], fault["msg"]) for fault in error.errors())) from error


def _sentence(where: tuple[int | str, ...], what: str) -> str:
    name = PREFIX + str(where[0]).upper() if where else "settings"
    if "Extra inputs" in what:
        known = ", ".join(PREFIX + field.upper() for field in Settings.model_fields)
        return f"{name} is no setting of the gateway; the settings are {known}"
    return f"{name}: {what.removeprefix('Value error, ')}"
