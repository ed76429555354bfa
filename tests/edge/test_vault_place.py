"""Where a gateway keeps files, by its settings: beside its SQLite file, where it is told, or nowhere yet."""

from pathlib import Path

import orjson
import pytest

from gateway.edge.documents.vault import Place, Vault
from gateway.footing import NotStarted, vault_of
from gateway.settings import Settings
from tests.fakes import catalogues, depot, idp

POSTGRES = "postgresql+asyncpg://gateway@db.example/gateway"
NOTHING = catalogues.of()
TAKING = catalogues.of(services=[depot.service()])


def settings(folder: Path, **more: str) -> Settings:
    return Settings.model_validate({"keys": folder / "keys", "database": f"sqlite:///{folder}/g.sqlite3", **more})


def place(vault: Vault | None) -> Place:
    assert vault is not None
    return vault._place


def test_files_lie_beside_the_sqlite_file(tmp_path: Path) -> None:
    """Unless the setting names another place; the folder is made when it is needed."""
    assert place(vault_of(settings(tmp_path), TAKING)).folder == tmp_path / "attachments"
    assert place(vault_of(settings(tmp_path, attachments="/srv/files"), NOTHING)).folder == Path("/srv/files")
    assert list(tmp_path.iterdir()) == []


def test_on_postgresql_the_place_is_named_where_a_service_takes_files(tmp_path: Path) -> None:
    """Nodes that each had a folder of their own would not find each other's files."""
    assert vault_of(settings(tmp_path, database=POSTGRES), NOTHING) is None
    with pytest.raises(NotStarted, match=r"GATEWAY_ATTACHMENTS is not set, and permits\.application\.v1"):
        vault_of(settings(tmp_path, database=POSTGRES), TAKING)


def test_the_buckets_key_is_a_secret_file(tmp_path: Path) -> None:
    """Of this instance, whole, and readable by nobody else."""
    idp.keyring(tmp_path / "keys", "KH")
    chosen = settings(tmp_path, instance="KH", attachments="s3://files?region=th")
    assert place(vault_of(chosen, TAKING)).options == {"region": "th"}
    file = tmp_path / "keys/gateway/attachments.key.json"
    file.write_bytes(orjson.dumps({"instance": "KH", "access_key_id": "AK", "secret_access_key": "s"}))
    file.chmod(0o600)
    options = place(vault_of(chosen, TAKING)).options
    assert options == {"region": "th", "access_key_id": "AK", "secret_access_key": "s"}
    for changed, mode in (({"instance": "TH"}, 0o600), ({"instance": "KH", "access_key_id": "AK"}, 0o600), ({}, 0o644)):
        file.write_bytes(orjson.dumps(changed))
        file.chmod(mode)
        with pytest.raises(NotStarted, match=r"GATEWAY_ATTACHMENTS: .*attachments\.key\.json"):
            vault_of(chosen, TAKING)


def test_an_address_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """Also one with credentials, which would stand in the environment."""
    with pytest.raises(NotStarted, match="without credentials"):
        vault_of(settings(tmp_path, attachments="s3://AK:secret@files"), NOTHING)
