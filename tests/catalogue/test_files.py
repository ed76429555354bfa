"""What is read of the folders, within which bounds, and how it is kept for others."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.catalogue.files import MAX_FILES, NOTHING, Files, Unread, alone, look, read
from gateway.catalogue.lastgood import keep, kept


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("schemas/a", "policies", "keys/secrets"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return tmp_path / "root"


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(root: Path) -> None:
    """What it is, is told when it is open: a thread that waited for a writer would wait for ever."""
    os.mkfifo(root / "manifest")
    found: list[Files] = []
    reading = threading.Thread(target=lambda: found.append(alone(root / "manifest")), daemon=True)
    reading.start()
    reading.join(30)
    (held,) = [each for files in found for each in files.contents.values()]
    assert isinstance(held, Unread)
    assert held.message == "is no regular file"


def test_links_in_a_circle_are_not_followed(root: Path) -> None:
    """A link to a folder around it, directly or by way of another, is a finding, and is gone through no further."""
    (root / "schemas/b").mkdir()
    for number in range(6):
        (root / f"schemas/a/up{number}").symlink_to("..")
        (root / f"schemas/a/other{number}").symlink_to("../b")
        (root / f"schemas/b/back{number}").symlink_to("../a")
    assert len(look(root, root / "keys")) < 300
    held = read(root, root / "keys").contents["schemas/a/up0"]
    assert isinstance(held, Unread)
    assert (held.message, held.folder) == ("is a link to a folder that it lies in", True)


def test_mounted_volumes_are_read_through_their_links(root: Path) -> None:
    """A volume of Kubernetes is links to ..data, and that is one too; who links out of the tree may do so."""
    for name in ("schemas/..2026/tax", "../elsewhere/x.v1"):
        (root / name).mkdir(parents=True)
    (root / "schemas/..2026/tax/service.yaml").write_text("x")
    (root / "../elsewhere/x.v1/request.json").write_text("{}")
    (root / "schemas/..data").symlink_to("..2026")
    (root / "schemas/tax").symlink_to("..data/tax")
    (root / "schemas/far").symlink_to("../../elsewhere")
    found = read(root, root / "keys")
    assert found.contents == {"schemas/tax/service.yaml": b"x", "schemas/far/x.v1/request.json": b"{}"}


def test_there_is_an_end_to_looking(root: Path) -> None:
    """Names are counted, of folders too, and of what is not read: no look and no reading goes past MAX_FILES."""
    for one, other in (("a", "b"), ("b", "c"), ("c", "d")):
        (root / f"schemas/{other}").mkdir()
        for number in range(60):
            (root / f"schemas/{one}/{number}").symlink_to(f"../{other}")
    (root / "schemas/d/ignored.txt").write_text("")
    assert MAX_FILES / 2 < len(look(root, root / "keys")) <= MAX_FILES + 2
    held = read(root, root / "keys").contents["."]
    assert isinstance(held, Unread)
    assert held.message.startswith(f"more than {MAX_FILES} names")


def test_a_secret_is_held_against_what_was_read(root: Path) -> None:
    """Read again when it is needed, it is the one of which the digest was taken, or it is refused."""
    secret = root / "keys/secrets/interior.key"
    secret.write_text("s3cret")
    files = read(root, root / "keys")
    assert files.secret("interior.key") == b"s3cret"
    secret.write_text("an0ther")
    with pytest.raises(ValueError, match="is another one than when its folder was read"):
        files.secret("interior.key")
    secret.unlink()
    for name in ("interior.key", "interior.none"):
        with pytest.raises(ValueError, match="cannot be read"):
            files.secret(name)


SOME = replace(NOTHING, contents={"policies/X.yaml": b"x" * 20_000})


def test_what_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    """Each of several processes keeps the same: one of them writes it."""
    path = tmp_path / "files"
    assert keep(SOME, path)
    before = path.stat().st_ino
    assert not keep(replace(SOME, contents=dict(SOME.contents)), path)
    assert path.stat().st_ino == before
    assert keep(replace(SOME, contents={}), path)
    assert kept(path) == replace(SOME, contents={})


@contextmanager
def short_files(most: int) -> Iterator[None]:
    """As on a full disk: no file of this process grows past this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_part_of_a_file_is_not_left_behind(tmp_path: Path) -> None:
    """Neither where the disk is full nor by one that was killed: what is kept stays, and takes its room once."""
    path = tmp_path / "files"
    keep(NOTHING, path)
    with short_files(4096), pytest.raises(OSError, match="too large"):
        keep(SOME, path)
    names = {"files", "files.lock"}
    assert ({each.name for each in tmp_path.iterdir()}, kept(path)) == (names, NOTHING)
    (tmp_path / "files.part").write_bytes(b"x" * 1000)
    keep(SOME, path)
    assert ({each.name for each in tmp_path.iterdir()}, kept(path)) == (names, SOME)
