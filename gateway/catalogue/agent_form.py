"""What an agency tells its agent: the form of agent.yaml, which stands beside its adapter, at the agency."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.catalogue.clusters import Connection
from gateway.catalogue.members import Address, ClassName, HeaderName, SecretName, Tls
from gateway.catalogue.notation import AgencyName, Days, Manifest, Pattern, PointerText, Seconds, Word

MAX_KEPT_BYTES = 1024**5
"""More than any disk: a slip of the pen in ``max_bytes``."""

Instance = Annotated[str, Field(pattern="^[A-Z][A-Z0-9-]{1,31}$", examples=["KH"])]


class _Way(Manifest):
    services: list[Pattern] = Field(
        min_length=1,
        description="What goes this way: services, domain.* or *; the first way that matches wins.",
        examples=[["*"]],
    )
    name: Word | None = Field(
        default=None, description="Its name, where there are two ways of one protocol.", examples=["permits_system"]
    )
    deadline: Seconds = Field(default=10.0, description="How long one hand-over may take, at most 60s.")
    concurrency: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Hand-overs at once; documents of one lane come one by one in any case.",
        examples=[4],
    )
    takes_key: bool = Field(
        default=False,
        description="The system knows a document by its id, and may be handed the same one again.",
        examples=["true"],
    )


class HttpWay(_Way):
    """The agency's system speaks HTTP and JSON."""

    protocol: Literal["http"] = Field(description="How the system is spoken to.", examples=["http"])
    url: Address = Field(
        description="The address; ${NAME} puts in an environment variable.", examples=["${TREASURY_URL}/documents"]
    )
    secret_headers: dict[HeaderName, SecretName] = Field(
        default={},
        description="Headers whose value is a secret, by its name in the keys folder's secrets/.",
        examples=["{X-Api-Key: treasury.api_key}"],
    )
    tls: Tls | None = Field(default=None, description="Mutual TLS.", examples=["{client: treasury.client}"])
    number: PointerText | None = Field(
        default=None,
        description="Where its answer holds the register number: the document is registered at once.",
        examples=["/register/number"],
    )


class WebhookWay(_Way):
    """The agency's system takes Standard Webhooks, signed by a secret that it shares with the agent."""

    protocol: Literal["webhook"] = Field(description="How the system is spoken to.", examples=["webhook"])
    url: Address = Field(
        description="The address; ${NAME} puts in an environment variable.", examples=["${TREASURY_URL}/hooks"]
    )
    secret: SecretName = Field(
        description="A whsec_ secret, by its name in the keys folder's secrets/.", examples=["treasury.webhook"]
    )


class PythonWay(_Way):
    """The agency's own class takes the document."""

    protocol: Literal["python"] = Field(description="How the system is spoken to.", examples=["python"])
    class_name: ClassName = Field(
        alias="class", description="A class in adapter.py beside agent.yaml, with take.", examples=["Registry"]
    )


Delivery = Annotated[HttpWay | WebhookWay | PythonWay, Field(discriminator="protocol")]
DELIVERY_KEYS = frozenset({*_Way.model_fields, "protocol"})
"""The keys of every way; all others are options of its protocol."""


class Attached(Manifest):
    """The files that come with documents."""

    keep: Days = Field(
        default=7,
        description="How long a file lies where the agent laid it, after its document was handed over; in days in "
        "which the agent ran.",
        validate_default=False,
        examples=["7d"],
    )
    max_bytes: int = Field(
        default=20 * 1024**3,
        ge=1024**2,
        le=MAX_KEPT_BYTES,
        description="Bytes of files that may lie there; beyond it documents with files wait.",
        examples=[21474836480],
    )


class Agent(Manifest):
    """What an agency's agent does: where the gateway is, where documents come from, whither they go."""

    agency: AgencyName = Field(description="The agency, as its folder says it.")
    instance: Instance = Field(description="The gateway's instance; what belongs to another one is refused.")
    gateway: Address = Field(
        description="The gateway's public address: https, or http on this machine.", examples=["${TREASURY_GATEWAY}"]
    )
    tls: Tls | None = Field(
        default=None,
        description="Of the gateway: authorities to trust instead of the machine's own, and a client certificate.",
        examples=["{ca: treasury.gateway_ca}"],
    )
    system: Word = Field(
        default="agent",
        description="The agency's system as which it reports; its private key lies in the keys folder's private/.",
        examples=["agent"],
    )
    kafka: Connection = Field(
        description="The cluster on which documents are handed over.", examples=["{bootstrap: [kafka-1.example:9093]}"]
    )
    deliveries: list[Delivery] = Field(
        min_length=1,
        description="The agency's own systems, first match wins.",
        examples=['[{services: ["*"], protocol: http, url: "${TREASURY_URL}/documents"}]'],
    )
    attachments: Attached = Field(
        default=Attached(), description="The files that come with documents.", examples=["{keep: 7d}"]
    )
