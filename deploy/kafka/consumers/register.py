"""A register that an agency keeps from its own topic, without the gateway's code: confluent-kafka and PyJWT alone.

    pip install confluent-kafka 'pyjwt[crypto]'
    python register.py --instance KH --agency treasury --kafka kafka-1.example:9093 --option security.protocol=SSL \
      --gateway https://gateway.example --system treasury.register --key register.jwk --book register.sqlite3

Each record: check what is signed, enter it in the book unless its id stands there, tell the gateway the number, and
only then move on. Killed anywhere, it begins again with the record that was not finished. docs/kafka.md says why.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
from confluent_kafka import Consumer, KafkaException, Message

PAUSES = (1, 2, 4, 8, 16, 32)
"""Seconds between attempts to reach the gateway: together less than a group lets its members be busy."""


class NotOurs(Exception):
    """The gateway did not sign this record for this agency. It says why, without a word of the record."""


class Gateway:
    """What is asked of the gateway, and told to it."""

    def __init__(self, url: str, system: str, key: Mapping[str, Any]) -> None:
        self._url = url.rstrip("/")
        self._system = system
        self._key = dict(key)
        self._signed = jwt.PyJWK(self._key)
        self._token, self._until = "", 0.0
        self._keys: dict[str, jwt.PyJWK] = {}

    def key(self, kid: str) -> jwt.PyJWK:
        """A key that the gateway publishes; asked for again where one is new."""
        if kid not in self._keys:
            published = self._called("/.well-known/jwks.json")["keys"]
            self._keys = {each["kid"]: jwt.PyJWK(each) for each in published}
        if kid not in self._keys:
            raise NotOurs("it is signed by a key that the gateway does not publish")
        return self._keys[kid]

    def report(self, document: str, said: Mapping[str, str]) -> str:
        """What became of a document; what the gateway says to that. Its no is as good as its yes: it is final."""
        for last in (False, True):
            try:
                return str(self._called(f"/v1/inbox/{document}", json.dumps(said).encode(), self._bearer())["state"])
            except urllib.error.HTTPError as error:
                if error.code in (404, 409):
                    return f"{error.code} {json.load(error)['code']}"
                if last or error.code != 401:
                    raise
                self._until = 0.0  # the token counts no longer: with a new one, once more
        raise AssertionError

    def _bearer(self) -> dict[str, str]:
        if time.monotonic() > self._until:
            audience, now = self._called("/.well-known/oauth-authorization-server")["issuer"], int(time.time())
            said = {"iss": self._system, "sub": self._system, "aud": audience, "iat": now, "exp": now + 60}
            algorithm, named = self._signed.algorithm_name, {"kid": self._key["kid"]}
            assertion = jwt.encode({**said, "jti": str(uuid.uuid4())}, self._signed.key, algorithm, headers=named)
            kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form = {"grant_type": "client_credentials", "client_assertion_type": kind, "client_assertion": assertion}
            granted = self._called("/oauth/token", urllib.parse.urlencode(form).encode(), {})
            self._token, self._until = granted["access_token"], time.monotonic() + granted["expires_in"] / 2
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

    def _called(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        for pause in PAUSES:
            request = urllib.request.Request(self._url + path, body, dict(headers or {}))  # noqa: S310 - as given
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 500, 502, 503, 504):
                    raise
            except OSError:
                pass
            time.sleep(pause)
        raise SystemExit("The gateway does not answer. Started again, this goes on with the same record.")


def held(message: Message, gateway: Gateway, instance: str, agency: str) -> Mapping[str, Any]:
    """What the gateway signed of the record. Raises NotOurs."""
    headers, value = [*(message.headers() or ())], message.value()
    said = {str(name): bytes(content or b"").decode() for name, content in headers}
    if not value or len(said) < len(headers):
        raise NotOurs("it has no value, or a header twice")
    signed = [verified(said[name], name, gateway) for name in ("receipt", "statement") if name in said]
    digest = base64.b64encode(hashlib.sha256(value).digest()).decode()
    must = {"instance": instance, "document": said.get("ce_id"), "service": said.get("ce_type")}
    for claims in signed:
        if claims.get("digest") != f"sha-256=:{digest}:" or any(claims.get(name) != must[name] for name in must):
            raise NotOurs("it is not what was signed")
        if claims.get("recipient", agency) != agency:
            raise NotOurs("it is for another agency")
    for claims in signed:
        if "recipient" in claims:  # of several recipients the first receipt names none: then a statement does
            return claims
    raise NotOurs("nothing says that it is for this agency")


def verified(signed: str, name: str, gateway: Gateway) -> Mapping[str, Any]:
    """The claims of a receipt, or of a statement: neither passes for the other. Raises NotOurs."""
    try:
        header = jwt.get_unverified_header(signed)
        if header.get("typ") != f"exchange-{name}+jwt":
            raise NotOurs(f"what is signed in it is no {name}")
        key = gateway.key(str(header.get("kid")))
        claims: Mapping[str, Any] = jwt.decode(signed, key, algorithms=[key.algorithm_name])
    except jwt.PyJWTError as error:
        raise NotOurs("its signature is not the gateway's") from error
    return claims


class Book:
    """The register: one line for each document, in a file that survives everything but its disk."""

    def __init__(self, path: str) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("pragma synchronous = full")
        columns = "number integer primary key, document text unique not null, service text, sender text, body blob"
        self._file.execute(f"create table if not exists book ({columns})")

    def enter(self, claims: Mapping[str, Any], body: bytes) -> tuple[int, bool]:
        """Its number, the same however often it comes; whether it is new."""
        row = (claims["document"], claims["service"], claims["sender"], body)
        entered = "insert into book (document, service, sender, body) values (?, ?, ?, ?) on conflict do nothing"
        new = self._file.execute(entered, row).rowcount == 1
        (number,) = self._file.execute("select number from book where document = ?", row[:1]).fetchone()
        return number, new


def records(consumer: Consumer) -> Iterator[Message]:
    """One record after the other; what goes wrong on the way is told, and waited out by the library itself."""
    while True:
        message = consumer.poll(1.0)
        error = message.error() if message is not None else None
        if error is not None:
            print(f"kafka: {error.str()}", file=sys.stderr, flush=True)
            if error.fatal():
                raise KafkaException(error)
        elif message is not None:
            yield message


def keep(consumer: Consumer, book: Book, gateway: Gateway, instance: str, agency: str) -> None:
    """Until somebody stops it."""
    for message in records(consumer):
        place = f"partition {message.partition()}, position {message.offset()}"
        try:
            claims = held(message, gateway, instance, agency)
        except (NotOurs, UnicodeDecodeError) as error:  # nothing is reported of it: a forger must not end a document
            print(f"set aside: {place}: {error}", file=sys.stderr, flush=True)
        else:
            number, new = book.enter(claims, message.value() or b"")
            said = gateway.report(claims["document"], {"outcome": "registered", "number": f"R-{number}"})
            print(f"R-{number} {claims['document']} {'new' if new else 'known'} {said}", flush=True)
        consumer.commit(message=message, asynchronous=False)


def main() -> None:
    """Read the command line, and the topic."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("instance", "agency", "kafka", "gateway", "system", "key", "book"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--option", action="append", default=[], help="of librdkafka, as name=value")
    given = parser.parse_args()
    with open(given.key, encoding="utf-8") as file:  # noqa: PTH123 - as short as it can be
        gateway = Gateway(given.gateway, given.system, json.load(file))
    consumer = Consumer(
        {
            "bootstrap.servers": given.kafka,
            "group.id": f"{given.instance}.agent.{given.agency}.register",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            **dict(each.split("=", 1) for each in given.option),
        }
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it leaves its group at once
    consumer.subscribe([f"{given.instance}.agency.{given.agency}"])
    try:
        with contextlib.suppress(KeyboardInterrupt):
            keep(consumer, Book(given.book), gateway, given.instance, given.agency)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
