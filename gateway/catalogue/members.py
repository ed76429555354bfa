"""What an agency writes about itself: who it is, its systems and keys, what it provides, how documents reach it."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.catalogue.notation import (
    AgencyName,
    AnswerCheck,
    Answers,
    Day,
    Instant,
    JwsText,
    KeyFile,
    Keys,
    Manifest,
    Pattern,
    PointerText,
    Scope,
    Seconds,
    ServiceName,
    Text,
    Title,
    Word,
)

_ENVIRONMENT_URL = r"^(https?://[^\s@]+|\$\{[A-Z][A-Z0-9_]*\}[^\s]*)$"
_HEADER = "^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"
SECRET = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"  # noqa: S105 - the form of a secret's name

HeaderName = Annotated[str, Field(pattern=_HEADER, examples=["X-Request-Source"])]
SecretName = Annotated[str, Field(pattern=SECRET, examples=["interior.api_key"])]
QueryName = Annotated[str, Field(pattern="^[^\\s&=#?]{1,64}$", examples=["fields"])]
Address = Annotated[str, Field(pattern=_ENVIRONMENT_URL, max_length=1000)]
ClassName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Contacts(Manifest):
    """Whom to ask."""

    technical: Text = Field(description="Who runs the systems.", examples=["it@interior.example"])
    security: Text = Field(description="Who handles incidents and keys.", examples=["security@interior.example"])
    data_protection: Text = Field(description="Who answers for personal data.", examples=["dpo@interior.example"])


class System(Manifest):
    """One information system of the agency: the client of a token."""

    scopes: list[Scope] = Field(
        default=[], description="The scopes that its tokens may carry.", examples=[["population:read"]]
    )
    keys: Keys = Field(description="A JWKS in the keys folder's agencies/, by name, or an https address of one.")
    certificate_bound: bool = Field(
        default=False,
        description="Its tokens are bound to the client certificate with which they were got (RFC 8705).",
        examples=["true"],
    )
    standing: Literal["active", "suspended", "revoked"] = Field(
        default="active", description="revoked also ends every token at once.", examples=["active"]
    )


class Signatory(Manifest):
    """A post that may sign agreements for the agency."""

    title: Text = Field(description="The post, as signatures name it.", examples=["Director of Registration"])
    keys: KeyFile = Field(description="A JWKS in the keys folder's agencies/, by name.")


class Issuer(Manifest):
    """Somebody else's issuer of tokens, believed for this agency alone."""

    issuer: Annotated[str, Field(pattern=r"^https://[^\s@?#]+$")] = Field(
        description="The iss of its tokens.", examples=["https://id.interior.example"]
    )
    keys: Keys = Field(description="A JWKS in the keys folder's agencies/, by name, or an https address of one.")
    audience: Text | None = Field(
        default=None, description="The aud of its tokens, where it is not the instance.", examples=["exchange"]
    )
    issues: list[Literal["systems", "persons"]] = Field(
        min_length=1,
        description="What is believed: access tokens of systems, assertions on persons.",
        examples=[["systems"]],
    )


class Maintenance(Manifest):
    """A stretch of time in which the endpoint is not called."""

    start: Instant = Field(alias="from", description="Its first instant.")
    until: Instant | None = Field(default=None, description="The instant after its last; open where it is left out.")


class _Endpoint(Manifest):
    service: ServiceName = Field(description="What the agency provides.")
    deadline: Seconds = Field(default=5.0, description="How long an answer may take in all, at most 60s.")
    concurrency: int = Field(
        default=20, ge=1, le=10000, description="Calls in flight at once, for each process.", examples=[20]
    )
    answer_check: Answers = Field(
        default=AnswerCheck(None), description="enforce withholds wrong answers; report lets them pass, counted."
    )
    takes_key: bool = Field(
        default=False,
        description="The system takes the Idempotency-Key, so that a repeated call has one effect.",
        examples=["false"],
    )
    standing: Literal["active", "suspended"] = Field(
        default="active", description="suspended refuses every call.", examples=["active"]
    )
    maintenance: list[Maintenance] = Field(
        default=[], description="When it is not called.", examples=["[{from: 2026-01-31T22:00:00+07:00}]"]
    )


class Tls(Manifest):
    """Mutual TLS with the agency's system."""

    client: SecretName | None = Field(default=None, description="The secret with our key and certificate, in PEM.")
    ca: SecretName | None = Field(default=None, description="The secret with the authorities to trust, in PEM.")


class HttpEndpoint(_Endpoint):
    """The agency's system speaks HTTP and JSON."""

    protocol: Literal["http"] = Field(description="How the system is spoken to.", examples=["http"])
    url: Address = Field(
        description="The address; {/pointer} puts in a value of the request, ${NAME} an environment variable.",
        examples=["${INTERIOR_URL}/persons/{/identifier}"],
    )
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="GET sends no body.", examples=["POST"]
    )
    headers: dict[HeaderName, Text] = Field(
        default={}, description="Sent with each call; {/pointer} as in url.", examples=["{Accept-Language: en}"]
    )
    query: dict[QueryName, Text] = Field(
        default={}, description="Added to the address; {/pointer} as in url.", examples=["{id: '{/identifier}'}"]
    )
    secret_headers: dict[HeaderName, SecretName] = Field(
        default={},
        description="Headers whose value is a secret, by its name in the keys folder's secrets/.",
        examples=["{X-Api-Key: interior.api_key}"],
    )
    request: dict[PointerText, PointerText] | None = Field(
        default=None,
        description="The body that the system gets: where in it, from where in the request. Left out: as it is.",
        examples=["{/id: /identifier}"],
    )
    response: dict[PointerText, PointerText] | None = Field(
        default=None,
        description="The answer: where in it, from where in what the system sends. Left out: as it is.",
        examples=["{/identifier: /id}"],
    )
    tls: Tls | None = Field(default=None, description="Mutual TLS.", examples=["{client: interior.client}"])


class PythonEndpoint(_Endpoint):
    """The agency's own class speaks to its system."""

    protocol: Literal["python"] = Field(description="How the system is spoken to.", examples=["python"])
    class_name: ClassName = Field(
        alias="class", description="A class in the agency's adapter.py.", examples=["Registry"]
    )


Endpoint = Annotated[HttpEndpoint | PythonEndpoint, Field(discriminator="protocol")]
COMMON_KEYS = frozenset({*_Endpoint.model_fields, "protocol"})
"""The keys of every endpoint; all others are options of its protocol."""


class Valid(Manifest):
    """The days on which something is in force, both included."""

    start: Day = Field(alias="from", description="The first day.")
    until: Day = Field(description="The last day.")


class _Delivery(Manifest):
    services: list[Pattern] = Field(
        default=[],
        description="The documents and events that come by this way: services, domain.* or *; the first way wins.",
        examples=[["permits.*"]],
    )
    name: Word | None = Field(
        default=None,
        description="Its name, where the agency has two ways of one protocol.",
        examples=["permits_mailbox"],
    )
    unit: Word | None = Field(default=None, description="The department that it leads to.", examples=["permits"])
    receipts: bool = Field(
        default=False, description="The receipts of what the agency sent come by it too.", examples=["true"]
    )
    deadline: Seconds = Field(default=10.0, description="How long one hand-over may take, at most 60s.")
    concurrency: int = Field(
        default=4, ge=1, le=1000, description="Hand-overs at once, for each process.", examples=[4]
    )
    max_waiting: int = Field(
        default=50_000,
        ge=1,
        le=1_000_000,
        description="Documents that may wait for the agency on this way; more are refused to senders.",
        examples=[50000],
    )
    standing: Literal["active", "suspended"] = Field(
        default="active", description="suspended takes no documents; what was sent before waits.", examples=["active"]
    )


class MailboxDelivery(_Delivery):
    """The agency fetches what there is for it."""

    protocol: Literal["mailbox"] = Field(description="How documents reach the agency.", examples=["mailbox"])
    systems: list[Word] | None = Field(
        default=None,
        min_length=1,
        description="The agency's systems that may fetch and answer here; left out: all of them.",
        examples=[["front_desk"]],
    )


class _PushedDelivery(_Delivery):
    url: Address = Field(
        description="The address; ${NAME} puts in an environment variable.", examples=["${SILA_URL}/documents"]
    )
    allow: list[Literal["loopback"]] = Field(
        default=[], description="Addresses that are refused otherwise.", examples=[["loopback"]]
    )


class WebhookDelivery(_PushedDelivery):
    """The gateway pushes by Standard Webhooks, signed."""

    protocol: Literal["webhook"] = Field(description="How documents reach the agency.", examples=["webhook"])
    secret: SecretName | None = Field(
        default=None,
        description="A whsec_ secret, by its name in the keys folder's secrets/: adds a v1 signature.",
        examples=["sila.webhook"],
    )


class HttpDelivery(_PushedDelivery):
    """The gateway sends the document by HTTP and JSON."""

    protocol: Literal["http"] = Field(description="How documents reach the agency.", examples=["http"])
    secret_headers: dict[HeaderName, SecretName] = Field(
        default={},
        description="Headers whose value is a secret, by its name in the keys folder's secrets/.",
        examples=["{X-Api-Key: sila.api_key}"],
    )
    tls: Tls | None = Field(default=None, description="Mutual TLS.", examples=["{client: sila.client}"])
    number: PointerText | None = Field(
        default=None,
        description="Where its answer holds the register number: the document is registered at once.",
        examples=["/register/number"],
    )


class PythonDelivery(_Delivery):
    """The agency's own class takes the document."""

    protocol: Literal["python"] = Field(description="How documents reach the agency.", examples=["python"])
    class_name: ClassName = Field(
        alias="class", description="A class in the agency's adapter.py, with take.", examples=["Registry"]
    )


class KafkaDelivery(_Delivery):
    """The gateway puts the document on the agency's own topic, on the cluster of kafka.yaml."""

    protocol: Literal["kafka"] = Field(description="How documents reach the agency.", examples=["kafka"])
    concurrency: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Hand-overs at once, for each process: they share the producer's batches.",
        examples=[64],
    )


Delivery = Annotated[
    MailboxDelivery | WebhookDelivery | HttpDelivery | PythonDelivery | KafkaDelivery, Field(discriminator="protocol")
]
DELIVERY_KEYS = frozenset({*_Delivery.model_fields, "protocol"})
"""The keys of every way; all others are options of its protocol."""


class Publication(Manifest):
    """An event that the agency publishes."""

    service: ServiceName = Field(description="The event.")
    systems: list[Word] = Field(
        min_length=1, description="The agency's systems that may publish it.", examples=[["alerts"]]
    )
    standing: Literal["active", "suspended"] = Field(
        default="active", description="suspended publishes nothing.", examples=["active"]
    )


class Subscription(Manifest):
    """Another agency's event that a system is told of."""

    service: ServiceName = Field(description="The event.")
    publisher: AgencyName = Field(description="Whose.")
    system: Word = Field(description="The agency's system under whose agreement it comes.", examples=["front_desk"])
    purpose: Word = Field(description="A code of schemas/common/purposes.yaml.", examples=["civil_protection"])


class MandateSignature(Manifest):
    """A signatory's signature: a detached JWS over the mandate."""

    by: Text = Field(description="The signatory's title.", examples=["Mayor of Sila"])
    on: Day = Field(description="The day.")
    jws: JwsText = Field(description="Written by gateway mandate sign.", examples=["eyJhbGciOi…..MEUCIQ…"])


class Mandate(Manifest):
    """Another agency may act for this one."""

    to: AgencyName = Field(description="Who acts.")
    services: list[ServiceName] = Field(
        min_length=1, description="For which services.", examples=[["permits.construction_application.v1"]]
    )
    valid: Valid = Field(description="When.", examples=["{from: 2026-01-01, until: 2027-12-31}"])
    signature: MandateSignature | None = Field(
        default=None, description="Written by gateway mandate sign; needed.", examples=["{by: …, on: …, jws: …}"]
    )


class Agency(Manifest):
    """A member organisation: who it is, its systems and keys, what it provides."""

    agency: AgencyName = Field(description="Its name, as its folder says it.")
    title: Title = Field(
        description="Its name for people, by language; en is needed.", examples=["{en: Ministry of Interior}"]
    )
    kind: Literal["gov", "local", "soe", "private"] = Field(
        alias="class", description="What sort of organisation it is.", examples=["gov"]
    )
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] = Field(description="ISO 3166-1 alpha-2.", examples=["KH"])
    contacts: Contacts = Field(
        description="Whom to ask; all three are needed.",
        examples=["{technical: …, security: …, data_protection: …}"],
    )
    units: list[Word] = Field(default=[], description="Its departments.", examples=[["registration"]])
    groups: list[Word] = Field(
        default=[], description="Groups that agreements can name.", examples=[["municipalities"]]
    )
    standing: Literal["active", "suspended"] = Field(
        default="active", description="suspended refuses every call by it and to it.", examples=["active"]
    )
    signatories: dict[Word, Signatory] = Field(
        default={}, description="Who may sign agreements.", examples=["{director: {title: …, keys: interior.director}}"]
    )
    systems: dict[Word, System] = Field(
        default={}, description="Its systems, by name.", examples=["{civil_registry: {keys: interior.civil_registry}}"]
    )
    issuers: list[Issuer] = Field(
        default=[], description="Its own issuers of tokens.", examples=["[{issuer: …, keys: …, issues: [persons]}]"]
    )
    endpoints: list[Endpoint] = Field(
        default=[], description="What it provides, and how its systems are spoken to.", examples=["[{service: …}]"]
    )
    deliveries: list[Delivery] = Field(
        default=[],
        description="How documents, events and receipts reach it.",
        examples=['[{services: ["permits.*"], protocol: mailbox}]'],
    )
    publishes: list[Publication] = Field(
        default=[], description="The events that it publishes.", examples=["[{service: …, systems: […]}]"]
    )
    subscriptions: list[Subscription] = Field(
        default=[], description="The events of others that its systems are told of.", examples=["[{service: …}]"]
    )
    mandates: list[Mandate] = Field(
        default=[], description="Who may act for it, signed by one of its signatories.", examples=["[{to: …}]"]
    )
    document_visibility: Literal["agency", "system"] = Field(
        default="agency",
        description="Who sees and recalls what one of its systems sent: all its systems, or that one.",
        examples=["agency"],
    )
