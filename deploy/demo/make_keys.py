"""Makes the demonstration's keys and signs its agreements and mandates: ``python -m deploy.demo.make_keys [--anew]``.

Every system, signatory and issuer that an adapter's manifest names gets a key pair; the private half lies here too,
because the ministries are pretend. Keys that exist stay; ``--anew`` makes all of them again. Then each signature under
``policies/`` and in the manifests that no longer belongs to its text is made again.
"""

import base64
import json
import shutil
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm

from gateway.catalogue import signatures
from gateway.catalogue.files import alone
from gateway.catalogue.reading import Reading, render
from gateway.core.jwk import public_part, thumbprint
from gateway.edge import keys

INSTANCE = keys.DEMO
COMMENT = "For demonstration only; every other instance refuses it."
ROOT = Path(__file__).resolve().parents[2]
KEYS = Path(__file__).with_name("keys")
SECRETS = {
    "interior.register": "demonstration-only-register-key",
    # whsec_ and 24 bytes or more in base64, as Standard Webhooks has them: the text says what they are
    **{
        f"{agency}.webhook": "whsec_" + base64.b64encode(f"demonstration only: {agency}".encode()).decode()
        for agency in ("digital_local", "nikhom_phatthana", "sila")
    },
}
ED25519 = frozenset({"saensuk.mayor"})
"""Whoever signs with EdDSA; all the others have ES256."""

Manifest = dict[str, Any]
Titles = dict[tuple[str, str], str]
"""The key file of each signatory, by agency and title."""


def main(arguments: list[str]) -> None:
    if "--anew" in arguments and KEYS.exists():
        shutil.rmtree(KEYS)
    for folder in ("agencies", "gateway", "private", "secrets"):
        (KEYS / folder).mkdir(parents=True, exist_ok=True)
    _gateway_keys()
    titles: Titles = {}
    issuers: dict[str, str] = {}
    manifests = sorted(ROOT.glob("adapters/*/agency.yaml"))
    for agency in map(_read, manifests):
        for entry in (*agency.get("systems", {}).values(), *agency.get("signatories", {}).values()):
            _pair(entry["keys"])
        for issuer in agency.get("issuers", ()):
            _pair(issuer["keys"], issuers.setdefault(issuer["issuer"], issuer["keys"]))
        for signatory in agency.get("signatories", {}).values():
            titles[agency["agency"], signatory["title"]] = signatory["keys"]
    for path in sorted(ROOT.glob("policies/*.yaml")):
        if not path.name.endswith(".decisions.yaml"):
            _sign(path, titles)
    for path in manifests:
        _sign_mandates(path, titles)


def _gateway_keys() -> None:
    _once(KEYS / "gateway" / "signing.jwk.json", keys.new_signing_key(INSTANCE))
    _once(KEYS / "gateway" / "master.key.json", keys.new_master_key(INSTANCE))
    _once(KEYS / "gateway" / "webhook.jwk.json", keys.new_webhook_key(INSTANCE))
    for name, text in SECRETS.items():
        (KEYS / "secrets" / name).write_text(text, encoding="utf-8")


def _pair(name: str, same: str | None = None) -> None:
    """The private half in ``private/``, the public one in ``agencies/``.

    An issuer that several agencies name has one pair, ``same``, and a file of each agency's own.
    """
    path = KEYS / "private" / f"{name}.jwk.json"
    if same is not None and same != name:
        _once(path, _read(KEYS / "private" / f"{same}.jwk.json"))
    _once(path, _ed25519() if name in ED25519 else keys.new_signing_key(INSTANCE))
    private = _read(path)
    public = {**public_part(private), "kid": private["kid"], "alg": private["alg"], "use": "sig"}
    _once(KEYS / "agencies" / f"{name}.jwks.json", {"instance": INSTANCE, "keys": [public]})


def _ed25519() -> dict[str, str]:
    made = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    return {"instance": INSTANCE, **made, "kid": thumbprint(made), "alg": "EdDSA"}


def _once(path: Path, document: Mapping[str, object]) -> None:
    if not path.exists():
        told = {"instance": INSTANCE, "comment": COMMENT, **document}
        path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _sign(path: Path, titles: Titles) -> None:
    """Make the signatures of an agreement again that do not verify; the lines above them stay as they are."""
    agreement = _read(path)
    given = agreement.get("signatures", [])
    if not given:
        return
    canonical = signatures.canonical(agreement)
    lines = []
    for each in given:
        claim = signatures.Claim(INSTANCE, each["by"], date.fromisoformat(each["on"]))
        jws = _jws(canonical, each["jws"], titles[each["agency"], each["by"]], claim)
        lines += [f"  - agency: {each['agency']}", f"    by: {each['by']}", f"    on: {each['on']}", f"    jws: {jws}"]
    text = path.read_text(encoding="utf-8").partition("\nsignatures:")[0]
    path.write_text("\n".join([text, "signatures:", *lines]) + "\n", encoding="utf-8")


def _sign_mandates(path: Path, titles: Titles) -> None:
    """The same of the mandates in a manifest; every other character of it stays."""
    agency = _read(path)
    text = path.read_text(encoding="utf-8")
    for mandate in agency.get("mandates", ()):
        given = mandate["signature"]
        claim = signatures.Claim(INSTANCE, given["by"], date.fromisoformat(given["on"]))
        canonical = signatures.canonical_mandate(agency["agency"], mandate)
        jws = _jws(canonical, given["jws"], titles[agency["agency"], given["by"]], claim)
        text = text.replace(given["jws"], jws)
    path.write_text(text, encoding="utf-8")


def _jws(canonical: bytes, there: str, name: str, claim: signatures.Claim) -> str:
    """The signature that stands there if it is right, otherwise a new one."""
    public = tuple(_read(KEYS / "agencies" / f"{name}.jwks.json")["keys"])
    try:
        signatures.verify(there, canonical, public, claim)
    except signatures.BadSignature:
        return signatures.sign(canonical, _read(KEYS / "private" / f"{name}.jwk.json"), claim)
    return there


def _read(path: Path) -> Manifest:
    """As the catalogue reads it: dates stay text."""
    reading = Reading(alone(path))
    source = reading.json(path) if path.suffix == ".json" else reading.yaml(path)
    if source is None:
        raise SystemExit(render(reading.findings))
    found: Manifest = source.value
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
