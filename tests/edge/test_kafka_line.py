"""What a line to a Kafka cluster leaves behind when it fails."""

import gc
import socket
import ssl
import threading
from pathlib import Path

import pytest

from gateway.catalogue.files import Files
from gateway.core.kafka import Connection
from gateway.edge.kafka_line import Line
from gateway.protocols.kafka_link import ClusterFailed


def hang_up(listener: socket.socket) -> None:
    """On whoever comes, before a word is said, until nobody may come."""
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


def test_a_broker_that_hangs_up_leaves_no_socket(tmp_path: Path) -> None:
    """In the middle of TLS's first words, where kafka-python itself forgets the socket."""
    files = Files(tmp_path, tmp_path, {}, frozenset())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = threading.Thread(target=hang_up, args=(listener,))
        silent.start()
        at = Connection((f"127.0.0.1:{listener.getsockname()[1]}",), tls={})
        with pytest.raises(ClusterFailed, match="Handshake failed"), Line(at, files, 5.0):
            pass
        listener.shutdown(socket.SHUT_RDWR)
        silent.join()
    assert not [each for each in gc.get_objects() if isinstance(each, ssl.SSLSocket) and each.fileno() >= 0]
