"""Small questions to whichever broker answers, on a connection of their own: a producer's may be stuck for seconds.

Topics are asked for by name and never made by the asking; aiokafka's own questions would make them where the brokers
allow that.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from gateway.protocols.kafka_link import ClientOptions

CLIENT = "exchange-gateway"
"""How brokers' logs and quotas name the gateway."""
DIAL_SECONDS = 2.0
"""What one broker gets to take a connection, log us in and answer: another one may be there."""

_LOGIN = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_FAILURES = (OSError, EOFError, TimeoutError, errors.KafkaError)


class Unreachable(Exception):
    """No broker answers, or none takes us. The message is one half of a sentence for operators."""


class Brokers:
    """Whoever of a cluster answers."""

    def __init__(self, options: ClientOptions, who: str = "the gateway", does: str = "write to") -> None:
        """``who`` asks, and what he does with topics, for those who read what is said."""
        self._options = options
        self._who = who
        self._does = does
        self._known: tuple[tuple[str, int], ...] = ()
        """As the brokers name themselves."""
        self._connection: Any = None
        self._turn = asyncio.Lock()
        self._over = False

    async def ask(self, topics: Sequence[str], seconds: float) -> Mapping[str, str]:
        """What stands against each topic; those against which nothing stands are left out. Raises Unreachable."""
        try:
            async with asyncio.timeout(seconds), self._turn:
                try:
                    answer = await self._answer(MetadataRequest(list(topics), allow_auto_topic_creation=False))
                finally:
                    if self._over:  # it may have been dialled anew since
                        self._let_go()
        except TimeoutError as error:
            raise Unreachable(f"no broker answers within {seconds:.0f} s at {self._at}") from error
        self._known = tuple((host, port) for _, host, port, _ in answer.brokers) or self._known
        found = {name: self._against(name, code) for code, name, _, _ in answer.topics}
        return {name: why for name, why in found.items() if why}

    def close(self) -> None:
        """Let go of the connection, for good: nobody is asked any more."""
        self._over = True
        self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _at(self) -> str:
        return ", ".join(self._options["bootstrap_servers"])

    async def _answer(self, request: MetadataRequest) -> Any:
        """Of the connection that there is, or of another one to any broker. Raises Unreachable."""
        if self._connection is not None and self._connection.connected():
            with contextlib.suppress(*_FAILURES):
                return await self._sent(request)
        why: BaseException = TimeoutError()
        for host, port in self._addresses():
            self._let_go()
            if self._over:
                break
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    self._connection = await _dialled(host, port, self._options)
                    return await self._sent(request)
            except _FAILURES as error:
                why = error
        self._let_go()
        raise Unreachable(f"{_said(why, self._who)} at {self._at}") from why

    async def _sent(self, request: MetadataRequest) -> Any:
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await self._connection.send(request)
        except BaseException:
            self._let_go()  # what it still answers would be taken for the answer to the next question's sender
            raise

    def _against(self, topic: str, code: int) -> str:
        match errors.for_code(code):
            case errors.NoError | errors.LeaderNotAvailableError:
                return ""
            case errors.UnknownTopicOrPartitionError:
                return f"the topic {topic} does not exist: gateway topics plan shows what is missing"
            case errors.TopicAuthorizationFailedError:
                return unauthorised(topic, self._who, self._does)
            case other:
                return f"the brokers say of the topic {topic}: {other.__name__}"

    def _addresses(self) -> Sequence[tuple[str, int]]:
        """Those that are known from before, then those that were declared; each in any order."""
        declared = []
        for each in self._options["bootstrap_servers"]:
            host, _, port = each.rpartition(":")
            declared.append((host.strip("[]"), int(port)))
        known = [each for each in self._known if each not in declared]
        return [*random.sample(known, len(known)), *random.sample(declared, len(declared))]


async def _dialled(host: str, port: int, options: ClientOptions) -> Any:
    rest = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    return await create_conn(host, port, client_id=CLIENT, request_timeout_ms=int(DIAL_SECONDS * 1000), **rest)


def unauthorised(topic: str, who: str = "the gateway", does: str = "write to") -> str:
    """What is said where an ACL is missing."""
    return f"{who} may not {does} the topic {topic}: gateway topics plan shows the ACL that is missing"


def _said(error: BaseException, who: str) -> str:
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(each, _LOGIN) for each in causes):
        return f"the brokers refuse {who}'s login"
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return "TLS with the brokers fails"
    return "no broker answers"
