"""What systemd is told, by the socket that it names."""

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from gateway.edge import notify


@pytest.fixture(params=["", "@"], ids=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """A socket that hears what a service tells, under a path or an abstract name."""
    place = f"{tmp_path_factory.mktemp('systemd')}/notify"
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + place if request.param else place)
        patch.setenv("NOTIFY_SOCKET", request.param + place)
        heard.setblocking(False)
        yield heard


def test_a_life_is_told(systemd: socket.socket) -> None:
    """One datagram for each turn."""
    notify.ready()
    notify.stopping()
    assert systemd.recv(100) == b"READY=1"
    assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(("whose", "signs"), [(str(os.getpid()), 3), ("", 3), ("1", 0)], ids=["me", "all", "else"])
async def test_signs_of_life_are_given_where_they_are_wanted(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, whose: str, signs: int
) -> None:
    """Again and again; none where WATCHDOG_PID means another process."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("WATCHDOG_PID", whose)
    watched = asyncio.create_task(notify.watched())
    loop = asyncio.get_running_loop()
    for _ in range(signs):
        assert await asyncio.wait_for(loop.sock_recv(systemd, 100), 30) == b"WATCHDOG=1"
    await asyncio.sleep(0)
    assert watched.done() == (signs == 0)
    watched.cancel()


def test_nothing_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NOTIFY_SOCKET, or where nobody hears it, the service goes on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify.ready()
