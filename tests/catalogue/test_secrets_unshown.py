"""A secret that somebody wrote where its name belongs is not repeated by what complains of it."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.catalogue.files import read
from gateway.catalogue.snapshot import Loader

AGENCY = """agency: treasury
title: {{en: Treasury}}
class: gov
country: KH
contacts: {{technical: a@b.example, security: a@b.example, data_protection: a@b.example}}
deliveries:
  - {{services: ["*"], protocol: webhook, url: "https://treasury.example/hook", secret: "{secret}"}}
"""


@pytest.mark.parametrize("secret", ["s3cr3t!", "hunter2", "Hunter.2"])
def test_a_secret_in_the_place_of_its_name_is_not_shown(tmp_path: Path, secret: str) -> None:
    """Neither where it cannot be a name, nor where it could be one of somebody else."""
    folder = tmp_path / "adapters" / "treasury"
    folder.mkdir(parents=True)
    (folder / "agency.yaml").write_text(AGENCY.format(secret=secret), encoding="utf-8")
    loaded = Loader("KH", ZoneInfo("UTC"), {}).load(read(tmp_path, tmp_path / "keys"), datetime.now(UTC))
    said = "\n".join(f"{each.message} {each.remedy}" for each in loaded.findings)
    assert "secret" in said
    assert secret not in said
