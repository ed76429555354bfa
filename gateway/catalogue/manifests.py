"""What people write: the form of each manifest, closed, with the words that editors show beside each key."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from gateway.catalogue.agent_form import Agent
from gateway.catalogue.clusters import Kafka
from gateway.catalogue.members import Agency, Valid
from gateway.catalogue.notation import (
    AgencyName,
    AgreementName,
    ConsumerName,
    Day,
    Days,
    Given,
    JwsText,
    Manifest,
    MediaType,
    Moment,
    PointerText,
    ProviderName,
    Quota,
    RateText,
    Required,
    Scope,
    ServiceName,
    SpanText,
    SystemName,
    Text,
    Word,
)
from gateway.core.life import Span


class Subjects(Manifest):
    """Where identifiers of persons stand, so that accesses to a person's record can be found."""

    request: list[PointerText] = Field(
        default=[], description="JSON Pointers into the request.", examples=[["/identifier"]]
    )
    response: list[PointerText] = Field(
        default=[], description="JSON Pointers into the response.", examples=[["/identifier"]]
    )
    document: list[PointerText] = Field(
        default=[], description="JSON Pointers into the document or event.", examples=[["/applicant/identifier"]]
    )


class Attachments(Manifest):
    """The files that may go with a document."""

    types: list[MediaType] = Field(
        min_length=1, description="Media types, held against the content.", examples=[["application/pdf"]]
    )
    max_bytes: int = Field(ge=1, le=2 * 1024**3, description="The largest file, in bytes.", examples=[52428800])
    max_count: int = Field(default=10, ge=1, le=100, description="How many go with one document.", examples=[10])


class Service(Manifest):
    """A named, versioned definition of what is said."""

    service: ServiceName = Field(description="Domain, name and major version, as its folder says them.")
    title: Text = Field(description="What it does, for people.", examples=["Look up a resident"])
    kind: Literal["exchange", "document", "event"] = Field(
        description="exchange: asked and answered at once; document: handed over with receipts; event: told to all "
        "who subscribe.",
        examples=["exchange"],
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
    order_by: PointerText | None = Field(
        default=None,
        description="Where the value stands whose documents keep their order; left out: each goes by itself.",
        examples=["/case"],
    )
    done_at: Literal["arrived", "retrieved", "registered"] = Field(
        default="arrived", description="The state in which it has got what it was sent for.", examples=["registered"]
    )
    deliver_within: SpanText = Field(
        default=Span(30 * 86400.0), description="How long it may take until it arrives, or is retrieved."
    )
    register_within: SpanText | None = Field(
        default=None, description="How long after its arrival it should be registered; then it is overdue."
    )
    attachments: Attachments | None = Field(
        default=None,
        description="The files that may go with it; left out: none.",
        examples=["{types: [application/pdf], max_bytes: 52428800}"],
    )
    retention: Days = Field(
        default=365, description="How long after its end its content is kept, at least 30d.", validate_default=False
    )


class Holiday(Manifest):
    """A day on which offices are closed."""

    date: Day = Field(description="The day.")
    title: Text = Field(description="Its name.", examples=["Pchum Ben"])


class Calendar(Manifest):
    """The working days of the instance."""

    source: Text = Field(description="Who keeps the list.", examples=["Sub-decree 289, 2025"])
    date: Day = Field(description="The day of the list's edition.", examples=["2026-01-01"])
    week: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        min_length=1, description="The days on which offices are open.", examples=[["mon", "tue", "wed", "thu", "fri"]]
    )
    holidays: list[Holiday] = Field(description="The days on which they are not.", examples=["[{date: …, title: …}]"])


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


class Limits(Manifest):
    """How much may be asked."""

    rate: RateText | None = Field(default=None, description="Calls at once, for each process.")
    quota: Quota | None = Field(default=None, description="Calls in a day, for each consumer, exactly.")


class Grant(Manifest):
    """One permission inside an agreement."""

    service: ServiceName = Field(description="What may be used.")
    provider: ProviderName = Field(description="Whose; of documents also a group of agencies that take them.")
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
    require: list[Required] = Field(
        default=[],
        description="What each call must bring; approval: a second person agrees before a document goes out.",
        examples=[["case", "user"]],
    )


class Signature(Manifest):
    """A signatory's signature: a detached JWS over the agreement."""

    agency: AgencyName = Field(description="For whom it was signed.")
    by: Text = Field(description="The signatory's title.", examples=["Director of Registration"])
    on: Day = Field(description="The day.")
    jws: JwsText = Field(description="Written by gateway agreement sign.", examples=["eyJhbGciOi…..MEUCIQ…"])


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
    on_behalf: AgencyName | None = Field(
        default=None, description="The agency for which the client acts, by its mandate.", examples=["saensuk"]
    )
    without: list[Given] = Field(
        default=[], description="What the call does not bring, of what a grant may require.", examples=[["case"]]
    )


class Decisions(RootModel[list[Decision]]):
    """The decision tests of one agreement."""

    model_config = ConfigDict(strict=True, frozen=True)


FORMS: dict[str, type[BaseModel]] = {
    "service": Service,
    "purposes": Purposes,
    "calendar": Calendar,
    "agency": Agency,
    "agent": Agent,
    "kafka": Kafka,
    "agreement": Agreement,
    "decisions": Decisions,
}
"""By the name under which editors find the form: docs/reference/manifests/<name>.schema.json."""


def form(kind: str) -> dict[str, Any]:
    """The JSON Schema of a manifest, for editors."""
    schema = FORMS[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
