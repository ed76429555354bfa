"""A pretend worker: what it does stands in the file that is its first argument, read when it starts."""

import os
import signal
import socket
import sys
from pathlib import Path

DOES = Path(sys.argv[1]).read_text("utf-8")
"""``serves``; ``late``: when the pipe ``gate`` beside the file is closed; ``deaf``: and SIGTERM does not end it;
``silent``: and gives no sign of life; ``dies`` as soon as it serves; ``fails`` before; ``idles``: it never serves;
``leaves``: a process of its own holds the channel until ``gate`` is closed."""
BEAT = 0.1


def main() -> int:
    control = next(each.partition("=")[2] for each in sys.argv if each.startswith("--control="))
    channel = socket.socket(fileno=int(control))
    channel.settimeout(None if DOES == "silent" else BEAT)
    if DOES == "fails":
        return 3
    heir = DOES == "leaves" and os.fork() == 0
    if DOES == "late" or heir:
        Path(sys.argv[1]).with_name("gate").read_text("utf-8")
    if heir:
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN if DOES == "deaf" else lambda *_: sys.exit(0))
    channel.sendall(b"\n" if DOES == "idles" else b"\nready http://127.0.0.1:1\n")
    if DOES == "dies":
        return 4
    while True:
        try:
            return len(channel.recv(1))  # the parent never writes: it is gone
        except TimeoutError:
            channel.sendall(b"\n")


if __name__ == "__main__":
    sys.exit(main())
