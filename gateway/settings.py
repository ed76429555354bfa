"""What differs between deployments: under twenty settings, read once from GATEWAY_* variables.

What differs by agency or service is a manifest or an agreement, never a setting. Secrets are files in the keys folder.
"""

import difflib
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

PREFIX = "GATEWAY_"
DEMO = "DEMO"

SQLITE = "sqlite:///"
POSTGRES = "postgresql+asyncpg://"

_INSTANCE = re.compile(r"[A-Z][A-Z0-9-]{1,31}")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


def instance_name(text: str) -> str:
    """The text, if an instance can be called so. Raises ValueError."""
    if not _INSTANCE.fullmatch(text):
        raise ValueError("must be capitals, digits and - such as KH, 2 to 32 of them, a capital first")
    return text


def database_url(text: str) -> str:
    """The text, if it names a database: a file, or a PostgreSQL server's. Raises ValueError."""
    if text.startswith(POSTGRES) and urlsplit(text).path.strip("/"):
        return text
    if not text.startswith(SQLITE) or not text.removeprefix(SQLITE).strip("/"):
        raise ValueError(
            f"must begin with {SQLITE}, followed by a file's path such as {SQLITE}gateway.sqlite3, "
            f"or be {POSTGRES}user@host/database?passfile=/path"
        )
    return text


def _listened(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("must be host:port such as 127.0.0.1:8090")
    return text


Address = Annotated[str, AfterValidator(_listened)]


def _networks(text: object) -> object:
    """``10.0.0.5, 10.1.0.0/16`` as networks; values pass."""
    if not isinstance(text, str):
        return text
    try:
        return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise ValueError("must be addresses or networks such as 10.0.0.5, 10.1.0.0/16") from error


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)]


_PATHS = ("catalogue", "keys", "ca_file", "tls_certificate", "tls_key", "tls_client_ca")


class BadSettings(Exception):
    """The settings do not let the gateway start; the text says which and what to do."""


class Settings(BaseModel):
    """Each is the variable GATEWAY_ and its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: Annotated[str, AfterValidator(instance_name)] = Field(
        default=DEMO, description="The national or test environment."
    )
    issuer: str = Field(
        default="http://127.0.0.1:8080", description="The public address: issuer of tokens, base of links."
    )
    catalogue: Path = Field(default=Path(), description="The folder that holds schemas/, adapters/ and policies/.")
    keys: Path = Field(default=Path("deploy/demo/keys"), description="The folder of keys and secrets.")
    database: Annotated[str, AfterValidator(database_url)] = Field(
        default="sqlite:///gateway.sqlite3",
        description="Where state and journal are kept: sqlite:///file, or postgresql+asyncpg://….",
    )
    attachments: str | None = Field(
        default=None,
        description="Where files are kept: a folder, or s3://bucket/prefix?region=…&endpoint=https://….",
    )
    listen: Address = Field(
        default="127.0.0.1:8080", description="Address and port for the systems that exchange records."
    )
    operations_listen: Address = Field(default="127.0.0.1:9090", description="Address and port for metrics and health.")
    time_zone: str = Field(default="Asia/Phnom_Penh", description="Where days begin: validity and quotas (IANA name).")
    run_adapters: bool = Field(default=False, description="Whether agencies' Python adapters may run in the gateway.")
    ca_file: Path | None = Field(default=None, description="Certificates (PEM) trusted beside the system's, for JWKS.")
    tls_certificate: Path | None = Field(
        default=None, description="The public listener's certificate and chain (PEM); with it, it speaks TLS only."
    )
    tls_key: Path | None = Field(default=None, description="The certificate's private key (PEM).")
    tls_client_ca: Path | None = Field(
        default=None, description="Authorities (PEM) whose client certificates are taken on the public listener."
    )
    trusted_proxies: Networks = Field(
        default=(), description="Addresses of proxies whose word on the caller's address and certificate counts."
    )
    max_connections: int = Field(
        default=4096, ge=16, le=1_000_000, description="Connections held at once by each process; more are closed."
    )
    max_in_progress: int = Field(
        default=1000, ge=1, le=100_000, description="Exchanges worked on at once; more get 503."
    )
    shutdown_seconds: float = Field(
        default=20.0, ge=0.01, le=300, description="Seconds that running exchanges have at a stop."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least that is logged."
    )

    @field_validator("attachments", *_PATHS, mode="before")
    @classmethod
    def _named(cls, path: object) -> object:
        if path == "":  # Path("") would be the present folder
            raise ValueError("must be a path")
        return path

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("must be an IANA time zone such as Asia/Bangkok") from error
        return name

    @field_validator("issuer")
    @classmethod
    def _plain_address(cls, address: str) -> str:
        try:
            parts = urlsplit(address)
            sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:  # a port or an IPv6 address that is none
            sound = False
        if not sound or set("@?#") & set(address):
            raise ValueError("must be an address such as https://gateway.example")
        return address.rstrip("/")

    @model_validator(mode="after")
    def _demo_at_home(self) -> "Settings":
        """The demonstration's keys are public: nobody else may reach a gateway that trusts them."""
        home = ("127.0.0.1", "localhost", "[::1]")
        if self.instance == DEMO and self.listen.rpartition(":")[0] not in home:
            raise ValueError("the instance DEMO listens on loopback only: set GATEWAY_INSTANCE and keys of its own")
        return self

    @model_validator(mode="after")
    def _whole_tls(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY go together: set both, or none")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("GATEWAY_TLS_CLIENT_CA needs GATEWAY_TLS_CERTIFICATE: client certificates come with TLS")
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
        raise BadSettings("\n".join(map(_sentence, error.errors()))) from error


_WANTED = {
    "run_adapters": "must be true or false",
    "max_connections": "must be a whole number from 16 to 1000000",
    "max_in_progress": "must be a whole number from 1 to 100000",
    "shutdown_seconds": "must be a number of seconds from 0.01 to 300",
    "log_level": "must be DEBUG, INFO, WARNING or ERROR",
}
"""For the values that pydantic itself refuses, whose own words speak of inputs and strings."""


def _sentence(fault: ErrorDetails) -> str:
    if not fault["loc"]:
        return fault["msg"].removeprefix("Value error, ")
    field = str(fault["loc"][0])
    name = PREFIX + field.upper()
    if fault["type"] == "extra_forbidden":
        known = ", ".join(PREFIX + each.upper() for each in Settings.model_fields)
        close = difflib.get_close_matches(field, Settings.model_fields, n=1)  # without what all begin with
        guess = f"Did you mean {PREFIX}{close[0].upper()}? " if close else ""
        return f"{name} is no setting of the gateway. {guess}The settings are {known}"
    wanted = _WANTED.get(field) or fault["msg"].removeprefix("Value error, ")
    given = str(fault["input"])
    if not given:
        return f"{name} {wanted}; it is empty"
    return f"{name} {wanted}" + ("" if "@" in given else f', not "{given[:80]}"')  # a password may stand before an @
