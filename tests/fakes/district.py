"""A district whose agencies write to each other: catalogue and keys in folders, for gateways that are processes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import orjson
from ruamel.yaml import YAML

from gateway.core.jwk import thumbprint
from gateway.edge import keys
from tests.fakes import idp

INSTANCE = "DEMO"
ISSUER = "http://127.0.0.1:8080"
PERSONS = "https://idp.capital.example"
"""Asserts who the capital's clerks are."""
REGISTRARS = "https://idp.hall.example"
"""The same of the hall, whose registrar agrees to changes."""
PURPOSE = "correspondence"
SENDER = "capital.desk"
LETTER = "letters.case_file.v1"
"""In the order of its case."""
BRIEF = "letters.brief.v1"
"""Expires within two seconds."""
NOTE = "letters.note.v1"
"""Keeps no order with others."""
CHANGE = "letters.change.v1"
"""Waits for the hall's registrar."""
HALL = "hall"
"""The agency with a mailbox."""
CLERK = "hall.register"
DAYS = {"from": date(2026, 1, 1), "until": date(2099, 12, 31)}
_WORDS = {"case": {"type": "string"}, "n": {"type": "integer"}, "text": {"type": "string"}}
_SCHEMA = {"type": "object", "required": ["case", "n"], "properties": _WORDS, "additionalProperties": False}
_SERVICES: Mapping[str, Mapping[str, object]] = {
    LETTER: {"order_by": "/case", "attachments": {"types": ["text/plain"], "max_bytes": 2**20}},
    BRIEF: {"deliver_within": "2s"},
    NOTE: {},
    CHANGE: {"done_at": "registered"},
}
_YAML = YAML()


@dataclass(frozen=True, slots=True)
class Pushed:
    """An agency to whose system documents are pushed."""

    name: str
    url: str
    protocol: str = "webhook"
    deadline: str = "1s"
    concurrency: int = 8
    max_waiting: int = 50_000


@dataclass(slots=True)
class District:
    """Its folders, and what its systems show of themselves."""

    folder: Path
    kafka: str = ""
    """The address of a broker, where agencies have a topic."""
    listen: str = "127.0.0.1:0"
    """Of the next gateway: one that comes back is found where it was."""
    _private: dict[str, idp.Key] = field(default_factory=dict)

    def key(self, system: str) -> idp.Key:
        """Of a system, as it has it itself."""
        return self._private[system]

    def token(self, system: str) -> str:
        """An access token as the gateway issues it."""
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": INSTANCE,
            "sub": system,
            "client_id": system,
            "scope": "",
            "jti": f"{system}-{now}",
            "iat": now,
            "exp": now + 7200,
            "client_key": thumbprint(self._private[system].private),
        }
        return keys.read(self.folder / "keys", INSTANCE).signing.jwt(claims, "at+jwt")

    def person(self, issuer: str, name: str, post: str) -> str:
        """A user assertion."""
        now = int(time.time())
        said = {"iss": issuer, "aud": INSTANCE, "sub": name, "post": post, "exp": now + 7200, "iat": now}
        return self._private[issuer].sign(said, typ="JWT")

    def found(self, pushed: Iterable[Pushed]) -> None:
        """Write everything down."""
        home = self.folder / "keys"
        for each in ("gateway", "agencies"):
            (home / each).mkdir(parents=True)
        keys.save(home / "gateway" / "signing.jwk.json", keys.new_signing_key(INSTANCE))
        keys.save(home / "gateway" / "master.key.json", keys.new_master_key(INSTANCE))
        keys.save(home / "gateway" / "webhook.jwk.json", keys.new_webhook_key(INSTANCE))
        for name, more in _SERVICES.items():
            self._service(name, more)
        said = [{"code": PURPOSE, "title": "Letters"}]
        self._write("schemas/common/purposes.yaml", {"source": "tests", "date": date(2026, 1, 1), "purposes": said})
        if self.kafka:
            topics = {"partitions": 3, "replication": 1, "min_insync": 1}
            self._write("kafka.yaml", {"bootstrap": [self.kafka], "topics": topics})
        some = tuple(pushed)
        self._agency("capital", {"systems": {"desk": {"keys": self._key(SENDER)}}, **self._issuer(PERSONS)})
        mailbox = {"services": ["*"], "protocol": "mailbox", "unit": "registry"}
        more = {"units": ["registry"], "systems": {"register": {"keys": self._key(CLERK)}}, "deliveries": [mailbox]}
        self._agency(HALL, {**more, **self._issuer(REGISTRARS)})
        for agency in some:
            register = {"register": {"keys": self._key(f"{agency.name}.register")}}
            self._agency(agency.name, {"systems": register, "deliveries": [_way(agency)]})
        self._agreement([HALL, *(agency.name for agency in some)])

    def _key(self, name: str) -> str:
        """A new one of the system or issuer; the name of its file."""
        self._private[name] = made = idp.key()
        plain = name.removeprefix("https://idp.").removesuffix(".example") + (".persons" if "://" in name else "")
        keys.save(self.folder / "keys/agencies" / f"{plain}.jwks.json", {"instance": INSTANCE, "keys": [made.public]})
        return plain

    def _issuer(self, issuer: str) -> dict[str, object]:
        return {"issuers": [{"issuer": issuer, "keys": self._key(issuer), "issues": ["persons"]}]}

    def _service(self, name: str, more: Mapping[str, object]) -> None:
        place = "schemas/" + "/".join(name.split(".", 1))
        described = {"service": name, "title": name, "kind": "document", "personal_data": False, **more}
        self._write(f"{place}/service.yaml", described)
        for part, value in {
            "document": _SCHEMA,
            "examples/document.plain.pass": {"case": "A", "n": 1},
            "examples/document.empty.fail": {},
        }.items():
            path = self.folder / place / f"{part}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(orjson.dumps(value))

    def _agency(self, name: str, more: Mapping[str, object]) -> None:
        contacts = dict.fromkeys(("technical", "security", "data_protection"), f"desk@{name}.example")
        plain = {"agency": name, "title": {"en": name}, "class": "gov", "country": "KH", "contacts": contacts}
        self._write(f"adapters/{name}/agency.yaml", {**plain, **more})

    def _agreement(self, recipients: Sequence[str]) -> None:
        grants: list[dict[str, Any]] = [
            {"service": service, "provider": each, "consumers": [SENDER], "purposes": [PURPOSE]}
            for each in recipients
            for service in (LETTER, BRIEF, NOTE)
        ]
        second = {"approval": {"by": "provider", "role": "registrar"}}
        last = {"service": CHANGE, "provider": HALL, "consumers": [SENDER], "purposes": [PURPOSE], "require": [second]}
        agreed = {"agreement": "DISTRICT-1", "title": "Letters", "parties": ["capital", *recipients], "valid": DAYS}
        self._write("policies/DISTRICT-1.yaml", {**agreed, "grants": [*grants, last]})

    def _write(self, name: str, value: Mapping[str, object]) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            _YAML.dump(dict(value), file)


def _way(each: Pushed) -> dict[str, object]:
    if each.protocol == "kafka":
        return {"services": ["*"], "protocol": "kafka", "max_waiting": each.max_waiting}
    there = {"protocol": each.protocol, "url": each.url, "allow": ["loopback"]}
    return {"services": ["*"], **there, "deadline": each.deadline, "concurrency": each.concurrency}
