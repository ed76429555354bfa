"""The gateway as the agent asks it: its keys, where a document stands, what became of one, files, what has arrived."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from gateway.agent.manifest import NotReady, Setup
from gateway.agent.ports import Answered, Final, Later, Report, Told, Unreachable
from gateway.agent.published import Published
from gateway.client import Document, GatewayClient, GatewayError, NotIdentified, Pace, Refused, Unknown
from gateway.client import Unreachable as Unanswered
from gateway.core.handling import Outcome
from gateway.core.model import Kind

CALL_SECONDS = 30.0
"""For one question or one report in all."""
FILE_SECONDS = 3600.0
"""For what is fetched of one file at a time; what is there stays, and the next try goes on with it."""
WATCH_SECONDS = 60.0
"""Between two looks at whether it is there."""

_ATTEMPTS = 2
"""Of each call: reports and records have a patience of their own."""
_ENDED = frozenset(
    {
        *("document.ended", "document.unknown", "document.state", "document.lease"),
        *("shape.request", "request.malformed", "request.too_large"),
    }
)
"""What will be the same however often it is told."""
_GONE = frozenset({"attachment.unknown", "document.unknown"})

log = structlog.get_logger()


def client_of(setup: Setup) -> GatewayClient:
    """The client of what was declared; made in a thread, as files are read. Raises manifest.NotReady."""
    try:
        return GatewayClient(
            setup.plan.gateway,
            client_id=setup.client_id,
            key=setup.key,
            ca_file=setup.secret("ca"),
            certificate=setup.secret("client"),
            pace=Pace(attempts=_ATTEMPTS),
        )
    except ValueError as error:
        raise NotReady(str(error)) from error


class Gone(Exception):
    """The gateway has no such file for this agency any more."""


class Gateway:
    """One agency's gateway, over one client; whatever fails of it is Unreachable."""

    def __init__(
        self,
        client: GatewayClient,
        agency: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """``clock`` counts seconds and never goes back; the desk reads the same one."""
        self._client = client
        self._agency = agency
        self._sleep = sleep
        self._published = Published(client, self._noted, clock=clock, sleep=sleep)
        self.complaint: str | None = None
        """Why the last call had no answer, in a sentence; None: it had one."""

    async def keys(self, after: float | None = None) -> Mapping[str, Any]:
        """See ``ports.Upstream``."""
        return await self._published.keys(after)

    async def state(self, document: str) -> str | None:
        """See ``ports.Upstream``."""
        try:
            found = await self._client.document(document, timeout=CALL_SECONDS)
        except Unknown:
            self._noted(None)
            return None
        except (GatewayError, ValueError) as error:
            raise self._lost(error) from error
        self._noted(None)
        return _own(found, self._agency)

    async def report(self, report: Report) -> Answered:
        """See ``ports.Upstream``."""
        said: dict[str, str | None] = {}
        match report.outcome:
            case Outcome.REGISTERED:
                said["number"] = report.register_number
            case Outcome.REJECTED:
                said["reason"] = report.reason
            case _:
                pass
        try:
            told = await self._client.answer(report.document, str(report.outcome), timeout=CALL_SECONDS, **said)
            if (told["document"], told["state"]) != (report.document, str(report.outcome)):
                raise Unanswered("what answered to an outcome spoke of something else: it was not the gateway")
        except Refused as error:
            if error.code in _ENDED:
                self._noted(None)
                return Final(error.code)
            self._noted(error)
            return Later(error.retry_after or 0.0)
        except GatewayError as error:
            self._noted(error)
            return Later(error.retry_after or 0.0)
        except ValueError:
            return Final("request.malformed")  # an id that can stand in no address
        self._noted(None)
        return Told()

    async def arrived(self, after: str | None) -> tuple[Sequence[str], str | None]:
        """See ``ports.Upstream``."""
        try:
            asked = {"role": "received", "state": "arrived", "after": after}
            page, following = await self._client.page(timeout=CALL_SECONDS, **asked)
        except (GatewayError, ValueError) as error:
            raise self._lost(error) from error
        self._noted(None)
        return [each.id for each in page], following

    async def files(self, document: str) -> Mapping[str, Mapping[str, Any]] | None:
        """A document's files, by digest, as the gateway has them. Raises Gone, Unreachable.

        None: it is an event, whose files are named to its publisher alone, and fetched by whoever is told their ids.
        """
        try:
            found = await self._client.document(document, timeout=CALL_SECONDS)
        except Unknown as error:
            raise Gone(error.code) from error
        except (GatewayError, ValueError) as error:
            raise self._lost(error) from error
        if found.members.get("kind") == Kind.EVENT:
            return None
        given = found.members.get("attachments")
        entries = given if isinstance(given, list) else ()
        return {str(each.get("digest")): each for each in entries if isinstance(each, dict)}

    async def download(self, attachment: str, to: Path, digest: str, most: int) -> None:
        """One file, whole and checked. Raises Gone, Unreachable, and the client's NotStored for the disk."""
        try:
            await self._client.download(attachment, to, digest=digest, max_bytes=most, timeout=FILE_SECONDS)
        except Refused as error:
            if error.code in _GONE:
                raise Gone(error.code) from error
            raise self._lost(error) from error
        except (Unanswered, ValueError) as error:
            raise self._lost(error) from error

    async def watch(self) -> None:
        """For ever: a key that is not taken, a wrong clock and a gateway that is away are seen before they matter."""
        while True:
            await self.seen()
            await self._sleep(WATCH_SECONDS)

    async def seen(self) -> bool:
        """Whether it is there and takes this system's key."""
        try:
            await self._client.token(timeout=CALL_SECONDS)
            await self.keys()
        except GatewayError as error:
            self._noted(error)
        except Unreachable:  # its fetch has noted why
            pass
        else:
            self._noted(None)
        return self.complaint is None

    async def aclose(self) -> None:
        """Let go of the client and of what runs."""
        await self._published.close()
        await self._client.close()

    def _lost(self, error: Exception) -> Unreachable:
        self._noted(error)
        return Unreachable(str(error))

    def _noted(self, error: Exception | None) -> None:
        """One line when it begins, another one when it ends: a day without the gateway is no day full of lines."""
        said = None if error is None else str(error)
        if said is None and self.complaint is not None:
            log.info("gateway_reached", agency=self._agency)
        elif said is not None and self.complaint is None:
            log.warning("gateway_unreachable", agency=self._agency, why=said, identified=_identified(error))
        self.complaint = said


def _identified(error: Exception | None) -> bool:
    """False: it is there, and does not take this system's key; its words name a clock that is wrong."""
    return not isinstance(error, NotIdentified)


def _own(found: Document, agency: str) -> str | None:
    """Where it stands at this agency: a recipient sees itself alone, unless it is the sender too."""
    return next((each.state for each in found.recipients if each.recipient == agency), None)
