"""TLS of the public listener: what is spoken, whose certificates are taken, how the own one is renewed."""

import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.edge import doorkeeper
from gateway.edge.doorkeeper import Bounds
from gateway.edge.tls import Tls
from tests.fakes.caller import asked, listening
from tests.fakes.certificates import AUTHORITY, calling, certificate


def written(folder: Path, leaf: trustme.LeafCert | None = None) -> tuple[Path, Path]:
    """The files of a server's certificate and key."""
    made = leaf or AUTHORITY.issue_cert("127.0.0.1")
    paths = folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    made.private_key_pem.write_to_path(paths[1])
    paths[1].chmod(0o600)
    return paths


def authority(folder: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
    return folder / "ca.pem"


async def test_tls_is_spoken(tmp_path: Path) -> None:
    """1.3 with whoever can, 1.2 with forward secrecy and an authenticated cipher, and HTTP/1.1 by ALPN."""
    async with listening(Bounds(0.02, 8, Tls(*written(tmp_path)))) as place:
        for version, said in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
            side = calling(None)
            side.maximum_version = version
            side.set_alpn_protocols(["h2", "http/1.1"])
            wire = await place.connect(tls=side)
            assert await wire.ask() == 200
            spoken = wire.writer.get_extra_info("ssl_object")
            assert (spoken.version(), spoken.selected_alpn_protocol()) == (said, "http/1.1")
            assert "GCM" in spoken.cipher()[0] or "CHACHA20" in spoken.cipher()[0]


def test_what_is_old_is_not_spoken(tmp_path: Path) -> None:
    """No TLS 1.1, no compression, no renegotiation, no cipher without forward secrecy."""
    context = Tls(*written(tmp_path)).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert all(each["aead"] and each["kea"] in ("kx-ecdhe", "kx-any") for each in context.get_ciphers())


async def test_a_client_shows_its_certificate_or_none(tmp_path: Path) -> None:
    """Whoever reads it gets the very bytes; who has none is served as well."""
    shown = certificate()
    tls = Tls(*written(tmp_path), authority(tmp_path))
    async with listening(Bounds(0.02, 64, tls)) as place:
        for side, der in ((calling(shown), shown.der), (calling(None), b"")):
            wire = await place.connect(tls=side)
            wire.send(asked("/shown"))
            assert (await wire.answer())[::2] == (200, der)


async def test_a_strangers_certificate_is_not_taken(tmp_path: Path) -> None:
    """The handshake ends where another authority signed it, and the place is free again."""
    stranger = ssl.create_default_context()
    AUTHORITY.configure_trust(stranger)
    trustme.CA().issue_cert("stranger.example").configure_cert(stranger)
    stranger.maximum_version = ssl.TLSVersion.TLSv1_2  # there the client notices in the handshake
    async with listening(Bounds(0.02, 8, Tls(*written(tmp_path), authority(tmp_path)))) as place:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await place.connect(tls=stranger)
        await place.until_held(0)
        assert place.seen == {"handshake": 1}


@pytest.mark.parametrize("said", [asked(), b"\x16\x03\x01\x00\x05MARKED", b"\x00" * 500], ids=["HTTP", "odd", "zeros"])
async def test_what_is_no_tls_is_hung_up_on(
    tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Plain HTTP and noise end their connection and nothing else; nobody prints a traceback."""
    async with listening(Bounds(0.02, 64, Tls(*written(tmp_path)))) as place:
        wire = await place.connect()
        wire.send(said)
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await wire.rest()
        await place.until_held(0)
        assert await (await place.connect(tls=calling(None))).ask() == 200
    assert (place.seen["handshake"], caplog.text, capfd.readouterr().err) == (1, "", "")


async def test_a_handshake_must_come_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and is silent holds a place that long, counts meanwhile, and is then ended."""
    monkeypatch.setattr(doorkeeper, "HANDSHAKE_SECONDS", 0.2)
    async with listening(Bounds(0.02, 4, Tls(*written(tmp_path)))) as place:
        silent = await place.connect()
        await place.until_held(1)
        assert await place.refused()
        assert await silent.closed()
        assert place.seen == {"address": 1, "handshake": 1}
        assert await (await place.connect(tls=calling(None))).ask() == 200


async def test_a_stop_ends_handshakes(tmp_path: Path) -> None:
    """Nobody who never finished one holds it up, and no transport is left behind."""
    async with listening(Bounds(0.1, 64, Tls(*written(tmp_path)))) as place:
        await place.connect()
        assert await (await place.connect(tls=calling(None))).ask() == 200
        await place.until_held(2)
        await place.listener.close()
        assert place.held[-1] == 0


async def test_a_renewed_certificate_is_shown_from_now_on(tmp_path: Path) -> None:
    """Open connections go on; the next handshake gets the new one, and its expiry is told."""
    told: list[float] = []
    tls = Tls(*written(tmp_path), expires=told.append)
    async with listening(Bounds(0.02, 64, tls)) as place:
        first = await place.connect(tls=calling(None))
        written(tmp_path)
        tls.renew()
        second = await place.connect(tls=calling(None))
        assert [await wire.ask() for wire in (first, second)] == [200, 200]
        numbers = {wire.writer.get_extra_info("peercert")["serialNumber"] for wire in (first, second)}
    assert len(numbers) == len(told) == 2


async def test_a_broken_renewal_changes_nothing(tmp_path: Path) -> None:
    """Certificate and key that do not belong together: an error, and the old pair is still served."""
    certificate_file, key_file = written(tmp_path)
    tls = Tls(certificate_file, key_file)
    async with listening(Bounds(0.02, 64, tls)) as place:
        AUTHORITY.issue_cert("127.0.0.1").private_key_pem.write_to_path(key_file)
        with pytest.raises(ValueError, match="is not the key of the certificate"):
            tls.renew()
        assert await (await place.connect(tls=calling(None))).ask() == 200


def encrypted(key: Path) -> None:
    loaded = load_pem_private_key(key.read_bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    key.write_bytes(loaded.private_bytes(*form))


def test_what_is_wrong_names_setting_and_file(tmp_path: Path) -> None:
    """Each mistake is a sentence for the operator, and no passphrase is asked for."""
    cases: dict[str, Callable[[Path, Path], object]] = {
        "GATEWAY_TLS_CERTIFICATE: .*server.pem cannot be read": lambda one, _: one.write_text("nothing"),
        "GATEWAY_TLS_CERTIFICATE: .*/server.pem": lambda one, _: one.unlink(),
        "GATEWAY_TLS_KEY: .*server.key cannot be read as a private key": lambda _, key: key.write_text("nothing"),
        "GATEWAY_TLS_KEY: .*server.key": lambda _, key: key.unlink(),
        "GATEWAY_TLS_KEY: .*server.key is encrypted": lambda _, key: encrypted(key),
        "GATEWAY_TLS_KEY: .*is not the key of": lambda _, key: AUTHORITY.issue_cert("x").private_key_pem.write_to_path(
            key
        ),
    }
    for words, spoil in cases.items():
        paths = written(tmp_path)
        spoil(*paths)
        with pytest.raises(ValueError, match=words):
            Tls(*paths)
    with pytest.raises(ValueError, match=r"GATEWAY_TLS_CLIENT_CA: .*ca.pem cannot be read"):
        Tls(*written(tmp_path), tmp_path / "ca.pem")


@pytest.mark.parametrize("mode", [0o644, 0o660])
async def test_an_open_key_is_no_secret(tmp_path: Path, mode: int) -> None:
    """The rule and the words of the keys folder, at the start and at a renewal; what was read before stays in use."""
    paths = written(tmp_path)
    tls = Tls(*paths)
    paths[1].chmod(mode)
    for read in (lambda: Tls(*paths), tls.renew):
        with pytest.raises(ValueError, match=r"GATEWAY_TLS_KEY: .*/server.key may be read by .*chmod 600 \(or 640\)"):
            read()
    paths[1].chmod(0o640)
    tls.renew()


def test_an_expired_certificate_is_not_served(tmp_path: Path) -> None:
    """Nobody could call, so the start says so."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    paths = written(tmp_path, AUTHORITY.issue_cert("127.0.0.1", not_after=long_ago))
    with pytest.raises(ValueError, match="expired on 2020-01-01"):
        Tls(*paths)
