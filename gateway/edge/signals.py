"""What signals say to a process that serves: SIGTERM and SIGINT to end, SIGHUP to reload, SIGUSR2 to be replaced."""

import asyncio
import signal
from collections.abc import Callable


def spared() -> None:
    """From now on SIGHUP and SIGUSR2, which would end the process, do nothing until ``answered``.

    They are not ignored: a process that is started from here would inherit that (signal(7)).
    """
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)  # a library that reads a file just then goes on reading


def answered(*, reload: Callable[[], None], roll: Callable[[], None]) -> asyncio.Event:
    """What is set when the process is to end; the other two signals call."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR2, roll)
    return stop
