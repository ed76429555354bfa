"""How manifests write days, instants, durations and limits: each notation read into one typed value; a closed form."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.core.life import Approval, Span
from gateway.core.model import Obligation, Rate

_EARLIEST = 1900
_BUDDHIST = 2400
"""From this year on a date is taken for one of the Buddhist era, 543 years ahead."""


class Manifest(BaseModel):
    """A closed form: a key that it does not know is a mistake, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _wrong(message: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("notation", "{words}", {"words": message, "remedy": remedy})


def _text(value: Any, pattern: str, message: str, remedy: str) -> str:
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    raise _wrong(message, remedy)


def _common_era(day: date) -> None:
    if day.year < _EARLIEST:
        raise _wrong(f"the year {day.year} lies before {_EARLIEST}", "Write years of the common era: 2026-01-31.")
    if day.year >= _BUDDHIST:
        raise _wrong(
            f"the year {day.year} looks like the Buddhist era",
            f"Write years of the common era; {day.year} B.E. is {day.year - 543}.",
        )


def _day(value: Any) -> date:
    message, remedy = "must be a day", "Write year, month and day: 2026-01-31."
    text = _text(value, r"\d{4}-\d{2}-\d{2}", message, remedy)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise _wrong(f"{text} is no day of the calendar", remedy) from error
    _common_era(day)
    return day


def _instant(value: Any) -> datetime:
    remedy = "Write day, time and offset: 2026-01-31T22:00:00+07:00."
    text = _text(value, r"\d{4}-\d{2}-\d{2}[Tt ][0-9:.]+ ?([Zz]|[+-]\d{2}:\d{2})", "must be an instant", remedy)
    try:
        instant = datetime.fromisoformat(text.replace(" +", "+").upper())
    except ValueError as error:
        raise _wrong(f"{text} is no instant", remedy) from error
    _common_era(instant.date())
    return instant


def _moment(value: Any) -> date | datetime:
    return _day(value) if isinstance(value, str) and len(value) <= len("2026-01-31") else _instant(value)


def _seconds(value: Any) -> float:
    remedy = "Write a whole number and s or ms, at most 60s: 2s or 500ms."
    text = _text(value, r"[1-9]\d{0,5}(s|ms)", "must be a duration", remedy)
    seconds = int(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])
    if seconds > 60:
        raise _wrong(f"{text} is longer than a caller can wait", remedy)
    return seconds


def _rate(value: Any) -> Rate:
    remedy = "Write calls a second or a minute: 50/s or 100/min."
    text = _text(value, r"[1-9]\d{0,6}/(s|min)", "must be a rate", remedy)
    calls, _, unit = text.partition("/")
    return Rate(int(calls), 1.0 if unit == "s" else 60.0)


def _quota(value: Any) -> int:
    text = _text(value, r"[1-9]\d{0,11}/day", "must be a quota", "Write calls a day: 20000/day.")
    return int(text.partition("/")[0])


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """What happens to an answer that breaks its schema: withheld, or let through until a day and counted."""

    report_until: date | None


def _answer_check(value: Any) -> AnswerCheck:
    if value == "enforce":
        return AnswerCheck(None)
    remedy = 'Write enforce, or "report until" and the last day: report until 2027-01-31.'
    text = _text(value, r"report until \d{4}-\d{2}-\d{2}", "must be enforce or report until a day", remedy)
    return AnswerCheck(_day(text.removeprefix("report until ")))


def _obligation(value: Any) -> Obligation:
    if isinstance(value, str) and value in tuple(Obligation):
        return Obligation(value)
    raise _wrong("is nothing that a call can bring", "Write case, user or person.")


def _requirement(value: Any) -> Obligation | Approval:
    name = value if isinstance(value, str) else next(iter(value), None) if isinstance(value, dict) else None
    if name in ("signature", "consent"):
        raise _wrong(
            f"{name} cannot be enforced yet",
            "Take the line out: the gateway grants nothing under a condition that it does not hold.",
        )
    if name == "approval":
        return _approval(value)
    if name == value and name in tuple(Obligation):
        return Obligation(value)
    raise _wrong("is nothing that an agreement can require", "Write case, user, person or approval.")


def _approval(value: Any) -> Approval:
    terms = value.get("approval") if isinstance(value, dict) and len(value) == 1 else None
    by, role = (terms.get("by"), terms.get("role")) if isinstance(terms, dict) and len(terms) == 2 else (None, None)
    if by not in ("provider", "consumer") or not isinstance(role, str) or not re.fullmatch(_WORD, role):
        remedy = "Write whose person approves, and in which post: {approval: {by: provider, role: registrar}}."
        raise _wrong("approval says not exactly by (provider or consumer) and role", remedy)
    return Approval(by, role)


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_LONGEST = 366


def _span(value: Any) -> Span:
    remedy = "Write a whole number with s, min, h or d, at most 366d, or working days: 12h, 30d, 3 working days."
    pattern = r"[1-9]\d{0,7}(s|min|h|d)|[1-9]\d{0,2} working days?"
    text = _text(value, pattern, "must be a stretch of time", remedy)
    count, unit = re.fullmatch(r"(\d+) ?(.+)", text).groups()  # type: ignore[union-attr] # the pattern above holds it
    days = int(count) * _UNITS.get(unit, _UNITS["d"]) / _UNITS["d"]
    if days > _LONGEST:
        raise _wrong(f"{text} is longer than a year", remedy)
    return Span(working_days=int(count)) if unit.startswith("working") else Span(float(int(count) * _UNITS[unit]))


def _days(value: Any) -> int:
    text = _text(value, r"[1-9]\d{0,4}d", "must be a number of days", "Write days: 365d.")
    return int(text[:-1])


def _with_english(title: dict[str, str]) -> dict[str, str]:
    if "en" not in title:
        raise _wrong('the title has no "en"', "Add the English title: en: …")
    return title


def _as(schema_type: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": schema_type, **more})


Day = Annotated[date, PlainValidator(_day), _as("string", format="date", examples=["2026-01-31"])]
Instant = Annotated[
    datetime,
    PlainValidator(_instant),
    _as("string", format="date-time", examples=["2026-01-31T22:00:00+07:00"]),
]
Moment = Annotated[
    date | datetime,
    PlainValidator(_moment),
    _as("string", pattern=r"^\d{4}-\d{2}-\d{2}", examples=["2026-01-31", "2026-01-31T22:00:00+07:00"]),
]
Seconds = Annotated[float, PlainValidator(_seconds), _as("string", pattern="^[1-9][0-9]{0,5}(s|ms)$", examples=["2s"])]
RateText = Annotated[Rate, PlainValidator(_rate), _as("string", pattern="^[1-9][0-9]{0,6}/(s|min)$", examples=["50/s"])]
Quota = Annotated[int, PlainValidator(_quota), _as("string", pattern="^[1-9][0-9]{0,11}/day$", examples=["20000/day"])]
Answers = Annotated[
    AnswerCheck,
    PlainValidator(_answer_check),
    _as("string", pattern=r"^(enforce|report until \d{4}-\d{2}-\d{2})$", examples=["report until 2027-01-31"]),
]
Given = Annotated[Obligation, PlainValidator(_obligation), _as("string", enum=[*Obligation])]
_APPROVAL = {
    "type": "object",
    "required": ["approval"],
    "additionalProperties": False,
    "properties": {
        "approval": {
            "type": "object",
            "required": ["by", "role"],
            "additionalProperties": False,
            "properties": {"by": {"enum": ["provider", "consumer"]}, "role": {"type": "string"}},
        }
    },
}
Required = Annotated[
    Obligation | Approval,
    PlainValidator(_requirement),
    WithJsonSchema({"oneOf": [{"type": "string", "enum": [*Obligation]}, _APPROVAL]}),
]
SpanText = Annotated[
    Span,
    PlainValidator(_span),
    _as("string", pattern="^([1-9][0-9]{0,7}(s|min|h|d)|[1-9][0-9]{0,2} working days?)$", examples=["3 working days"]),
]
Days = Annotated[int, PlainValidator(_days), _as("string", pattern="^[1-9][0-9]{0,4}d$", examples=["365d"])]

_WORD = "[a-z][a-z0-9_]{0,47}"
Word = Annotated[str, Field(pattern=f"^{_WORD}$", examples=["local_tax"])]
AgencyName = Annotated[str, Field(pattern=f"^{_WORD}$", examples=["interior"])]
SystemName = Annotated[str, Field(pattern=rf"^{_WORD}\.{_WORD}$", examples=["finance.local_tax"])]
ConsumerName = Annotated[
    str,
    Field(pattern=rf"^({_WORD}\.{_WORD}|group:{_WORD})$", examples=["finance.local_tax", "group:municipalities"]),
]
ProviderName = Annotated[
    str, Field(pattern=rf"^({_WORD}|group:{_WORD})$", examples=["interior", "group:municipalities"])
]
SERVICE = rf"^{_WORD}\.{_WORD}\.v[1-9][0-9]{{0,3}}$"
ServiceName = Annotated[str, Field(pattern=SERVICE, examples=["population.person_lookup.v1"])]
Pattern = Annotated[
    str,
    Field(pattern=rf"^(\*|{_WORD}\.\*|{_WORD}\.{_WORD}\.v[1-9][0-9]{{0,3}})$", examples=["permits.*"]),
]
MediaType = Annotated[str, Field(pattern="^[a-z]+/[a-z0-9][a-z0-9.+-]{0,126}$", examples=["application/pdf"])]
AgreementName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", examples=["MOI-FIN-2026-014"])]
Scope = Annotated[str, Field(pattern="^[a-z][a-z0-9_.:-]{0,63}$", examples=["population:read"])]
PointerText = Annotated[str, Field(pattern="^(/([^~/]|~[01])*)*$", max_length=512, examples=["/name/family"])]
Text = Annotated[str, Field(min_length=1, max_length=500)]
JwsText = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]+$", max_length=4096)]
Title = Annotated[
    dict[Annotated[str, Field(pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")], Text],
    AfterValidator(_with_english),
    Field(json_schema_extra={"required": ["en"]}),
]
KeyFile = Annotated[str, Field(pattern=rf"^{_WORD}\.{_WORD}$", examples=["interior.civil_registry"])]
Keys = Annotated[
    str,
    Field(
        pattern=rf"^({_WORD}\.{_WORD}|https://[^\s@]{{1,500}})$",
        examples=["interior.civil_registry", "https://id.interior.example/jwks.json"],
    ),
]
