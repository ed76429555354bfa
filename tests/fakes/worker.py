"""A pretend worker: what it does stands in the file that is its first argument, read when it starts."""

import signal
import socket
import sys
from pathlib import Path

DOES = Path(sys.argv[1]).read_text("utf-8")
"""``serves``; ``late``: when the pipe ``gate`` beside the file is closed; ``deaf``: and SIGTERM does not end it;
``dies`` as soon as it serves; ``fails`` before."""


def main() -> int:
    control = next(each.partition("=")[2] for each in sys.argv if each.startswith("--control="))
    channel = socket.socket(fileno=int(control))
    if DOES == "fails":
        return 3
    if DOES == "late":
        Path(sys.argv[1]).with_name("gate").read_text("utf-8")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if DOES == "deaf" else lambda *_: sys.exit(0))
    channel.sendall(b"\nready http://127.0.0.1:1\n")
    if DOES == "dies":
        return 4
    channel.recv(1)  # the parent never writes: it is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
