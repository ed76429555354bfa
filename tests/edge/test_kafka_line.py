"""What a line to a Kafka cluster leaves behind when it fails."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.catalogue.files import Files
from gateway.core.kafka import Connection
from gateway.edge.kafka_line import Line, TlsSocket


@contextmanager
def reached(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """The line's own socket, before TLS's first word, and the broker's end of it."""
    line = Line(Connection(("127.0.0.1:9",), tls={}), Files(tmp_path, tmp_path, {}, frozenset()))
    context = line._options["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = socket.create_connection(listener.getsockname())
        raw.setblocking(False)
        with listener.accept()[0] as theirs:
            ours = context.wrap_socket(raw, server_hostname="127.0.0.1", do_handshake_on_connect=False)
            with ours:
                yield ours, theirs


def test_a_broker_that_hangs_up_leaves_no_socket(tmp_path: Path) -> None:
    """In the middle of TLS's first words: kafka-python forgets the socket then, and it would stay open."""
    with reached(tmp_path) as (ours, theirs):
        with pytest.raises(ssl.SSLWantReadError):
            ours.do_handshake()
        assert isinstance(ours, TlsSocket)
        assert ours.fileno() >= 0
        ours.settimeout(30)
        theirs.sendall(b"this is no TLS")
        with pytest.raises(ssl.SSLError):
            ours.do_handshake()
        assert ours.fileno() == -1
