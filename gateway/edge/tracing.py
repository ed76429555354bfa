"""Where an exchange stands in its caller's trace (W3C Trace Context), and the spans that may be made of it.

Nothing here knows OpenTelemetry: ``spans`` does, and it is loaded only where its variables are set.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, cast
from urllib.parse import urlsplit

from gateway.core.exchange import trace

PROVIDER = "provider"
"""The part of an exchange in which an agency's system is asked."""
JOURNAL = "journal"
"""A part in which an entry is written."""

_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_RATIO = "OTEL_TRACES_SAMPLER_ARG"


class Part(Protocol):
    """A part of a span's time. As a context it gives the ``traceparent`` for whoever is called in it."""

    def __enter__(self) -> str: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Span(Protocol):
    """What is noted of one request while it is worked on."""

    @property
    def traceparent(self) -> str:
        """For the answer."""

    @property
    def sampled(self) -> bool:
        """Whether it is noted at all."""

    def part(self, name: str, /, **said: str) -> Part:
        """A part that begins now; ``said`` are names of the catalogue or of the program."""

    def end(self, status: int, /, **said: str | None) -> None:
        """It was answered so; ``said`` as above, None for what is not known."""


class Tracer(Protocol):
    """What begins spans."""

    def begin(self, route: str, theirs: str | None, exchange: str, /) -> Span:
        """A call has come; ``route`` is its method and path, ``theirs`` its ``traceparent`` as it was sent."""

    async def close(self) -> None:
        """Send what waits, for a moment."""


class Losses(Protocol):
    """Who counts spans that were made for nothing."""

    def spans_dropped(self, why: str, count: int) -> None:
        """``why`` is ``share``, ``queue`` or ``export``."""


@dataclass(frozen=True, slots=True)
class Untraced:
    """A span of which nothing is noted, and all of its parts."""

    traceparent: str
    sampled: bool = False

    def part(self, _name: str, /, **_said: str) -> Self:
        return self

    def end(self, _status: int, /, **_said: str | None) -> None:
        return

    def __enter__(self) -> str:
        return self.traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return


class PassingOn:
    """The tracer without OpenTelemetry: the caller's trace goes on, under a span of the gateway that nobody keeps."""

    def begin(self, _route: str, theirs: str | None, exchange: str, /) -> Span:
        plain = exchange.replace("-", "")
        followed = trace(theirs)
        flags = theirs[53:55] if theirs and followed else "00"
        return Untraced(f"00-{followed or plain}-{plain[-16:]}-{flags}")

    async def close(self) -> None:
        return


def trace_of(traceparent: str) -> str:
    """The trace id of a ``traceparent`` that the gateway made."""
    return traceparent[3:35]


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = environment.get(_EXPORTER, "").strip().lower()
    return named != "none" if named else any(environment.get(name) for name in _ENDPOINTS)


def mistakes(environment: Mapping[str, str]) -> list[str]:
    """What of those variables cannot be done, a sentence each: the SDK itself would go on with something else."""
    if not wanted(environment):
        return []
    wrong = []
    if (named := environment.get(_EXPORTER, "otlp").strip().lower()) not in ("", "otlp"):
        wrong.append(f"{_EXPORTER} is {named}, and the gateway sends traces by otlp only: set otlp, or none.")
    wrong += [
        f"{name} is {environment[name]}, and the gateway speaks http/protobuf only: set that, or leave it out."
        for name in _PROTOCOLS
        if environment.get(name, "http/protobuf") not in ("", "http/protobuf")
    ]
    wrong += [
        f"{name} must be an http or https address such as http://127.0.0.1:4318."
        for name in _ENDPOINTS
        if environment.get(name) and not _is_address(environment[name])
    ]
    sampler = environment.get("OTEL_TRACES_SAMPLER", "always_on").strip().lower().removeprefix("parentbased_")
    if sampler not in _SAMPLERS:
        wrong.append(f"OTEL_TRACES_SAMPLER must be one of {', '.join(_SAMPLERS)}, with or without parentbased_ before.")
    if sampler == "traceidratio" and not _is_ratio(environment.get(_RATIO, "")):
        wrong.append(f"{_RATIO} must be a number from 0 to 1 where OTEL_TRACES_SAMPLER names a ratio.")
    return wrong


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_ratio(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def opened(environment: Mapping[str, str], instance: str, losses: Losses) -> Tracer:
    """The tracer that the environment asks for, in a running loop. Raises ValueError with what is wrong with it."""
    if wrong := mistakes(environment):
        raise ValueError("\n".join(wrong))
    if not wanted(environment):
        return PassingOn()
    # by name: the module brings 200 others along, of which a process without traces has none
    return cast("Tracer", importlib.import_module("gateway.edge.spans").Recording(instance, losses))
