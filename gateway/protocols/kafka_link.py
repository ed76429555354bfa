"""How a Kafka client is connected, whichever it is: addresses, TLS and a login, of what manifests and files say."""

import ssl
from typing import Literal, TypedDict

from gateway.catalogue.files import Files
from gateway.core.kafka import Connection, Sasl
from gateway.protocols.options import context, secret


class _Reached(TypedDict):
    bootstrap_servers: list[str]
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class ClientOptions(_Reached, total=False):
    """What aiokafka's clients and kafka-python's take, by the same names. Never shown: a password is in it."""

    ssl_context: ssl.SSLContext
    sasl_mechanism: str
    sasl_plain_username: str
    sasl_plain_password: str


def client_options(connection: Connection, files: Files) -> ClientOptions:
    """The options, made in a thread: files are read. Raises ValueError with a sentence, without secrets."""
    made = ClientOptions(bootstrap_servers=list(connection.bootstrap), security_protocol=_protocol(connection))
    if connection.tls is not None:
        made["ssl_context"] = context(connection.tls, files)
    if connection.sasl is not None:
        made["sasl_mechanism"] = connection.sasl.mechanism
        made["sasl_plain_username"] = connection.sasl.username
        made["sasl_plain_password"] = _password(connection.sasl, files)
    return made


def _protocol(connection: Connection) -> Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]:
    if connection.sasl is None:
        return "PLAINTEXT" if connection.tls is None else "SSL"
    return "SASL_PLAINTEXT" if connection.tls is None else "SASL_SSL"


def _password(sasl: Sasl, files: Files) -> str:
    """Without the end of the line that editors add."""
    return secret(files, sasl.password).removesuffix("\n").removesuffix("\r")


class ClusterFailed(Exception):
    """A cluster cannot be reached, or does not do what it is asked. The message is one sentence for operators."""
