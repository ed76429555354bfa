"""``gateway explain`` of documents, events and mandates, and ``gateway mandate sign``, as somebody types them."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app

CATALOGUE = Path(__file__).parents[1] / "catalogue"
LETTER = ("--service", "letters.notice.v1", "--purpose", "tax_assessment")
ALERT = ("--service", "disaster.alert.v1", "--purpose", "civil_protection", "--provider", "interior")

Type = Callable[..., tuple[int, str]]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A copy of the sound catalogue with documents, and the key of a signatory."""
    for layer in ("base", "post"):
        shutil.copytree(CATALOGUE / layer, tmp_path, dirs_exist_ok=True)
    shutil.copy(CATALOGUE / "signing" / "finance.director.jwk.json", tmp_path)
    return tmp_path


@pytest.fixture
def type_in(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command there; gives its exit code and what it printed."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> tuple[int, str]:
        settings = {"GATEWAY_INSTANCE": "TEST", "GATEWAY_KEYS": str(catalogue / "keys")}
        typed = [*map(str, arguments), "--root", str(catalogue)]
        result = CliRunner().invoke(app, typed, env=settings, catch_exceptions=False)
        return result.exit_code, result.output

    return run


def explain(type_in: Type, *more: str) -> tuple[int, str]:
    return type_in("explain", "--at", "2026-06-15", *more)


def test_a_document_that_may_be_sent(type_in: Type) -> None:
    """How it goes is said, and that nothing of it is cut."""
    code, text = explain(type_in, "--client", "finance.local_tax", "--provider", "sila", *LETTER)
    assert (code, text.splitlines()[0]) == (0, "PERMITTED: FIN-TOWNS-2026-001 permits it.")
    assert "\n  goes by webhook; the whole document\n" in text


def test_a_document_that_a_second_person_must_approve(type_in: Type) -> None:
    """Whoever sends it knows who else decides."""
    service = ("--service", "population.correction.v1", "--purpose", "address_change")
    code, text = explain(type_in, "--client", "finance.local_tax", "--provider", "interior", *service)
    assert (code, "\n  held until a registrar of interior approves\n" in text) == (0, True)
    refused = explain(
        type_in, "--client", "finance.local_tax", "--provider", "interior", *service, "--without", "person"
    )
    assert refused[0] == 2
    assert "asks for Exchange-User-Assertion with each call." in refused[1]


@pytest.mark.parametrize(
    ("on_behalf", "at", "first"),
    [
        ("finance", "2026-06-15", "PERMITTED: FIN-TOWNS-2026-001 permits it."),
        ("finance", "2027-01-01", "REFUSED identity.not_mandated: platform holds no mandate to act for finance"),
        ("interior", "2026-06-15", "REFUSED identity.not_mandated: platform holds no mandate to act for interior"),
        (None, "2026-06-15", "REFUSED policy.no_agreement: No agreement lets platform.desk use letters.notice.v1"),
    ],
)
def test_a_call_for_another_agency(type_in: Type, on_behalf: str | None, at: str, first: str) -> None:
    """``--for`` is Exchange-For."""
    acting = ("--for", on_behalf) if on_behalf else ()
    text = explain(type_in, "--client", "platform.desk", "--provider", "sila", *LETTER, *acting, "--at", at)[1]
    assert text.startswith(first)


def test_an_unknown_agency_to_act_for(type_in: Type) -> None:
    """A misspelt name is no refusal."""
    code, text = explain(type_in, "--client", "platform.desk", "--provider", "sila", *LETTER, "--for", "finanse")
    assert (code, text) == (1, 'unknown agency "finanse". Did you mean "finance"?\n')


def test_who_may_send_names_who_acts(type_in: Type) -> None:
    """Turned round: the system itself, and the platform for its agency."""
    code, text = explain(type_in, "--provider", "sila", "--service", "letters.notice.v1", "--who")
    assert code == 0
    assert re.findall(r"^(\S+(?: for \S+)?)  by", text, re.MULTILINE) == [
        "finance.local_tax",
        "platform.desk for finance",
    ]
    assert "sees the whole document" in text


@pytest.mark.parametrize(
    ("client", "code", "first"),
    [
        ("finance.archive", 0, "PERMITTED: MOI-ALERTS-2026-001 permits it."),
        ("finance.local_tax", 2, "REFUSED policy.no_agreement: "),
        ("interior.civil_registry", 0, "PERMITTED: interior.civil_registry may publish disaster.alert.v1."),
    ],
)
def test_an_event(type_in: Type, client: str, code: int, first: str) -> None:
    """Others are told under an agreement; its own agency publishes as the folder says."""
    found, text = explain(type_in, "--client", client, *ALERT)
    assert (found, text[: len(first)]) == (code, first)


def test_who_is_told_of_an_event(type_in: Type) -> None:
    """And who publishes it."""
    text = explain(type_in, "--provider", "interior", "--service", "disaster.alert.v1", "--who")[1]
    assert text.splitlines()[0] == "published by interior.civil_registry"
    assert "finance.archive  by MOI-ALERTS-2026-001" in text
    assert "sees /level" in text


@pytest.mark.parametrize(
    ("provider", "service", "sentence"),
    [
        ("finance", "letters.notice.v1", "finance takes no documents letters.notice.v1."),
        ("finance", "disaster.alert.v1", "finance publishes no events disaster.alert.v1."),
    ],
)
def test_what_an_agency_does_not_take(type_in: Type, provider: str, service: str, sentence: str) -> None:
    """As the gateway would say it."""
    code, text = explain(type_in, "--provider", provider, "--service", service, "--who")
    assert (code, text.splitlines()[0]) == (2, f"REFUSED catalogue.unknown: {sentence}")


def mandate(type_in: Type, catalogue: Path, **changes: object) -> tuple[int, str]:
    options = {
        "to": "platform",
        "by": "Director of Local Tax",
        "key": catalogue / "finance.director.jwk.json",
        "on": "2026-01-05",
    }
    given = [each for name, value in {**options, **changes}.items() for each in (f"--{name}", value)]
    return type_in("mandate", "sign", catalogue / "adapters" / "finance" / "agency.yaml", *given)


@pytest.fixture
def unsigned(catalogue: Path) -> Path:
    """The catalogue with the mandate as it was written first."""
    path = catalogue / "adapters" / "finance" / "agency.yaml"
    path.write_text(re.sub(r"    signature: .*\n", "", path.read_text("utf-8")), "utf-8")
    return catalogue


def test_an_unsigned_mandate_is_signed_by_the_command_that_check_names(type_in: Type, unsigned: Path) -> None:
    """The remedy of ``gateway check`` leads to a catalogue without errors."""
    code, text = type_in("check")
    assert code == 1
    assert "gateway mandate sign adapters/finance/agency.yaml --to platform" in text
    assert mandate(type_in, unsigned) == (
        0,
        "the mandate of finance to platform is signed by Director of Local Tax\n",
    )
    assert type_in("check")[0] == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"to": "platfrom"}, "has no mandate to platfrom"),
        ({"by": "Director of Everything"}, 'finance has no signatory "Director of Everything"'),
        ({"key": "nowhere.jwk.json"}, "there is no such file"),
        ({"on": "2199-01-01"}, "lies in the future"),
    ],
)
def test_what_cannot_be_signed_is_a_sentence(
    type_in: Type, unsigned: Path, changes: dict[str, object], sentence: str
) -> None:
    """And exit code 1; the file stays as it is."""
    path = unsigned / "adapters" / "finance" / "agency.yaml"
    before = path.read_text("utf-8")
    code, text = mandate(type_in, unsigned, **changes)
    assert (code, sentence in text, path.read_text("utf-8")) == (1, True, before)


def test_the_key_of_another_signatory_signs_nothing(type_in: Type, unsigned: Path) -> None:
    """Only a key whose public half the folder names."""
    other = CATALOGUE / "signing" / "interior.director.jwk.json"
    code, text = mandate(type_in, unsigned, key=other)
    assert (code, "the key is none of Director of Local Tax" in text) == (1, True)
