"""Signatures of agreements: what they cover, and what makes them worthless."""

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gateway.catalogue.files import read
from gateway.catalogue.reading import Reading
from gateway.catalogue.signatures import (
    BadSignature,
    CannotSign,
    Claim,
    canonical,
    sign,
    sign_agreement,
    verify,
)
from tests.catalogue.conftest import Load
from tests.catalogue.resign import SIGNATORIES, SIGNING

AGREEMENT = "policies/MOI-FIN-2026-014.yaml"
CLAIM = Claim("TEST", "Director", date(2026, 1, 3))
TEXT = canonical({"agreement": "A", "valid": {"until": "2027-12-31"}})


def _private(agency: str) -> dict[str, object]:
    key: dict[str, object] = json.loads((SIGNING / f"{agency}.director.jwk.json").read_text("utf-8"))
    return key


def _public(agency: str) -> tuple[Mapping[str, object], ...]:
    return ({name: value for name, value in _private(agency).items() if name not in ("d", "instance", "comment")},)


@pytest.mark.parametrize("agency", ["interior", "finance"])
def test_a_signature_verifies_over_its_text(agency: str) -> None:
    """ES256 and EdDSA signatures prove the text that they were made over."""
    verify(sign(TEXT, _private(agency), CLAIM), TEXT, _public(agency), CLAIM)


def test_a_tampered_text_does_not_verify() -> None:
    """One changed character makes the signature worthless."""
    jws = sign(TEXT, _private("interior"), CLAIM)
    with pytest.raises(BadSignature, match="not made over this text"):
        verify(jws, TEXT.replace(b"2027", b"2028"), _public("interior"), CLAIM)


@pytest.mark.parametrize("said", [("LIVE", "Director", 3), ("TEST", "Clerk", 3), ("TEST", "Director", 4)])
def test_a_signature_speaks_of_one_instance_post_and_day(said: tuple[str, str, int]) -> None:
    """A signature made for another instance, in another name or on another day is refused."""
    jws = sign(TEXT, _private("interior"), Claim(said[0], said[1], date(2026, 1, said[2])))
    with pytest.raises(BadSignature, match="made with another"):
        verify(jws, TEXT, _public("interior"), CLAIM)


def test_a_key_of_somebody_else_does_not_verify() -> None:
    """Only the signatory's own keys count, whatever the head of the signature says."""
    jws = sign(TEXT, _private("finance"), CLAIM)
    with pytest.raises(BadSignature, match="not the signatory's"):
        verify(jws, TEXT, _public("interior"), CLAIM)


@pytest.mark.parametrize("jws", ["..", "e30..AAAA", "e30=..AAAA", "eyJhbGciOiJub25lIn0..", "é..AAAA", "x" * 99])
def test_what_is_no_signature_is_refused(jws: str) -> None:
    """Garbage, an empty head and alg none are bad signatures, not crashes."""
    with pytest.raises(BadSignature):
        verify(jws, TEXT, _public("interior"), CLAIM)


def test_standing_and_signatures_are_not_signed() -> None:
    """One side can suspend an agreement at once, without making its signatures worthless."""
    assert canonical({"agreement": "A", "standing": "suspended", "signatures": []}) == b'{"agreement":"A"}'


def test_signing_keeps_every_other_character(base: Path, loading: Load) -> None:
    """Signing adds entries behind what stands there, comments included, and the result loads."""
    path = base / AGREEMENT
    before = re.sub(r"(?ms)^signatures:.*\Z", "", path.read_text("utf-8"))
    path.write_text(f"{before}signatures:   # below\n- {{agency: x, by: y, on: 2026-01-01, jws: a..b}}  # old\n# end\n")
    for agency, by, on in SIGNATORIES:
        sign_agreement(path, agency, by, on, key=_private(agency), instance="TEST")
    after = path.read_text("utf-8")
    assert after.startswith(before + "signatures:   # below\n- {agency: x,")
    assert after.endswith("# end\n")
    path.write_text(after.replace("- {agency: x, by: y, on: 2026-01-01, jws: a..b}  # old\n", ""))
    assert loading(base).findings == ()


@pytest.mark.parametrize("empty", ["", "signatures: []\n", "signatures: [ ]   # none yet\n"])
def test_a_first_signature_finds_its_place(empty: str, base: Path) -> None:
    """Without a list, or with an empty one, the entry becomes the list's first."""
    path = base / AGREEMENT
    path.write_text(re.sub(r"(?ms)^signatures:.*\Z", empty, path.read_text("utf-8")), "utf-8")
    jws = sign_agreement(path, *SIGNATORIES[0], key=_private("interior"), instance="TEST")
    assert [each["jws"] for each in YAML(typ="safe").load(path)["signatures"]] == [jws]


def test_nobody_signs_with_the_wrong_key_or_for_a_stranger(base: Path) -> None:
    """Another instance's key, a public key, a stranger and a second signature are refused; the file stays."""
    path, (agency, by, on), key = base / AGREEMENT, SIGNATORIES[0], _private("interior")
    before = path.read_bytes()
    public = {**_public("interior")[0], "instance": "TEST"}
    for who, with_key, words in (
        (agency, {**key, "instance": "LIVE"}, "not made for the instance"),
        ("justice", key, "is no party"),
        (agency, key, "has a signature for interior"),
    ):
        with pytest.raises(CannotSign, match=words):
            sign_agreement(path, who, by, on, key=with_key, instance="TEST")
    with pytest.raises(CannotSign, match="no private key"):
        sign_agreement(path, agency, "Deputy", on, key=public, instance="TEST")
    assert path.read_bytes() == before


def test_dates_are_signed_as_they_are_written(base: Path) -> None:
    """YAML's own dates would have no canonical JSON; they stay the text that people see."""
    source = Reading(read(base, base / "keys")).yaml(base / AGREEMENT)
    assert source is not None
    assert b'"valid":{"from":"2026-01-01","until":"2027-12-31"}' in canonical(source.value)
