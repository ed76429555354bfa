"""An agency's own Python: a class in ``adapters/<agency>/adapter.py``, on ``gateway.adapter``."""

import asyncio
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.abc import SourceLoader
from types import ModuleType
from typing import Any, NoReturn

import orjson

from gateway.adapter import Adapter, Broken, NotFound, Request, TryLater
from gateway.core.model import AgencyId, Endpoint
from gateway.core.shape import Malformed, parse
from gateway.protocols.protocol import (
    LONGEST_WAIT,
    MAX_ANSWER_BYTES,
    Answer,
    Call,
    Provider,
    ProviderFault,
    Surroundings,
)

CLOSING_SECONDS = 5.0
"""What an adapter gets to let go of its connections."""


def connect(endpoint: Endpoint, surroundings: Surroundings) -> Provider:
    """The adapter's class behind an endpoint with ``protocol: python``.

    Raises ValueError with a sentence where the class cannot be had.
    """
    return _Python(endpoint, adapter(endpoint.provider, endpoint.service, endpoint.options, surroundings))


def adapter(agency: AgencyId, what: str, options: Mapping[str, object], surroundings: Surroundings) -> Adapter:
    """An agency's class, made for ``what`` alone. Raises ValueError with a sentence where it cannot be had."""
    if options.keys() != {"class"} or not isinstance(options["class"], str):
        raise ValueError("protocol python takes one option: class, the name of a class in adapter.py")
    if not surroundings.python:
        raise ValueError(
            f"adapters/{agency}/adapter.py is not run here: set GATEWAY_RUN_ADAPTERS=true to let agencies' "
            "Python run inside the gateway, or run it at the agency"
        )
    label = f"adapters/{agency}/adapter.py"
    raw = surroundings.files.contents.get(label)
    if not isinstance(raw, bytes):
        raise ValueError(f"{label} cannot be read")  # noqa: TRY004 - a mistake in a folder
    name = options["class"]
    with _said(f"{label} cannot be loaded:", path := str(surroundings.files.path(label))):
        module = _load(f"gateway_adapter:{agency}:{what}", path, raw)
        made: Any = getattr(module, name, None)
        fits = isinstance(made, type) and issubclass(made, Adapter)
    if not fits:
        raise ValueError(f"{label} has no class {name} that is a gateway.adapter.Adapter")
    with _said(f"{label}: {name}() failed with", path):
        ready: Adapter = made()
    return ready


async def let_go(adapter: Adapter) -> None:
    """A reload or a shutdown goes on, whatever an adapter does with its own."""
    with suppress(Exception, SystemExit):
        async with asyncio.timeout(CLOSING_SECONDS):
            await adapter.close()


class _Bytes(SourceLoader):
    """A module as these bytes have it, whatever lies on the disk by now; nothing compiled is kept beside it."""

    def __init__(self, path: str, raw: bytes) -> None:
        self._path = path
        self._raw = raw

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - named so by importlib
        return self._path

    def get_data(self, path: str) -> bytes:  # noqa: ARG002 - same
        return self._raw


def _load(name: str, path: str, raw: bytes) -> ModuleType:
    """The module, made anew: each endpoint has its own, so that two agencies' adapters never share a name."""
    loader = _Bytes(path, raw)
    module = ModuleType(name)
    module.__file__, module.__loader__ = path, loader
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up here
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


@contextmanager
def _said(what: str, path: str) -> Iterator[None]:
    """What agency's code raises, by its type and line. Its text may hold anything, and findings are logged."""
    try:
        yield
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        lines = [at for frame, at in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
        if isinstance(error, SyntaxError) and error.filename == path:
            lines.append(error.lineno or 1)
        where = f" in line {lines[-1]}" if lines else ""
        raise ValueError(f"{what} {type(error).__name__}{where}") from error


class _Python:
    __slots__ = ("_adapter", "_who")

    def __init__(self, endpoint: Endpoint, adapter: Adapter) -> None:
        self._adapter = adapter
        self._who = f"The adapter of {endpoint.provider}"

    async def call(self, call: Call) -> Answer:
        try:
            return self._answer(call, await self._ask(call))
        except ProviderFault as fault:
            fault.outgoing = call.raw
            raise

    async def close(self) -> None:
        await let_go(self._adapter)

    def _answer(self, call: Call, found: object) -> Answer:
        try:
            provided = orjson.dumps(found)
        except orjson.JSONEncodeError as error:
            detail = f"{self._who} answered with what cannot be written as JSON."
            raise ProviderFault("provider.wrong_answer", detail, sent=True) from error
        if len(provided) > MAX_ANSWER_BYTES:
            detail = f"{self._who} answered with more than {MAX_ANSWER_BYTES} bytes."
            raise ProviderFault("provider.wrong_answer", detail, sent=True)
        try:
            return Answer(parse(provided), call.raw, provided)
        except Malformed as error:
            detail = f"{self._who} answered with {error}."
            raise ProviderFault("provider.wrong_answer", detail, sent=True, provided=provided) from error

    async def _ask(self, call: Call) -> object:
        request = Request(
            exchange=call.exchange,
            service=call.service,
            consumer=call.consumer,
            purpose=call.purpose,
            case=call.case,
            body=orjson.loads(call.raw),  # its own copy: what an adapter changes must not reach the journal
            idempotency_key=call.idempotency_key,
            seconds=call.seconds,
        )
        try:
            async with asyncio.timeout(call.seconds) as limit:
                return await self._adapter.answer(request)
        except (Exception, SystemExit) as error:
            if isinstance(error, TimeoutError) and limit.expired():
                raise ProviderFault("provider.timeout", f"{self._who} did not answer in time.", sent=True) from error
            self._no(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._no(error)  # the adapter's own, from something that it cancelled

    def _no(self, error: BaseException) -> NoReturn:
        """Everything that an adapter raises. Its text stays out of the fault: it may quote the request."""
        match error:
            case NotFound():
                detail = f"{self._who} found no such record."
                raise ProviderFault("provider.not_found", detail, sent=True, definite=True) from error
            case TryLater():
                detail = f"{self._who} asks to come back later."
                wait = usable_wait(error.seconds)
                raise ProviderFault("provider.unavailable", detail, sent=False, retry_after=wait) from error
            case Broken():
                detail = f"{self._who} says that its system failed or refused the call."
                raise ProviderFault("provider.broken", detail, sent=True, definite=True) from error
            case _:
                detail = f"{self._who} failed with {type(error).__name__}."
                raise ProviderFault("provider.broken", detail, sent=True) from error


def usable_wait(seconds: object) -> float | None:
    """What an adapter gave as seconds, if it is usable as such."""
    return min(float(seconds), LONGEST_WAIT) if isinstance(seconds, int | float) and seconds >= 0 else None
