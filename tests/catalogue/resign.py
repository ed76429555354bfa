"""Signs agreements of test catalogues anew for both pretend ministries: ``python -m tests.catalogue.resign FILE …``."""

import json
import re
import sys
from datetime import date
from pathlib import Path

from gateway.catalogue.signatures import sign_agreement

SIGNING = Path(__file__).parent / "signing"
SIGNATORIES = (
    ("interior", "Director of Registration", date(2026, 1, 3)),
    ("finance", "Director of Local Tax", date(2026, 1, 5)),
)


def resign(path: Path) -> None:
    """Take the signatures at the end of the file off and put fresh ones there."""
    path.write_text(re.sub(r"(?ms)^signatures:.*\Z", "", path.read_text("utf-8")), "utf-8")
    for agency, by, on in SIGNATORIES:
        key = json.loads((SIGNING / f"{agency}.director.jwk.json").read_text("utf-8"))
        sign_agreement(path, agency, by, on, key=key, instance="TEST")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        resign(Path(name))
