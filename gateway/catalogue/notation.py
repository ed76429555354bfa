"""How manifests write days, instants, durations and limits: each notation read into one typed value."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.core.model import Obligation, Rate

_EARLIEST = 1900
_BUDDHIST = 2400
"""From this year on a date is taken for one of the Buddhist era, 543 years ahead."""


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
    name = value if isinstance(value, str) else next(iter(value), None) if isinstance(value, dict) else None
    if name in ("approval", "signature", "consent"):
        raise _wrong(
            f"{name} cannot be enforced on an exchange yet",
            "Take the line out: the gateway grants nothing under a condition that it does not hold.",
        )
    if name == value and name in tuple(Obligation):
        return Obligation(value)
    raise _wrong("is nothing that an agreement can require", "Write case or user.")


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
Required = Annotated[Obligation, PlainValidator(_obligation), _as("string", enum=[*Obligation])]

_WORD = "[a-z][a-z0-9_]{0,47}"
Word = Annotated[str, Field(pattern=f"^{_WORD}$", examples=["local_tax"])]
AgencyName = Annotated[str, Field(pattern=f"^{_WORD}$", examples=["interior"])]
SystemName = Annotated[str, Field(pattern=rf"^{_WORD}\.{_WORD}$", examples=["finance.local_tax"])]
ConsumerName = Annotated[
    str,
    Field(pattern=rf"^({_WORD}\.{_WORD}|group:{_WORD})$", examples=["finance.local_tax", "group:municipalities"]),
]
SERVICE = rf"^{_WORD}\.{_WORD}\.v[1-9][0-9]{{0,3}}$"
ServiceName = Annotated[str, Field(pattern=SERVICE, examples=["population.person_lookup.v1"])]
AgreementName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", examples=["MOI-FIN-2026-014"])]
Scope = Annotated[str, Field(pattern="^[a-z][a-z0-9_.:-]{0,63}$", examples=["population:read"])]
PointerText = Annotated[str, Field(pattern="^(/([^~/]|~[01])*)*$", max_length=512, examples=["/name/family"])]
Text = Annotated[str, Field(min_length=1, max_length=500)]
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
