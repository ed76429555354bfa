"""The commands as somebody types them who does not know them yet: every mistake ends in a sentence and an exit code."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.edge import keys

ROOT = Path(__file__).parents[2]
PRIVATE = ROOT / "deploy" / "demo" / "keys" / "private"
AGREEMENT = "policies/FIN-SAENSUK-2026-003.yaml"


@dataclass(frozen=True, slots=True)
class Typed:
    """What came of a command."""

    code: int
    text: str


Type = Callable[..., Typed]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command, with no setting but those that are given."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object, **settings: str) -> Typed:
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=settings, catch_exceptions=False)
        return Typed(result.exit_code, result.output)

    return run


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A copy of the catalogue with the demonstration's keys, and without what is derived."""
    for name in ("schemas", "adapters", "policies", "deploy/demo/keys"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "kafka.yaml", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("secrets/sila.webhook", None, "the secret sila.webhook is missing from the keys folder"),
        ("secrets/sila.webhook", "hello", "the secret sila.webhook of the way webhook must be whsec_"),
        ("secrets/interior.register", None, "the secret interior.register is missing from the keys folder"),
        ("gateway/webhook.jwk.json", None, "the way webhook signs with gateway/webhook.jwk.json, which is missing"),
    ],
)
def test_check_looks_for_secrets_where_the_keys_are(
    catalogue: Path, type_in: Type, path: str, content: str | None, says: str
) -> None:
    """What `gateway serve` would not start without is an error; the line is that of the folder that names it."""
    file = catalogue / "deploy/demo/keys" / path
    file.unlink() if content is None else file.write_text(content, "ascii")
    typed = type_in("check", "--root", catalogue)
    assert (typed.code, says in typed.text) == (1, True), typed.text
    shutil.rmtree(catalogue / "deploy/demo/keys/gateway")
    assert type_in("check", "--root", catalogue).code == 0


CALL = {
    "--client": "finance.local_tax",
    "--provider": "interior",
    "--service": "population.person_lookup.v1",
    "--purpose": "tax_assessment",
}


def explained(type_in: Type, root: Path = ROOT, /, *more: str, **changes: str) -> Typed:
    call = CALL | {f"--{name}": value for name, value in changes.items()}
    return type_in("explain", *(each for pair in call.items() for each in pair), "--root", root, *more)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"client": "finance.local_taxes"}, 'unknown system "finance.local_taxes". Did you mean "finance.local_tax"?'),
        ({"provider": "imigration"}, 'unknown agency "imigration".'),
        ({"service": "population.person_lokup.v1"}, 'Did you mean "population.person_lookup.v1"?'),
        ({"purpose": "tax_asessment"}, 'unknown purpose "tax_asessment". Did you mean "tax_assessment"?'),
    ],
)
def test_explain_knows_no_unknown_names(type_in: Type, changes: dict[str, str], sentence: str) -> None:
    """A name that the catalogue does not have is no refusal, but a mistake with a guess at what was meant."""
    typed = explained(type_in, **changes)
    assert typed.code == 1
    assert sentence in typed.text


def test_explain_names_every_unknown_name_at_once(type_in: Type) -> None:
    """Three misspelt names are three lines."""
    typed = explained(type_in, client="a.b", provider="c", purpose="d")
    assert [line.split('"')[1] for line in typed.text.splitlines()] == ["c", "a.b", "d"]


def test_explain_refuses_what_the_gateway_refuses_first(type_in: Type, catalogue: Path) -> None:
    """A revoked system gets no further than its token, whatever its agreements say."""
    edit(
        catalogue / "adapters/finance/agency.yaml",
        "keys: finance.local_tax}",
        "keys: finance.local_tax, standing: revoked}",
    )
    typed = explained(type_in, catalogue)
    assert typed.code == 2
    assert typed.text.startswith("REFUSED identity.revoked: The system finance.local_tax was revoked.")


def test_explain_hides_restricted_services_as_the_gateway_does(type_in: Type) -> None:
    """Without an agreement the answer is catalogue.unknown; explain adds why, for whoever has the catalogue."""
    typed = explained(type_in, service="population.protected_record_lookup.v1")
    assert typed.code == 2
    assert typed.text.startswith("REFUSED catalogue.unknown: interior provides no service")
    assert "NO   an agreement names finance.local_tax: the service is restricted" in typed.text


def test_explain_looks_for_the_endpoint_before_the_agreement(type_in: Type) -> None:
    """A service that the agency does not provide is catalogue.unknown, with what it provides; also with --who."""
    for typed in (explained(type_in, provider="saensuk"), explained(type_in, ROOT, "--who", provider="saensuk")):
        assert typed.code == 2
        assert typed.text.startswith("REFUSED catalogue.unknown")
        assert "it provides: places.office_directory.v1" in typed.text


@pytest.mark.parametrize("changes", [{}, {"purpose": "statistics"}, {"provider": "saensuk"}, {"--who": ""}])
def test_explain_says_what_it_does_not_look_at(type_in: Type, changes: dict[str, str]) -> None:
    """A permit, a refusal and a list end with what may refuse such a call all the same."""
    more = [changes.pop("--who")] if "--who" in changes else []
    typed = explained(type_in, ROOT, *(["--who"] if more else []), **changes)
    last = "Not looked at: operators' suspensions (see `gateway suspensions`), rate and quota."
    assert typed.text.splitlines()[-1] == last


def test_explain_gives_no_scope_that_a_token_cannot_have(type_in: Type) -> None:
    """--scope cannot name more than the system's own scopes: its token could not carry it."""
    typed = explained(type_in, client="finance.taxpayer_desk", purpose="address_change", scope="tax:read")
    assert typed.code == 2
    assert "REFUSED policy.scope" in typed.text
    assert "finance.taxpayer_desk can get no token with the scope tax:read" in typed.text


@pytest.mark.parametrize(
    "at", ["tomorrow", "2026-02-30", "2569-01-01", "2026-01-01T10:00", "0001-01-01T00:00:00+14:00"]
)
def test_explain_asks_for_a_day_or_an_instant(type_in: Type, at: str) -> None:
    """What is no day is told with examples."""
    typed = explained(type_in, at=at)
    assert typed.code == 1
    assert typed.text.startswith(f'--at "{at}": ')
    assert "2026-01-31T22:00:00+07:00" in typed.text


@pytest.mark.parametrize("at", ["2030-01-01", "2030-01-01T00:00:00+07:00"])
def test_explain_takes_both(type_in: Type, at: str) -> None:
    """A day, and an instant with its offset."""
    assert explained(type_in, at=at).code == 0


def test_explain_wants_a_call_or_who(type_in: Type) -> None:
    """Without a client there is nothing to decide."""
    typed = type_in("explain", "--provider", "interior", "--service", "population.person_lookup.v1", "--root", ROOT)
    assert (typed.code, typed.text) == (1, "Give --client and --purpose, or --who.\n")


def test_a_catalogue_of_ones_own_needs_nothing_derived(type_in: Type, catalogue: Path) -> None:
    """Outside the program's repository nothing derived is asked for, nor written where there is no docs/."""
    for more in ((), ("--write",)):
        typed = type_in("check", "--root", catalogue, *more)
        assert typed.code == 0
        assert "accepted: 0 errors, 2 warnings" in typed.text
        assert "docs/" not in typed.text
    assert not (catalogue / "docs").exists()


def test_whoever_wants_derived_files_makes_a_folder_for_them(type_in: Type, catalogue: Path) -> None:
    """With a docs/ the schemas for editors are written, and from then on held."""
    (catalogue / "docs").mkdir()
    assert "wrote docs/reference/manifests/agency.schema.json" in type_in("check", "--root", catalogue, "--write").text
    edit(catalogue / "docs/reference/manifests/agency.schema.json", "title", "titel")
    typed = type_in("check", "--root", catalogue)
    assert typed.code == 1
    assert "is derived and differs from its source" in typed.text


def test_a_folder_without_a_catalogue_is_told_once(type_in: Type, tmp_path: Path) -> None:
    """Whoever is in the wrong folder learns that, and nothing else."""
    typed = type_in("check", "--root", tmp_path)
    assert typed.code == 1
    assert typed.text.count("error: ") == 1
    assert f"there is no schemas/, adapters/ or policies/ in {tmp_path.resolve()}" in typed.text


def test_a_missing_keys_folder_is_told_once(type_in: Type, catalogue: Path) -> None:
    """Not once for each key that would lie in it."""
    shutil.rmtree(catalogue / "deploy")
    typed = type_in("check", "--root", catalogue)
    assert typed.text.count("error: ") == 1
    assert "deploy/demo/keys:1: error: the keys folder does not exist\n    Set GATEWAY_KEYS" in typed.text


def sign(type_in: Type, root: Path, **changes: object) -> Typed:
    options = {
        "agency": "saensuk",
        "by": "Mayor of Saensuk",
        "key": PRIVATE / "saensuk.mayor.jwk.json",
        "on": "2026-02-01",
        "root": root,
        **changes,
    }
    path = options.pop("path", root / AGREEMENT)
    return type_in("agreement", "sign", path, *(each for name, it in options.items() for each in (f"--{name}", it)))


@pytest.fixture
def unsigned(catalogue: Path) -> Path:
    """The catalogue, with an agreement whose signatures were removed line by line, as gateway check says."""
    path = catalogue / AGREEMENT
    path.write_text(path.read_text("utf-8").partition("signatures:")[0] + "signatures:\n", "utf-8")
    return catalogue


def test_a_signature_is_added_where_the_old_ones_were(type_in: Type, unsigned: Path) -> None:
    """An empty list, as it stays behind when its lines were removed, is filled again; then the check accepts it."""
    assert sign(type_in, unsigned).text == "FIN-SAENSUK-2026-003.yaml is signed by Mayor of Saensuk of saensuk\n"
    other = {"agency": "finance", "by": "Director of Local Tax", "key": PRIVATE / "finance.director_local_tax.jwk.json"}
    assert sign(type_in, unsigned, **other).code == 0
    assert "accepted: 0 errors" in type_in("check", "--root", unsigned).text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"by": "Mayor of Saensook"}, 'saensuk has no signatory "Mayor of Saensook". Did you mean "Mayor of Saensuk"?'),
        ({"by": "Clerk"}, "its signatories are: Mayor of Saensuk"),
        ({"key": PRIVATE / "lampang.mayor.jwk.json"}, "agencies/saensuk.mayor.jwks.json"),
        ({"agency": "health"}, "health is no party of FIN-SAENSUK-2026-003.yaml; its parties are: finance, saensuk"),
        ({"on": str((datetime.now(UTC) + timedelta(days=3)).date())}, "lies in the future"),
        ({"key": "nowhere.jwk.json"}, "--key nowhere.jwk.json: there is no such file."),
        ({"key": ROOT / "LICENSE"}, "is no JSON"),
        ({"key": ROOT / "deploy/demo/keys/agencies/saensuk.mayor.jwks.json"}, "is no private key"),
        ({"path": "policies/NONE.yaml"}, "there is no agreement policies/NONE.yaml"),
    ],
)
def test_what_would_not_verify_is_not_signed(
    type_in: Type, unsigned: Path, changes: dict[str, object], sentence: str
) -> None:
    """An unknown post, another's key, a day to come and files that are not there: a sentence, and the file stays."""
    before = (unsigned / AGREEMENT).read_bytes()
    typed = sign(type_in, unsigned, **changes)
    assert typed.code == 1
    assert typed.text.startswith("not signed: ")
    assert sentence in typed.text
    assert "Errno" not in typed.text
    assert (unsigned / AGREEMENT).read_bytes() == before


def test_whoever_signs_elsewhere_has_no_folder_to_look_into(type_in: Type, unsigned: Path, tmp_path: Path) -> None:
    """The agreement's file, the key and the command are enough."""
    alone = tmp_path / "desk"
    alone.mkdir()
    path = Path(shutil.copy(unsigned / AGREEMENT, alone))
    assert sign(type_in, alone, path=path).code == 0


def test_a_second_signature_names_the_lines_of_the_first(type_in: Type, catalogue: Path) -> None:
    """What is in the way is named."""
    typed = sign(type_in, catalogue)
    assert typed.code == 1
    assert "has a signature for saensuk by Mayor of Saensuk; remove lines " in typed.text


def test_a_party_gets_two_files_and_is_told_where_they_go(type_in: Type, tmp_path: Path) -> None:
    """The private half is for its owner's eyes; the public one may be read by everybody who handles it."""
    typed = type_in("keys", "party", "health.registry", "--instance", "KH", "--folder", tmp_path)
    private, public = tmp_path / "health.registry.jwk.json", tmp_path / "health.registry.jwks.json"
    assert typed.code == 0
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, public)] == [0o600, 0o644]
    assert json.loads(public.read_text())["keys"][0]["kid"] == json.loads(private.read_text())["kid"]
    assert "d" not in json.loads(public.read_text())["keys"][0]
    assert "It stays here" in typed.text
    assert "adapters/health/agency.yaml names it: keys: health.registry" in typed.text


@pytest.mark.parametrize("name", ["registry", "Health.registry", "../health.registry", "health.registry.jwk", "a."])
def test_a_party_is_called_as_its_folder_calls_it(type_in: Type, tmp_path: Path, name: str) -> None:
    """A name that no agency.yaml could hold makes no key."""
    typed = type_in("keys", "party", name, "--instance", "KH", "--folder", tmp_path)
    assert typed.code == 1
    assert typed.text.startswith("NAME must be agency.name, such as finance.local_tax")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", [("gateway",), ("party", "health.registry")])
def test_keys_are_made_for_an_instance_that_can_exist(type_in: Type, tmp_path: Path, what: tuple[str, ...]) -> None:
    """The instance is held as the setting is."""
    typed = type_in("keys", *what, "--instance", "kh", "--folder", tmp_path)
    assert typed.code == 1
    assert typed.text.startswith("--instance must be capitals, digits and - such as KH")
    assert list(tmp_path.iterdir()) == []


def test_no_key_is_overwritten_and_no_half_of_a_pair_is_made(type_in: Type, tmp_path: Path) -> None:
    """With one file there already, nothing is written."""
    arguments = ("keys", "party", "health.registry", "--instance", "KH", "--folder", tmp_path)
    assert type_in(*arguments).code == 0
    last = min(path for path in tmp_path.rglob("*") if path.is_file())
    last.unlink()
    typed = type_in(*arguments)
    assert typed.code == 1
    assert "A key is never overwritten: move the old one away first." in typed.text
    assert not last.exists()


@pytest.mark.parametrize("missing", ["signing.jwk.json", "master.key.json", None])
def test_what_is_missing_of_the_gateways_keys_is_made(type_in: Type, tmp_path: Path, missing: str | None) -> None:
    """The other one stays as it is, and nobody is told to move the master key away."""
    arguments = ("keys", "gateway", "--instance", "KH", "--folder", tmp_path)
    type_in(*arguments)
    home = tmp_path / "gateway"
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    if missing:
        (home / missing).unlink()
    typed = type_in(*arguments)
    assert typed.code == 0
    assert {path.name for path in home.iterdir() if path.read_bytes() != before[path.name]} == {missing} - {None}
    kept = f"kept {home / 'master.key.json'}: it exists and stays; without it the database cannot be opened.\n"
    assert (kept in typed.text) == (missing != "master.key.json")
    assert "move" not in typed.text


def test_the_next_signing_key_stands_beside_the_present_one(type_in: Type, tmp_path: Path) -> None:
    """It is published and does not sign; a second one is not made before the change is done."""
    asked = ("--instance", "KH", "--folder", tmp_path)
    type_in("keys", "gateway", *asked)
    before = keys.read(tmp_path, "KH")
    typed = type_in("keys", "next", *asked)
    assert typed.text.startswith(f"wrote {tmp_path / 'gateway/signing.next.jwk.json'}\n    1. Copy it to every node")
    after = keys.read(tmp_path, "KH")
    assert (after.signing.kid, len(after.published)) == (before.signing.kid, 2)
    again = type_in("keys", "next", *asked)
    assert (again.code, "it is the key to come" in again.text) == (1, True)


def test_a_folder_that_is_not_there_is_told(type_in: Type, tmp_path: Path) -> None:
    """A misspelt folder is none, and no key lies there already."""
    typed = type_in("keys", "party", "health.registry", "--instance", "KH", "--folder", tmp_path / "nowhere")
    assert typed.code == 1
    assert "name a folder that exists" in typed.text


LOADED = """
import sys
from typer.testing import CliRunner
from gateway.__main__ import app
CliRunner().invoke(app, sys.argv[1:])
print(*sorted({"aiohttp", "sqlalchemy"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("name", "modules"), [("check", ""), ("chek", ""), ("documents", "aiohttp sqlalchemy")])
def test_a_command_loads_what_it_needs(name: str, modules: str) -> None:
    """A look at the catalogue loads neither a server nor a database, a mistyped command nothing at all."""
    done = subprocess.run([sys.executable, "-c", LOADED, name], capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    assert done.stdout.strip() == modules
