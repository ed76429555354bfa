"""Documents taken by an agency's own Python: ``take`` of a class in ``adapters/<agency>/adapter.py``."""

import asyncio
from dataclasses import dataclass

from gateway.adapter import Adapter, Attachment, Broken, Document, TryLater
from gateway.core.delivery import Reason
from gateway.core.model import Way
from gateway.protocols.handover import Accepted, Handed, NotTaken, Taker, register_number
from gateway.protocols.protocol import Surroundings
from gateway.protocols.python import adapter, let_go, usable_wait


def hand_over(way: Way, surroundings: Surroundings) -> Taker:
    """The adapter's class behind a way with ``protocol: python``. Raises ValueError where it cannot be had."""
    return _Python(f"the adapter of {way.agency}", adapter(way.agency, f"way:{way.name}", way.options, surroundings))


@dataclass(frozen=True, slots=True)
class _Python:
    who: str
    adapter: Adapter

    async def take(self, handed: Handed) -> Accepted:
        document = _document(handed)
        limit = asyncio.timeout(handed.seconds)
        try:
            async with limit:
                return Accepted(register_number(await self.adapter.take(document)))
        except (Exception, SystemExit) as error:
            if isinstance(error, TimeoutError) and limit.expired():
                said = f"{self.who} did not take it within {handed.seconds:.0f} s"
                raise NotTaken(said, sent=True, whole=True) from error
            raise self._no(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._no(error) from error  # the adapter's own, from something that it cancelled

    async def close(self) -> None:
        """Let go of what the adapter opened."""
        await let_go(self.adapter)

    def _no(self, error: BaseException) -> NotTaken:
        """Everything that an adapter raises. Its text stays out: it may quote the document."""
        match error:
            case TryLater():
                wait = usable_wait(error.seconds)
                return NotTaken(f"{self.who} asks to come back later", sent=False, whole=False, retry_after=wait)
            case Broken():
                said = f"{self.who} says that its system refused it"
                return NotTaken(said, sent=True, whole=False, reason=Reason.REFUSED_BY_SYSTEM)
            case _:
                return NotTaken(f"{self.who} failed with {type(error).__name__}", sent=True, whole=False)


def _document(handed: Handed) -> Document:
    envelope = handed.envelope
    return Document(
        id=handed.id,
        kind=handed.kind,
        service=handed.service,
        sender=envelope["sender"],
        on_behalf=envelope.get("on_behalf"),
        reference=envelope.get("reference"),
        purpose=envelope.get("purpose"),
        case=envelope.get("case"),
        submitted=envelope["submitted"],
        unit=envelope.get("unit"),
        attachments=tuple(
            Attachment(each["attachment"], each["digest"], each["size"], each["media_type"], path=each.get("path"))
            for each in envelope.get("attachments") or ()
        ),
        body=handed.body,
        raw=handed.raw,
        redelivered=bool(envelope.get("redelivered")),
        late=int(envelope.get("late") or 0),
        seconds=handed.seconds,
    )
