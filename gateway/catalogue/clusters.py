"""What is written about a Kafka cluster: how the gateway or an agent reaches it, how topics are kept there."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.catalogue.members import SecretName, Tls
from gateway.catalogue.notation import AgencyName, Days, Manifest
from gateway.core.kafka import MAX_HEADER_BYTES

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)"
BROKER = rf"^({_HOST}:[1-9][0-9]{{0,4}}|\$\{{[A-Z][A-Z0-9_]*\}})$"
MAX_BROKERS = 32
"""Addresses under which a cluster is looked for."""
MAX_PARTITIONS = 1000
"""Of one topic: every member of a group asks for each of them."""
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""What a topic may be told to take: larger things are files, and travel beside the document."""

Broker = Annotated[str, Field(pattern=BROKER, max_length=300, examples=["kafka-1.example:9093"])]
Principal = Annotated[str, Field(pattern=r"^User:[^\s*\x00-\x1f][^*\x00-\x1f]{0,249}$", examples=["User:CN=treasury"])]
Partitions = Annotated[int, Field(ge=1, le=MAX_PARTITIONS, examples=[24])]


class Sasl(Manifest):
    """Who logs in to the brokers."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        description="How the password is proven; PLAIN sends it, so that it needs tls.", examples=["SCRAM-SHA-512"]
    )
    username: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,250}$")] = Field(
        description="Who logs in.", examples=["gateway"]
    )
    password: SecretName = Field(
        description="A secret in the keys folder's secrets/, by name.", examples=["gateway.kafka"]
    )


class Connection(Manifest):
    """How a cluster is reached."""

    bootstrap: list[Broker] = Field(
        min_length=1,
        max_length=MAX_BROKERS,
        description="Addresses of some of its brokers; a ${NAME} may stand for several, with commas.",
        examples=[["${KAFKA_BOOTSTRAP}"]],
    )
    tls: Tls | None = Field(
        default=None,
        description="TLS; {} trusts the machine's own authorities. Left out: not encrypted.",
        examples=["{ca: gateway.kafka_ca}"],
    )
    sasl: Sasl | None = Field(
        default=None,
        description="Who logs in; left out: nobody, or the certificate of tls.",
        examples=["{mechanism: SCRAM-SHA-512, username: gateway, password: gateway.kafka}"],
    )
    unencrypted: bool = Field(
        default=False,
        description="Another machine may be spoken to without tls: whoever sits on the way reads along.",
        examples=["true"],
    )


class Topics(Manifest):
    """How the agencies' topics are kept."""

    partitions: Partitions = Field(
        default=12, description="Of each topic, for its whole life: a lane never changes its partition."
    )
    replication: int = Field(default=3, ge=1, le=15, description="Brokers that hold each record.", examples=[3])
    min_insync: int = Field(
        default=2, ge=1, le=15, description="Of these, how many have it before it counts.", examples=[2]
    )
    retention: Days = Field(
        default=30,
        description="How long records are kept: longer than an agency's system is ever away.",
        validate_default=False,
        examples=["30d"],
    )
    max_bytes: int = Field(
        default=1024 * 1024,
        ge=2 * MAX_HEADER_BYTES,
        le=MAX_RECORD_BYTES,
        description=f"The largest record, its headers with it: {MAX_HEADER_BYTES} bytes are kept for them.",
        examples=[1048576],
    )


class Share(Manifest):
    """What one agency has that differs from the rest."""

    principal: Principal | None = Field(
        default=None, description="Who reads its topics, as the brokers know it; left out: User: and its name."
    )
    partitions: Partitions | None = Field(default=None, description="Of its topics, for their whole life.")
    consume: Annotated[int, Field(ge=1024, le=10**12)] | None = Field(
        default=None, description="Bytes a second that it may read from each broker.", examples=[10485760]
    )


class Kafka(Connection):
    """The Kafka cluster on which documents are handed over: one file, kafka.yaml, beside schemas/ and adapters/."""

    principal: Principal = Field(
        default="User:gateway",
        description="Who the gateway is, as the brokers know it: the only one who writes.",
        examples=["User:gateway"],
    )
    topics: Topics = Field(
        default=Topics(), description="How the agencies' topics are kept.", examples=["{replication: 3, min_insync: 2}"]
    )
    agencies: dict[AgencyName, Share] = Field(
        default={}, description="Agencies that differ from the rest.", examples=["{treasury: {partitions: 24}}"]
    )
