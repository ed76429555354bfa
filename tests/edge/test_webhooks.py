"""Webhooks and documents by HTTP against real servers: what arrives, what is made of answers, what is never dialled."""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from standardwebhooks import Webhook

from gateway.core import webhook as standard
from gateway.core.delivery import Reason
from gateway.core.model import Way
from gateway.core.reach import Reach
from gateway.edge.outbound import HttpOutbound
from gateway.protocols import document_http, webhook
from gateway.protocols.handover import Accepted, Handed, NotTaken
from gateway.protocols.posting import MAX_REPLY_BYTES
from gateway.protocols.protocol import Manner, Surroundings, Unsent
from tests.fakes import node
from tests.fakes.correspondents import way
from tests.fakes.deliveries import declared_in, recipient
from tests.fakes.town import Office, answers, cuts, never

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
KEYS = (Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
RAW = b'{ "subject" : "Drainage" ,"n":1.50}'
"""Not as anybody would write it again."""
HANDED = Handed(
    id="0190-d",
    kind="document",
    service="letters.official_letter.v1",
    envelope={
        "id": "0190-d",
        "kind": "document",
        "service": "letters.official_letter.v1",
        "sender": "saensuk.front_desk",
        "reference": "S-1",
        "purpose": "correspondence",
        "case": "2026/17",
        "agreement": "A-1",
        "submitted": "2026-11-21T09:00:00.000+00:00",
        "digest": "sha-256=:AAAA:",
        "attempt": 2,
        "redelivered": True,
        "attachments": [{"attachment": "at-1", "digest": "sha-256=:BBBB:", "size": 3, "media_type": "text/plain"}],
        "cut": False,
    },
    body={"subject": "Drainage", "n": 1.5},
    raw=RAW,
    receipt="e30.e30.sig",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    seconds=5.0,
)


@pytest.fixture
async def outbound() -> AsyncIterator[HttpOutbound]:
    async with HttpOutbound() as opened:
        yield opened


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with recipient() as made:
        yield made


def of(office: Office, protocol: str = "webhook", **options: Any) -> Way:
    """A way to the office, which loopback is allowed to unless ``allow`` says otherwise."""
    return way("interior", protocol=protocol, options={"url": f"{office.url}/hook", "allow": ["loopback"], **options})


def around(outbound: HttpOutbound, folder: Path | None = None, **files: str) -> Surroundings:
    base = Surroundings(outbound, python=False, webhook_keys=KEYS)
    return replace(base, files=declared_in(folder, **files)) if folder else base


async def push(way: Way, around: Surroundings, handed: Handed = HANDED) -> Accepted:
    factory = document_http.hand_over if way.protocol == "http" else webhook.hand_over
    return await factory(way, around).take(handed)


async def refused(way: Way, around: Surroundings, handed: Handed = HANDED) -> NotTaken:
    with pytest.raises(NotTaken) as caught:
        await push(way, around, handed)
    return caught.value


async def test_the_library_verifies_what_arrives(outbound: HttpOutbound, office: Office, tmp_path: Path) -> None:
    """Headers and body pass its check; the document's bytes stand in the body as they were sent."""
    await push(of(office, secret="interior.hook"), around(outbound, tmp_path, **{"interior.hook": SECRET}))
    (seen,) = office.seen
    told = Webhook(SECRET).verify(seen.body, dict(seen.headers))
    assert (told["type"], told["data"]["id"], told["data"]["body"]) == (HANDED.service, "0190-d", HANDED.body)
    assert (RAW in seen.body, seen.headers["webhook-id"], told["data"]["case"]) == (True, "0190-d", "2026/17")


async def test_every_key_signs(outbound: HttpOutbound, office: Office) -> None:
    """Without a secret there are signatures by the gateway's keys alone, which verify over what arrived."""
    await push(of(office), around(outbound))
    (seen,) = office.seen
    signed = standard.content("0190-d", int(seen.headers["webhook-timestamp"]), seen.body)
    made = [each.partition(",") for each in seen.headers["webhook-signature"].split(" ")]
    assert [version for version, _, _ in made] == ["v1a", "v1a"]
    for key, (_, _, signature) in zip(KEYS, made, strict=True):
        key.public_key().verify(base64.b64decode(signature), signed)


async def test_a_receipt_is_pushed_with_its_claims(outbound: HttpOutbound, office: Office) -> None:
    """Its type is receipt, its body what it says, and the signed text stands in the envelope."""
    told = {**HANDED.envelope, "kind": "receipt", "receipt": "e30.e30.sig"}
    receipt = replace(HANDED, kind="receipt", envelope=told, body={"state": "arrived"}, raw=b"e30.e30.sig")
    await push(of(office), around(outbound), receipt)
    said = orjson.loads(office.seen[0].body)
    assert (said["type"], said["data"]["body"], said["data"]["receipt"]) == (
        "receipt",
        {"state": "arrived"},
        "e30.e30.sig",
    )


VERDICTS: Mapping[int, tuple[bool, bool, Reason | None]] = {
    # sent, the whole system, for good
    301: (True, True, None),
    307: (True, True, None),
    400: (True, False, Reason.REFUSED_BY_SYSTEM),
    401: (True, True, None),
    403: (True, True, None),
    404: (True, True, None),
    408: (True, False, None),
    409: (True, False, Reason.STALE_RECORD),
    410: (True, True, Reason.STOPPED),
    412: (True, False, Reason.STALE_RECORD),
    413: (True, False, Reason.TOO_LARGE),
    415: (True, True, None),
    418: (True, False, None),
    422: (True, False, Reason.REFUSED_BY_SYSTEM),
    429: (False, True, None),
    500: (True, False, None),
    502: (True, True, None),
    503: (False, True, None),
    504: (True, True, None),
}


@pytest.mark.parametrize("protocol", ["webhook", "http"])
@pytest.mark.parametrize("status", VERDICTS)
async def test_what_an_answer_says(outbound: HttpOutbound, office: Office, status: int, protocol: str) -> None:
    """Each status says whether it is this document or the system, for now or for good; nothing is asked twice."""
    office.react = answers({}, status, Location=f"{office.url}/else", Retry_After="7")
    first = replace(HANDED, envelope={**HANDED.envelope, "redelivered": False})
    fault = await refused(of(office, protocol), around(outbound), first)
    assert (fault.sent, fault.whole, fault.reason) == VERDICTS[status]
    assert fault.retry_after in ((7.0,) if fault.reason is None and status >= 401 else (None,))
    assert len(office.seen) == 1


@pytest.mark.parametrize("protocol", ["webhook", "http"])
async def test_409_to_a_repetition_is_no_rejection(outbound: HttpOutbound, office: Office, protocol: str) -> None:
    """The system may have the document, or be busy with it: it is tried again. What 412 says holds all the same."""
    office.react = answers({}, 409, Retry_After="7")
    fault = await refused(of(office, protocol), around(outbound))
    assert (fault.sent, fault.whole, fault.reason, fault.retry_after) == (True, False, None, 7.0)
    office.react = answers({}, 412)
    assert (await refused(of(office, protocol), around(outbound))).reason is Reason.STALE_RECORD


@pytest.mark.parametrize(("status", "reason"), [(200, None), (422, Reason.REFUSED_BY_SYSTEM)])
async def test_a_long_page_counts_by_its_status(
    outbound: HttpOutbound, office: Office, status: int, reason: Reason | None
) -> None:
    """What a system took it has taken, though a page of any length comes along, and what it refused is refused."""
    page = {"number": "2026/118", "page": "x" * MAX_REPLY_BYTES}
    office.react = answers(page, status)
    for box in (of(office), of(office, "http", number="/number")):
        if reason is None:
            assert await push(box, around(outbound)) == Accepted(None)
        else:
            assert (await refused(box, around(outbound))).reason is reason
    assert len(office.seen) == 2


async def test_no_answer(outbound: HttpOutbound, office: Office) -> None:
    """Silence and a refused connection are the system's, a connection that broke may be the document's."""
    office.react = cuts
    broken = await refused(of(office), around(outbound))
    office.react = never
    silent = await refused(of(office), around(outbound), replace(HANDED, seconds=0.2))
    await office.shut()
    down = await refused(of(office), around(outbound))
    assert [(each.sent, each.whole) for each in (broken, silent, down)] == [(True, False), (True, True), (False, True)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"])  # noqa: S104 - nobody binds
@pytest.mark.parametrize("protocol", ["webhook", "http"])
async def test_the_machine_itself_is_not_dialled(
    outbound: HttpOutbound, office: Office, host: str, protocol: str
) -> None:
    """However it is spelled; nothing reaches it, and the agency's operators are told why."""
    url = office.url.replace("127.0.0.1", host)
    fault = await refused(of(office, protocol, url=url, allow=[]), around(outbound))
    assert (fault.sent, fault.whole, office.seen) == (False, True, [])
    assert "loopback" in fault.detail or "unspecified" in fault.detail


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[ff02::1]"])
async def test_metadata_is_never_dialled(outbound: HttpOutbound, host: str) -> None:
    """Also where the folder allows loopback."""
    fault = await refused(
        way("interior", protocol="webhook", options={"url": f"http://{host}/", "allow": ["loopback"]}), around(outbound)
    )
    assert not fault.sent
    assert "metadata" in fault.detail or "multicast" in fault.detail


async def test_a_kept_connection_is_no_way_round(outbound: HttpOutbound, office: Office) -> None:
    """One that an exchange made to the same address serves no push that may not dial it."""
    said: dict[str, Any] = {"headers": {}, "body": b"{}", "seconds": 5, "max_bytes": 100}
    await outbound.send("POST", office.url, **said)
    with pytest.raises(Unsent, match="loopback"):
        await outbound.send("POST", office.url, manner=Manner(reach=Reach()), **said)
    assert len(office.seen) == 1


async def test_http_brings_the_document_as_it_was(outbound: HttpOutbound, office: Office, tmp_path: Path) -> None:
    """The body byte for byte with its digest, everything else in headers, and the system's own secret."""
    files = {"interior.token": "Bearer one\n"}
    options = {"secret_headers": {"Authorization": "interior.token"}, "headers": {"X-Office": "12"}}
    await push(of(office, "http", **options), around(outbound, tmp_path, **files))
    (seen,) = office.seen
    assert (seen.body, seen.headers["Content-Digest"], seen.headers["Idempotency-Key"]) == (
        RAW,
        "sha-256=:AAAA:",
        '"0190-d"',
    )
    told = ("Exchange-Id", "Exchange-Sender", "Exchange-Case", "Exchange-Attempt", "Exchange-Redelivered")
    assert [seen.headers[name] for name in told] == ["0190-d", "saensuk.front_desk", "2026/17", "2", "?1"]
    assert (seen.headers["Exchange-Attachments"], seen.headers["Authorization"]) == ('"at-1"', "Bearer one")


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ({"file": {"no": "2026/118"}}, "2026/118"),
        ({"file": {"no": 118}}, "118"),
        ({"file": {"no": "លេខ\u200b១២"}}, "លេខ\u200b១២"),
        *(({"file": {"no": wrong}}, None) for wrong in ("", "   ", "x" * 65, "a\nb", "1\u202e2", True, None)),
        *((lacking, None) for lacking in ({}, {"file": 1}, {"file": {"no": ["1"]}})),
    ],
)
async def test_a_register_number(outbound: HttpOutbound, office: Office, answer: Any, number: str | None) -> None:
    """Where the folder says where it stands, the answer's number registers the document; without one it has arrived."""
    office.react = answers(answer)
    assert await push(of(office, "http", number="/file/no"), around(outbound)) == Accepted(number)
    assert await push(of(office, "http"), around(outbound)) == Accepted(None)


@pytest.mark.parametrize(
    ("protocol", "options", "said"),
    [
        ("webhook", {"headers": {}}, "knows no option headers"),
        ("webhook", {"allow": ["metadata"]}, "nothing but loopback"),
        ("webhook", {"allow": "loopback"}, "nothing but loopback"),
        ("webhook", {"secret": "interior.missing"}, "^the secret 'interior.missing' cannot be read"),
        ("webhook", {"secret": "interior.short"}, "whsec_"),
        ("webhook", {"url": "ftp://a"}, "must begin with http"),
        ("webhook", {"url": "http://a/{/case}"}, "placeholders"),
        ("http", {"headers": {"X-Case": "{/case}"}}, "placeholders"),
        ("http", {"headers": {"webhook-id": "1"}}, "sets itself"),
        ("http", {"tls": {"ca": "interior.short"}}, "https"),
        ("http", {"number": "no"}, "JSON Pointer"),
    ],
)
async def test_a_folder_that_is_wrong(
    outbound: HttpOutbound, tmp_path: Path, protocol: str, options: Mapping[str, Any], said: str
) -> None:
    """It is told so when it is connected, and no secret stands in the words."""
    files = {"interior.short": "whsec_c2hvcnQ="}
    with pytest.raises(ValueError, match=said) as wrong:
        await push(of(Office(), protocol, **{"url": "http://a", **options}), around(outbound, tmp_path, **files))
    assert "c2hvcnQ" not in str(wrong.value)


async def test_a_gateway_without_its_key(outbound: HttpOutbound, office: Office) -> None:
    """A webhook cannot be declared before the key is made; the words say how."""
    with pytest.raises(ValueError, match="gateway keys gateway"):
        await push(of(office), replace(around(outbound), webhook_keys=()))
    assert await push(of(office, "http"), replace(around(outbound), webhook_keys=())) == Accepted()


async def test_what_no_header_carries_is_left_out(outbound: HttpOutbound, office: Office) -> None:
    """A case in Thai letters does not keep a document from arriving."""
    told = {**HANDED.envelope, "case": "คดี 17"}
    await push(of(office, "http"), around(outbound), replace(HANDED, envelope=told))
    assert "Exchange-Case" not in office.seen[0].headers


async def test_javascript_verifies_what_arrives(outbound: HttpOutbound, office: Office, tmp_path: Path) -> None:
    """The other library takes the secret's signature, Node itself the gateway's own; a changed body passes neither."""
    place = node.there()
    await push(of(office, secret="interior.hook"), around(outbound, tmp_path, **{"interior.hook": SECRET}))
    (seen,) = office.seen
    jwk = OKPAlgorithm.to_jwk(KEYS[1].public_key(), as_dict=True)
    said: dict[str, Any] = {"secret": SECRET, "jwk": jwk, "headers": dict(seen.headers), "body": seen.body.decode()}
    told = {"type": HANDED.service, "id": "0190-d", "asymmetric": True}
    assert await node.verified(place, said) == told
    assert await node.verified(place, {**said, "body": said["body"].replace("Drainage", "drainage")}) is None
    stranger = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True)
    assert await node.verified(place, {**said, "jwk": stranger}) == {**told, "asymmetric": False}


async def test_where_an_agent_laid_a_file(outbound: HttpOutbound, office: Office, tmp_path: Path) -> None:
    """HTTP says it with the file's id, a webhook in its envelope; a secret alone signs at an agent."""
    (file,) = HANDED.envelope["attachments"]
    laid = replace(HANDED, envelope={**HANDED.envelope, "attachments": [{**file, "path": '/var/a "b"/at-1'}]})
    await push(of(office, "http"), around(outbound), laid)
    secret = {"interior.hook": SECRET}
    bare = replace(around(outbound, tmp_path, **secret), webhook_keys=())
    await push(of(office, secret="interior.hook"), bare, laid)
    by_http, hooked = office.seen
    assert by_http.headers["Exchange-Attachments"] == r'"at-1";path="/var/a \"b\"/at-1"'
    told = Webhook(SECRET).verify(hooked.body, dict(hooked.headers))
    assert told["data"]["attachments"][0]["path"] == '/var/a "b"/at-1'
