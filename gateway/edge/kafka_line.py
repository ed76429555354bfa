"""A line to the brokers of a Kafka cluster for whoever looks after it: one question at a time, each with a deadline.

It speaks kafka-python's messages, which are generated of Apache Kafka's own definitions: neither that library's admin
client nor aiokafka's knows quotas, and neither says of every answer whether it is an error. Its network runs in a
thread of its own.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from selectors import DefaultSelector, SelectorKey
from types import TracebackType
from typing import Any, Self

from kafka import errors
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from gateway.catalogue.files import Files
from gateway.core.kafka import Connection
from gateway.protocols.kafka_link import ClusterFailed, client_options

PATIENCE = 10.0
"""Seconds within which a broker is found, and within which each question is answered."""
ATTEMPTS = 3
"""Brokers that are asked what any of them can answer."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""What one answer of a broker may have: a cluster's whole list of access, for example."""

_REMEDY = "Do they run, is the address right, do tls and sasl fit what they speak?"
_LOGIN = "Correct sasl or its secret, or have the user made there; where they speak TLS, write tls."
_IN, _GONE = "let us in", "socket disconnected"

logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)  # what goes wrong is said in one sentence, and by us


class Silent(ClusterFailed):
    """There was no answer, neither yes nor no."""


class Sockets(DefaultSelector):
    """Closes every socket that was waited for: the library leaves open those of a connection that never came to be."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[socket.socket] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """Wait for it."""
        self._seen = [fileobj, *(each for each in self._seen if each is not fileobj and each.fileno() >= 0)]
        return super().register(fileobj, events, data)

    def close(self) -> None:
        """Wait for none."""
        for each in self._seen:
            each.close()
        super().close()


class TlsSocket(ssl.SSLSocket):
    """Closes itself where its handshake fails: the library forgets it then, and may not have waited for it yet."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as ssl has it
        """Go on with it."""
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise


class Line:
    """A connection to a cluster; ask within ``with``."""

    def __init__(self, connection: Connection, files: Files, seconds: float = PATIENCE) -> None:
        """Raises ValueError where a secret or a certificate cannot be used."""
        self.seconds = seconds
        self._where = ", ".join(connection.bootstrap)
        self._logs_in = connection.sasl is not None
        self._who = connection.sasl.username if connection.sasl is not None else "this client"
        milliseconds = int(seconds * 1000)
        reached = client_options(connection, files)
        if "ssl_context" in reached:
            reached["ssl_context"].sslsocket_class = TlsSocket
        self._options = {
            **reached,
            "client_id": "gateway-topics",
            "selector": Sockets,
            "request_timeout_ms": milliseconds,
            "socket_connection_setup_timeout_ms": milliseconds,
            "socket_connection_setup_timeout_max_ms": milliseconds,
            "receive_message_max_bytes": MAX_ANSWER_BYTES,
        }

    def __enter__(self) -> Self:
        """Raises ClusterFailed where no broker is found."""
        self._loop = NetworkSelector(**self._options)
        self._brokers = KafkaConnectionManager(self._loop, **self._options)
        self._loop.start()
        try:
            with self._said(_IN):
                self._reached()
                self._waited(self._brokers.bootstrap_async(self.seconds * 1000))
        except ClusterFailed:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            closed = self._loop.call_soon_with_future(self._brokers.close)
            with self._said("let us go"):
                self._waited(closed)
        finally:
            self._loop.stop(timeout_ms=1000)
            self._loop.close()

    def ask(self, request: Any, what: str, *, node: int | None = None, passing: int | None = None) -> Any:
        """The answer of a broker, of any where none is named. ``what`` is what is done, for the sentence if it fails.

        Raises ClusterFailed where there is none, or where the answer as a whole is an error other than ``passing``.
        """
        with self._said(what):
            answer = self._answer(request, node)
        if passing is None or getattr(answer, "error_code", None) != passing:
            self.hold(answer, what)
        return answer

    def _answer(self, request: Any, node: int | None) -> Any:
        """One that is gone is still in the list for some seconds: then another one is asked."""
        for _ in range(ATTEMPTS - 1 if node is None else 0):
            with suppress(errors.KafkaConnectionError, errors.NodeNotReadyError):
                return self._waited(self._loop.call_soon_with_future(self._brokers.send, request, node))
        return self._waited(self._loop.call_soon_with_future(self._brokers.send, request, node))

    def hold(self, part: Any, what: str) -> None:
        """Raises ClusterFailed where this part of an answer is an error."""
        code = getattr(part, "error_code", None)
        if code:
            error = errors.for_code(code)(getattr(part, "error_message", None) or "")
            raise ClusterFailed(self._sentence(error, what)) from error

    def _reached(self) -> None:
        """The first broker that lets us in, asked one by one: the library's own search tells no reason at its end."""
        reason: Exception = errors.KafkaTimeoutError()
        for broker in self._brokers.cluster.bootstrap_brokers():
            try:
                self._waited(self._loop.call_soon_with_future(self._greeted, broker.node_id))
            except (errors.KafkaError, OSError) as error:
                reason = error
            else:
                return
        raise reason

    async def _greeted(self, node: int | str) -> None:
        """Runs in the library's own loop, which is not asyncio's."""
        await self._brokers.get_connection(node, pop_on_close=False, refresh_metadata_on_err=False)

    def _waited(self, future: Any) -> Any:
        done = threading.Event()
        future.add_both(lambda _: done.set())
        # a moment more than the request's own deadline, which says more
        if not done.wait(self.seconds + 1):
            raise errors.KafkaTimeoutError
        if future.exception is not None:
            raise future.exception
        return future.value

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except errors.BrokerResponseError as error:
            raise ClusterFailed(self._sentence(error, what)) from error
        except (errors.KafkaError, OSError, RuntimeError) as error:
            raise Silent(self._sentence(error, what)) from error

    def _sentence(self, error: Exception, what: str) -> str:
        if self._turned_away(error, what):
            return f"The brokers at {self._where} do not take the login of {self._who}. {_LOGIN}"
        match error:
            case errors.AuthorizationError():
                remedy = "Name somebody who may with --user and --password, or --client."
                return f"{self._who} may not {what}. {remedy}"
            case errors.SecurityDisabledError():
                return f"The brokers cannot {what}: they ask nobody who he is (authorizer.class.name is not set)."
            case errors.BrokerResponseError() if not isinstance(error, errors.RequestTimedOutError):
                detail = " ".join(str(each) for each in error.args if each)
                return f"The brokers did not {what}: {detail or error.message}"
            case errors.KafkaConnectionError():
                said = " ".join(map(str, error.args)) or "the connection broke"
                return f"The brokers at {self._where} could not be asked to {what}: {said}. {_REMEDY}"
            case _:
                return (
                    f"The brokers at {self._where}, asked to {what}, did not answer in {self.seconds:.0f} s. {_REMEDY}"
                )

    def _turned_away(self, error: Exception, what: str) -> bool:
        """A broker hangs up right behind its no, and the library often sees that first."""
        told = errors.SaslAuthenticationFailedError, errors.IllegalSaslStateError, errors.UnsupportedSaslMechanismError
        gone = isinstance(error, errors.KafkaConnectionError) and _GONE in str(error)
        return isinstance(error, told) or (what == _IN and self._logs_in and gone)
