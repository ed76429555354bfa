"""Documents put on topics, each with a deadline of its own, and what became of those that were not acknowledged.

While the cluster cannot be reached everything is turned away at once, unsent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import errors

from gateway.core.delivery import Reason
from gateway.core.kafka import AWAY
from gateway.protocols.brokers import Unreachable, unauthorised
from gateway.protocols.flights import Flights, Record
from gateway.protocols.handover import NotTaken
from gateway.protocols.kafka_link import ClientOptions
from gateway.protocols.producing import Session
from gateway.protocols.supervision import RETRY_SECONDS, Link, Looks, Supervisor, Watcher

ATTEMPTS = 4
"""Of one record, with a producer each: more than one only where the producer was to blame, or was replaced."""

_SIZE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_UNDECIDED = (
    *(errors.OutOfOrderSequenceNumber, errors.ProducerFenced, errors.InvalidProducerEpoch, errors.UnknownProducerId),
    *(errors.InvalidProducerIdMapping, errors.ProducerClosed),
)
"""What is said of the producer, and not of the record."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One record with one session."""

    session: Session
    record: Record
    until: float
    before: bool
    """It may have been sent by an attempt before."""
    alone: bool
    """No other record shares its batch."""


class _Again(Exception):
    """Another producer may take it."""

    def __init__(self, fault: NotTaken, *, alone: bool) -> None:
        super().__init__(fault.detail)
        self.fault = fault
        """Where that does not either."""
        self.alone = alone


class Publisher:
    """Puts records on topics."""

    def __init__(
        self, link: Link, watcher: Watcher, session: Callable[[ClientOptions, int], Session] = Session
    ) -> None:
        self._watcher = watcher
        self._faults = _Faults(watcher)
        self._flights = Flights()
        self._looks = Looks()
        self._supervisor = Supervisor(link, watcher, self._flights, session)

    @property
    def down(self) -> str | None:
        """Why the cluster cannot be reached; None: nobody knows that it cannot."""
        return self._supervisor.down

    @property
    def in_flight(self) -> tuple[int, int]:
        """Records and bytes."""
        return len(self._flights), self._flights.bytes

    def follow(self, link: Link) -> None:
        """Use this from now on."""
        self._supervisor.link = link
        self._supervisor.doubt()

    async def close(self, seconds: float) -> None:
        """Give what is in flight that time, and end."""
        await self._supervisor.close(seconds)

    async def publish(self, record: Record, seconds: float) -> None:
        """Returns when all replicas that are in sync have it. Raises NotTaken, and nothing else."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        until, before, alone = begun + seconds, False, False
        for attempt in range(1, ATTEMPTS + 1):
            session = await self._usable(record, until, before=before)
            try:
                await self._sent(_Attempt(session, record, until, before, alone))
            except _Again as again:
                self._supervisor.replace(session, "failed")
                if attempt == ATTEMPTS or loop.time() >= until:
                    raise again.fault from again
                before, alone = again.fault.sent, again.alone
            else:
                self._supervisor.heard()
                self._watcher.acknowledged(loop.time() - begun)
                return

    async def _usable(self, record: Record, until: float, *, before: bool) -> Session:
        """A session that knows the record's topic. Raises NotTaken."""
        if not self._flights.has_room(record):
            why = "as much is on its way to Kafka as may be"
            raise self._faults.fault(record, "full", NotTaken(why, sent=before, whole=False, retry_after=RETRY_SECONDS))
        try:
            while True:
                session = await self._supervisor.session(until)
                if session.knows(record.topic):
                    return session
                if against := await self._looks.look(session, record.topic):
                    raise self._faults.fault(record, "topic", NotTaken(against, sent=before, whole=True))
        except Unreachable as error:
            self._supervisor.doubt()
            raise self._faults.away(record, str(error), sent=before) from error

    async def _sent(self, attempt: _Attempt) -> None:
        """Raises NotTaken, and _Again."""
        record, session = attempt.record, attempt.session
        flight: asyncio.Future[Any] | None = None
        try:
            async with asyncio.timeout_at(attempt.until):
                flight = await session.send(record.topic, record.key, record.value, record.headers, alone=attempt.alone)
                await self._flights.begin(flight, record)  # whatever becomes of this waiting, it stays under way
        except (TimeoutError, errors.KafkaTimeoutError) as error:
            raise self._late(record, sent=attempt.before or flight is not None) from error
        except errors.KafkaError as error:
            raise self._refused(attempt, error, sent=flight is not None) from error
        except Exception as error:
            why, sent = f"a record for the topic {record.topic} met {_named(error)}", flight is not None
            fault = self._faults.fault(record, "other", NotTaken(why, sent=sent or attempt.before, whole=False))
            raise _Again(fault, alone=attempt.alone) from error

    def _late(self, record: Record, *, sent: bool) -> NotTaken:
        if self._supervisor.down is not None:
            return self._faults.away(record, self._supervisor.down, sent=sent)
        self._supervisor.doubt()
        why = f"the topic {record.topic} did not acknowledge in time"
        return self._faults.fault(record, "timeout", NotTaken(why, sent=sent, whole=True))

    def _refused(self, attempt: _Attempt, error: errors.KafkaError, *, sent: bool) -> Exception:
        """``sent``: brokers have said so, and not aiokafka."""
        record, maybe = attempt.record, attempt.before or sent
        if isinstance(error, errors.TopicAuthorizationFailedError):
            fault = NotTaken(unauthorised(record.topic), sent=attempt.before, whole=True)
            return self._faults.fault(record, "topic", fault)
        if self._supervisor.down is not None:
            return self._faults.away(record, self._supervisor.down, sent=maybe)
        if isinstance(error, _SIZE):
            why = f"it is larger than a record on the topic {record.topic} may be"
            fault = NotTaken(why, sent=attempt.before, whole=False, reason=Reason.TOO_LARGE)
            if sent and not attempt.alone:  # its batch was refused: others in it may be to blame
                return _Again(fault, alone=True)
            return self._final(attempt, self._faults.fault(record, "too_large", fault), sent=sent)
        why = f"the topic {record.topic}: {_named(error)}"
        fault = self._faults.fault(record, "producer", NotTaken(why, sent=maybe, whole=True))
        if isinstance(error, _UNDECIDED) or not isinstance(error, errors.BrokerResponseError):
            return _Again(fault, alone=attempt.alone)
        return self._final(attempt, fault, sent=sent)

    def _final(self, attempt: _Attempt, fault: NotTaken, *, sent: bool) -> NotTaken:
        """After a batch that was refused the numbers of the producer's batches have a gap, at which brokers stop it."""
        if sent:
            self._supervisor.replace(attempt.session, "refused")
        return fault


@dataclass(frozen=True, slots=True)
class _Faults:
    """What is told of records that were not acknowledged."""

    watcher: Watcher

    def fault(self, record: Record, word: str, fault: NotTaken) -> NotTaken:
        """``word`` is one of few."""
        self.watcher.failed(record.recipient, word)
        return fault

    def away(self, record: Record, why: str, *, sent: bool) -> NotTaken:
        """The wish spares the document a pause of its own: nothing is wrong with it."""
        return self.fault(record, "away", NotTaken(f"{AWAY}: {why}", sent=sent, whole=True, retry_after=RETRY_SECONDS))


def _named(error: BaseException) -> str:
    return type(error).__name__
