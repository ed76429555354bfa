"""What keeps a gateway from starting: settings in words of their own, then everything else in one run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import settings
from gateway.edge.store import SqliteDriver

ROOT = Path(__file__).parents[2]


def words(**given: str) -> str:
    with pytest.raises(settings.BadSettings) as caught:
        settings.read({f"GATEWAY_{name.upper()}": value for name, value in given.items()})
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("instance", "kh", 'must be capitals, digits and - such as KH, 2 to 32 of them, a capital first, not "kh"'),
        ("listen", "8080", 'must be host:port such as 127.0.0.1:8090, not "8080"'),
        ("operations_listen", "localhost:99999", 'must be host:port such as 127.0.0.1:8090, not "localhost:99999"'),
        ("max_in_progress", "many", 'must be a whole number from 1 to 100000, not "many"'),
        ("max_in_progress", "0", 'must be a whole number from 1 to 100000, not "0"'),
        ("shutdown_seconds", "301", 'must be a number of seconds from 0.01 to 300, not "301"'),
        ("shutdown_seconds", "nan", 'must be a number of seconds from 0.01 to 300, not "nan"'),
        ("run_adapters", "ja", 'must be true or false, not "ja"'),
        ("log_level", "info", 'must be DEBUG, INFO, WARNING or ERROR, not "info"'),
        ("time_zone", "Bangkok", 'must be an IANA time zone such as Asia/Bangkok, not "Bangkok"'),
        ("issuer", "gateway.example", 'must be an address such as https://gateway.example, not "gateway.example"'),
        ("issuer", "https://me:secret@gateway.example", "must be an address such as https://gateway.example"),
        ("issuer", "https://gateway.example:https", "must be an address such as https://gateway.example"),
        ("database", "/var/lib/gateway.sqlite3", "must begin with sqlite:///, followed by a file's path such as"),
        ("keys", "", "must be a path; it is empty"),
    ],
)
def test_a_setting_says_what_it_must_be(name: str, value: str, wanted: str) -> None:
    """In words of the gateway's own, with an example, and never with a password that stands in an address."""
    said = words(**{name: value})
    assert said.startswith(f"GATEWAY_{name.upper()} {wanted}")
    assert "secret" not in said


def test_bounds_in_words_are_those_that_hold() -> None:
    """The sentences name what the fields accept."""
    for name, low, high in (("max_in_progress", 1, 100_000), ("shutdown_seconds", 0.01, 300)):
        for accepted in (low, high):
            assert getattr(settings.read({f"GATEWAY_{name.upper()}": str(accepted)}), name) == accepted
        for refused in (low - 1, high + 1):
            assert f"from {low} to {high}" in words(**{name: str(refused)})


def test_a_misspelt_setting_is_guessed_at() -> None:
    """What was probably meant comes first, then the list; what is like nothing gets the list alone."""
    said = "is no setting of the gateway. Did you mean GATEWAY_TIME_ZONE? The settings are GATEWAY_INSTANCE, "
    assert words(timezone="Asia/Bangkok").startswith(f"GATEWAY_TIMEZONE {said}")
    assert words(zzz="x").startswith("GATEWAY_ZZZ is no setting of the gateway. The settings are GATEWAY_INSTANCE, ")


def test_all_wrong_settings_are_told_at_once() -> None:
    """One line for each."""
    assert len(words(listen="x", log_level="x", nonsense="x").splitlines()) == 3


def start(folder: Path, **given: str) -> tuple[int, str]:
    """The exit code and the words of a start that must not succeed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment = {**plain, **{f"GATEWAY_{name.upper()}": value for name, value in given.items()}}
    program = (sys.executable, "-m", "gateway", "serve")
    done = subprocess.run(  # noqa: S603 - our own program
        program, cwd=ROOT, env={**environment, "PYTHONUTF8": "1"}, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert list(folder.glob("fresh*")) == []
    return done.returncode, done.stderr


def test_a_start_tells_of_catalogue_keys_certificates_and_database_at_once(tmp_path: Path) -> None:
    """Whoever corrects all that is named need not come back for the next mistake."""
    (tmp_path / "keys").mkdir()
    code, said = start(
        tmp_path,
        keys=str(tmp_path / "keys"),
        ca_file=str(tmp_path / "ca.pem"),
        database=f"sqlite:///{tmp_path / 'nowhere' / 'gateway.sqlite3'}",
    )
    assert code == 1
    assert f"{tmp_path / 'keys/gateway/signing.jwk.json'} cannot be read" in said
    assert f"GATEWAY_CA_FILE {tmp_path / 'ca.pem'} cannot be read" in said
    assert f"GATEWAY_DATABASE: there is no folder {tmp_path / 'nowhere'}. Make it" in said
    assert "The catalogue has errors:" in said
    assert "the keys folder has no agencies/" in said
    assert "Set INTERIOR_URL where the gateway is started." in said


async def test_a_database_of_another_instance_is_told_beside_the_catalogue(tmp_path: Path) -> None:
    """A database that exists is looked into, also where the start fails for another reason."""
    await SqliteDriver(tmp_path / "old.sqlite3", "KH").close()
    code, said = start(tmp_path, database=f"sqlite:///{tmp_path / 'old.sqlite3'}")
    assert code == 1
    assert "old.sqlite3 belongs to the instance KH, not to DEMO" in said
    assert "The catalogue has errors:" in said


def test_a_start_that_fails_makes_no_database(tmp_path: Path) -> None:
    """The file comes with the first start that succeeds; one that exists is given back as it was."""
    code, said = start(tmp_path, database=f"sqlite:///{tmp_path / 'fresh.sqlite3'}")
    assert code == 1
    assert said.startswith("The catalogue has errors:")
