"""A document posted to an agency's system over HTTP: one request, and what its answer says of the document."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.delivery import Reason
from gateway.core.mapping import Address
from gateway.core.model import AgencyId, Way
from gateway.protocols import options
from gateway.protocols.handover import Handed, NotTaken
from gateway.protocols.protocol import Cut, Manner, Outbound, Reply, Surroundings, TooLarge, Unsent

MAX_REPLY_BYTES = 65_536
"""Bytes that are read of an answer to a document: there is nothing in it but a register number."""

_FOR_GOOD: Mapping[int, Reason] = {
    400: Reason.REFUSED_BY_SYSTEM,
    409: Reason.STALE_RECORD,
    412: Reason.STALE_RECORD,
    413: Reason.TOO_LARGE,
    422: Reason.REFUSED_BY_SYSTEM,
}
"""What a system says of this document, whatever it would say of another one."""
_OF_ADDRESS = frozenset({401, 403, 404, 405, 406, 407, 415, 421})
"""What it says of everything that comes to this address in this way: somebody has to mend the folder, or the system."""
_NOT_NOW = frozenset({429, 503})
"""Its own word that it takes nothing now: this document had no effect there."""
_BEHIND = frozenset({502, 504})
"""A proxy's word that the system behind it does not answer."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an agency's documents are posted."""

    agency: AgencyId
    url: str
    manner: Manner
    outbound: Outbound

    async def post(self, headers: Mapping[str, str], body: bytes, handed: Handed) -> Reply:
        """The answer of a system that took the document. Raises NotTaken."""
        seconds = handed.seconds
        who = f"the system of {self.agency}"
        try:
            reply = await self.outbound.send(
                "POST",
                self.url,
                headers=headers,
                body=body,
                seconds=seconds,
                max_bytes=MAX_REPLY_BYTES,
                manner=self.manner,
            )
        except Unsent as error:
            raise NotTaken(f"{who} cannot be reached: {error}", sent=False, whole=True) from error
        except TimeoutError as error:
            raise NotTaken(f"{who} did not answer within {seconds:.0f} s", sent=True, whole=True) from error
        except Cut as error:
            raise NotTaken(f"the connection to {who} broke before its answer", sent=True, whole=False) from error
        except TooLarge as error:  # any 2xx says that it took it (Standard Webhooks), whatever page comes along
            reply = error.head
        if not 200 <= reply.status < 300:
            raise _no(reply, who, again=bool(handed.envelope["redelivered"]))
        return reply


def _no(reply: Reply, who: str, *, again: bool) -> NotTaken:
    said = f"{who} answered with HTTP status {reply.status}"
    later = options.wait(reply.headers.get("retry-after"))
    match reply.status:
        case 410:
            return NotTaken(f"{said}: it takes nothing any more", sent=True, whole=True, reason=Reason.STOPPED)
        # to an attempt that is not the first, 409 may mean that it has the document, or is busy with it still
        # (draft-ietf-httpapi-idempotency-key-header, section 2.7)
        case status if status in _FOR_GOOD and not (again and status == 409):
            return NotTaken(said, sent=True, whole=False, reason=_FOR_GOOD[status])
        case status if status in _NOT_NOW:
            return NotTaken(said, sent=False, whole=True, retry_after=later)
        case status if status in _OF_ADDRESS or status in _BEHIND:
            return NotTaken(said, sent=True, whole=True, retry_after=later)
        case status if status < 400:  # a redirect could lead anywhere, with personal data in hand
            return NotTaken(f"{said}, which the gateway does not follow", sent=True, whole=True)
        case _:
            return NotTaken(said, sent=True, whole=False, retry_after=later)


def traced(handed: Handed) -> Mapping[str, str]:
    """The header of the trace that the document belongs to, where that is known still."""
    return {"traceparent": handed.traceparent} if handed.traceparent else {}


def letterbox(way: Way, surroundings: Surroundings) -> Letterbox:
    """Of a way with ``url``, ``tls`` and ``allow``. Raises ValueError where they are wrong."""
    if "url" not in way.options:
        raise ValueError(f"protocol {way.protocol} needs a url")
    url = options.text(way.options["url"], "url")
    address = Address(url, {})
    if "{/" in url:
        raise ValueError("the url of a way is the same for every document: leave placeholders out")
    tls = options.texts(way.options, "tls")
    if tls and not address.secure:
        raise ValueError("tls is given, but the url does not begin with https://")
    context = options.context(tls, surroundings.files) if tls else None
    manner = Manner(context, options.reach(way.options))
    return Letterbox(way.agency, address.filled(None), manner, surroundings.outbound)
