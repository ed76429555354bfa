"""The pretend population register makes a correction once, and only of what really stands in the record."""

from typing import Any

import pytest

from deploy.demo.papers import CORRECTED, NARY, correction
from deploy.demo.register import Register


def _held(register: Register) -> Any:
    return register.look_up(NARY.identifier).body


def test_a_correction_is_made_once() -> None:
    """The same key has one effect and one answer; the version counts on."""
    register = Register()
    first, again = (register.correct('"d-1"', correction()) for _ in range(2))
    assert (first.status, first.body) == (200, {"correction_number": "C-2026-0001"})
    assert again == first
    assert (_held(register)["birth_date"], _held(register)["record"]["version"]) == (CORRECTED, NARY.version + 1)
    assert register.corrections == 1


@pytest.mark.parametrize(
    "asked",
    [correction(version=NARY.version + 1), correction(old="1982-05-21"), correction(old="")],
    ids=["newer_version", "wrong_old_value", "no_old_value"],
)
def test_a_stale_correction_changes_nothing(asked: dict[str, Any]) -> None:
    """409, which the gateway tells the sender as stale_record."""
    register = Register()
    before = _held(register)
    assert register.correct('"d-1"', asked).status == 409
    assert (_held(register), register.corrections) == (before, 0)


def test_all_changes_are_made_or_none() -> None:
    """A correction of two members, one of whose old values is wrong, changes neither."""
    register = Register()
    asked = correction()
    asked["changes"].append({"path": "/marital_status", "oldValue": "single", "newValue": "married"})
    assert register.correct('"d-1"', asked).status == 409
    assert _held(register)["birth_date"] == NARY.born


def test_members_deep_down_are_set_and_taken_away() -> None:
    """A path may lead into an object; null takes a member away, and stands for one that is not there."""
    register = Register()
    asked = correction()
    asked["changes"] = [
        {"path": "/name/latin/given", "oldValue": "Nary", "newValue": "Narie"},
        {"path": "/address", "oldValue": _held(register)["address"], "newValue": None},
        {"path": "/death_date", "oldValue": None, "newValue": "2026-11-01"},
    ]
    assert register.correct('"d-1"', asked).status == 200
    held = _held(register)
    assert (held["name"]["latin"]["given"], held["death_date"], "address" in held) == ("Narie", "2026-11-01", False)


def test_nobody_is_no_matter_of_the_address() -> None:
    """An unknown person is 422 and not 404: it says something of this correction, not of the way to the register."""
    asked = correction()
    asked["recordId"]["value"] = "000000000"
    assert Register().correct(None, asked).status == 422
