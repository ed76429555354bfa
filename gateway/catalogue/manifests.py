"""What people write: the form of each manifest, closed, with the words that editors show beside each key."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from gateway.catalogue.notation import (
    AgencyName,
    AgreementName,
    AnswerCheck,
    Answers,
    ConsumerName,
    Day,
    Instant,
    KeyFile,
    Keys,
    Moment,
    PointerText,
    Quota,
    RateText,
    Required,
    Scope,
    Seconds,
    ServiceName,
    SystemName,
    Text,
    Title,
    Word,
)

_ENVIRONMENT_URL = r"^(https?://[^\s@]+|\$\{[A-Z][A-Z0-9_]*\}[^\s]*)$"
_HEADER = "^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"
_SECRET = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"  # noqa: S105 - the form of a secret's name

HeaderName = Annotated[str, Field(pattern=_HEADER, examples=["X-Request-Source"])]
SecretName = Annotated[str, Field(pattern=_SECRET, examples=["interior.api_key"])]
QueryName = Annotated[str, Field(pattern="^[^\\s&=#?]{1,64}$", examples=["fields"])]


class Manifest(BaseModel):
    """A closed form: a key that it does not know is a mistake, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Subjects(Manifest):
    """Where identifiers of persons stand, so that accesses to a person's record can be found."""

    request: list[PointerText] = Field(
        default=[], description="JSON Pointers into the request.", examples=[["/identifier"]]
    )
    response: list[PointerText] = Field(
        default=[], description="JSON Pointers into the response.", examples=[["/identifier"]]
    )


class Service(Manifest):
    """A named, versioned definition of what is said."""

    service: ServiceName = Field(description="Domain, name and major version, as its folder says them.")
    title: Text = Field(description="What it does, for people.", examples=["Look up a resident"])
    kind: Literal["exchange", "document", "event"] = Field(
        description="exchange: asked and answered at once.", examples=["exchange"]
    )
    effect: Literal["read", "write"] = Field(
        default="read", description="Whether a call changes anything at the provider.", examples=["read"]
    )
    visibility: Literal["members", "restricted"] = Field(
        default="members",
        description="Who learns that it exists: every member, or only those with an agreement.",
        examples=["members"],
    )
    personal_data: bool = Field(
        description="Whether answers or requests hold data on persons; agreements must then be signed.",
        examples=["true"],
    )
    subjects: Subjects = Field(
        default=Subjects(),
        description="Where identifiers of persons stand; needed where personal_data is true.",
        examples=["{request: [/identifier]}"],
    )
    max_bytes: int = Field(
        default=65536, ge=1, le=1024 * 1024, description="The largest request body, in bytes.", examples=[16384]
    )
    standard: Text | None = Field(
        default=None, description="The standard that the schemas follow.", examples=["DCI CRVS 1.0"]
    )


class Purpose(Manifest):
    """One reason for which records may be asked."""

    code: Word = Field(description="What callers send as Exchange-Purpose.", examples=["tax_assessment"])
    title: Text = Field(description="What it means, for people.", examples=["Assessment of local taxes"])


class Purposes(Manifest):
    """The code list of purposes."""

    source: Text = Field(description="Who keeps the list.", examples=["Data Protection Commission, list 3"])
    date: Day = Field(description="The day of the list's edition.", examples=["2026-01-01"])
    purposes: list[Purpose] = Field(
        min_length=1, description="The codes.", examples=["[{code: tax_assessment, title: …}]"]
    )


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
    url: Annotated[str, Field(pattern=_ENVIRONMENT_URL, max_length=1000)] = Field(
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
    class_name: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$")] = Field(
        alias="class", description="A class in the agency's adapter.py.", examples=["Registry"]
    )


Endpoint = Annotated[HttpEndpoint | PythonEndpoint, Field(discriminator="protocol")]
COMMON_KEYS = frozenset({*_Endpoint.model_fields, "protocol"})
"""The keys of every endpoint; all others are options of its protocol."""


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


class Valid(Manifest):
    """The days on which an agreement is in force, both included."""

    start: Day = Field(alias="from", description="The first day.")
    until: Day = Field(description="The last day.")


class Limits(Manifest):
    """How much may be asked."""

    rate: RateText | None = Field(default=None, description="Calls at once, for each process.")
    quota: Quota | None = Field(default=None, description="Calls in a day, for each consumer, exactly.")


class Grant(Manifest):
    """One permission inside an agreement."""

    service: ServiceName = Field(description="What may be used.")
    provider: AgencyName = Field(description="Whose.")
    consumers: list[ConsumerName] = Field(min_length=1, description="Systems, or groups of agencies.")
    purposes: list[Word] = Field(
        min_length=1, description="Codes of schemas/common/purposes.yaml.", examples=[["tax_assessment"]]
    )
    scope: Scope | None = Field(default=None, description="What the token must carry.")
    disclose: list[PointerText] | None = Field(
        default=None,
        min_length=1,
        description="What leaves of an answer, as JSON Pointers; needed for personal data.",
        examples=[["/identifier", "/name"]],
    )
    limits: Limits = Field(default=Limits(), description="How much may be asked.", examples=["{quota: 20000/day}"])
    require: list[Required] = Field(default=[], description="What each call must bring.", examples=[["case", "user"]])


class Signature(Manifest):
    """A signatory's signature: a detached JWS over the agreement."""

    agency: AgencyName = Field(description="For whom it was signed.")
    by: Text = Field(description="The signatory's title.", examples=["Director of Registration"])
    on: Day = Field(description="The day.")
    jws: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]+$", max_length=4096)] = Field(
        description="Written by gateway agreement sign.", examples=["eyJhbGciOi…..MEUCIQ…"]
    )


class Agreement(Manifest):
    """Who may use which endpoints, for which purposes, seeing which fields; signed by both sides."""

    agreement: AgreementName = Field(description="Its name, as its file says it.")
    title: Text = Field(description="What it is about.", examples=["Local tax may look up residents"])
    legal_basis: Text | None = Field(
        default=None,
        description="The law that permits it; needed for personal data.",
        examples=["Local Tax Act, article 58(2)"],
    )
    parties: list[AgencyName] = Field(
        min_length=2, description="The agencies that agree.", examples=["[interior, finance]"]
    )
    valid: Valid = Field(description="When it is in force.", examples=["{from: 2026-01-01, until: 2027-12-31}"])
    standing: Literal["active", "suspended"] = Field(
        default="active", description="suspended refuses every call under it.", examples=["active"]
    )
    grants: list[Grant] = Field(min_length=1, description="What is permitted.", examples=["[{service: …}]"])
    signatures: list[Signature] = Field(
        default=[], description="Written by gateway agreement sign.", examples=["[{agency: …, by: …, on: …, jws: …}]"]
    )


class Decision(Manifest):
    """What an agreement means, as one call and its verdict."""

    client: SystemName = Field(description="Who calls.")
    provider: AgencyName = Field(description="Whom.")
    service: ServiceName = Field(description="What for.")
    purpose: Word = Field(description="The purpose that the call gives.", examples=["tax_assessment"])
    scope: Scope | None = Field(description="The scope of its token, or null.")
    at: Moment = Field(description="When; a day means noon in the instance's time zone.")
    verdict: Literal["permit", "refuse"] = Field(description="What must come out.", examples=["permit"])
    code: Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$")] | None = Field(
        default=None, description="The refusal's code; needed where the verdict is refuse.", examples=["policy.purpose"]
    )
    without: list[Required] = Field(
        default=[], description="What the call does not bring, of what a grant may require.", examples=[["case"]]
    )


class Decisions(RootModel[list[Decision]]):
    """The decision tests of one agreement."""

    model_config = ConfigDict(strict=True, frozen=True)


FORMS: dict[str, type[BaseModel]] = {
    "service": Service,
    "purposes": Purposes,
    "agency": Agency,
    "agreement": Agreement,
    "decisions": Decisions,
}
"""By the name under which editors find the form: docs/reference/manifests/<name>.schema.json."""


def form(kind: str) -> dict[str, Any]:
    """The JSON Schema of a manifest, for editors."""
    schema = FORMS[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
