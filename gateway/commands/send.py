"""``gateway send``: hand a document over from a terminal, and see what becomes of it."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID, uuid4

import orjson
import typer

from gateway.client import Document, GatewayClient, GatewayError, Recipient, Refused, Submitted
from gateway.client.documents import LONGEST_WAIT
from gateway.commands.terminal import fail

MEANINGS = {
    "held": "waits for a second person to agree",
    "submitted": "safe with the gateway, on its way",
    "arrived": "has arrived",
    "retrieved": "was fetched",
    "registered": "is registered",
    "rejected": "was rejected",
    "declined": "was declined by the second person",
    "recalled": "was withdrawn",
    "expired": "was not delivered in time",
    "undeliverable": "cannot be delivered",
}
SENT = 3
"""The exit code where it was sent, and what came after that failed."""
ENDS = frozenset({"registered", "rejected", "declined", "recalled", "expired", "undeliverable"})


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be sent."""

    agencies: tuple[str, ...]
    service: str
    body: Any
    attachments: tuple[str, ...]
    """Ids, or paths of files."""
    reference: str
    head: dict[str, Any]


def send(  # noqa: PLR0913 - a command's options, each by its name
    agency: Annotated[str, typer.Argument(help="The recipient; several by commas, group:… for a group.")],
    service: Annotated[str, typer.Argument(help="Such as letters.official_letter.v1.")],
    file: Annotated[Path, typer.Argument(help="The document: a file of JSON.")],
    *,
    client_id: Annotated[str, typer.Option(help="Your system, as your agency's folder calls it.")],
    key: Annotated[Path, typer.Option(help="Its private key: a file with a JWK.")],
    purpose: Annotated[str, typer.Option(help="What it is for, as the agreement says.")],
    gateway: Annotated[str, typer.Option(help="The gateway's address.")] = "http://127.0.0.1:8080",
    attach: Annotated[list[str] | None, typer.Option(help="A file that goes along, or the id of an upload.")] = None,
    reference: Annotated[str | None, typer.Option(help="Your own number; the same when you send again.")] = None,
    case: Annotated[str | None, typer.Option(help="The case that it belongs to.")] = None,
    user: Annotated[str | None, typer.Option(help="Who sends it.")] = None,
    on_behalf_of: Annotated[str | None, typer.Option("--for", help="The agency for which you act by mandate.")] = None,
    assertion: Annotated[
        Path | None, typer.Option(help="A file with the signed assertion about the person who sends it: a JWT.")
    ] = None,
    scope: Annotated[str | None, typer.Option(help="The scope that the agreement asks for.")] = None,
    wait: Annotated[int, typer.Option(help="Seconds to wait for what becomes of it.")] = 0,
    receipt: Annotated[Path | None, typer.Option(help="A file for the signed receipt.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates to trust, instead of the machine's.")] = None,
) -> None:
    """Send a document to an agency, and say what became of it."""
    try:
        body = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        fail(f"{file} cannot be read as JSON: {getattr(error, 'strerror', None) or error}.")
    head = {"purpose": purpose, "case": case, "user": user, "on_behalf_of": on_behalf_of, "scope": scope}
    if assertion is not None:
        head["user_assertion"] = _assertion(assertion)
    if receipt is not None:
        _hold_place(receipt)
    agencies = tuple(each.strip() for each in agency.split(",") if each.strip())
    files = tuple(attach or ())
    letter = Letter(agencies, service, body, files, reference=reference or str(uuid4()), head=head)
    try:
        client = GatewayClient(gateway, client_id=client_id, key=key, ca_file=ca_file)
        asyncio.run(_sent(client, letter, wait, receipt))
    except (ValueError, OSError) as error:
        fail(str(error))


def _assertion(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read as an assertion: {getattr(error, 'strerror', None) or 'it is no JWT'}.")


def _hold_place(receipt: Path) -> None:
    """Before anything is sent; nothing is left there but what a link leads to."""
    try:
        there = receipt.exists() or receipt.is_symlink()
        receipt.open("ab").close()
        if not there:
            receipt.unlink()
    except OSError as error:
        fail(f"{receipt} cannot be written for the receipt: {error.strerror}. Nothing was sent.")


async def _sent(client: GatewayClient, letter: Letter, wait: int, receipt: Path | None) -> None:
    ids: list[str] = []
    async with client:
        try:
            for each in letter.attachments:
                ids += [await _attached(client, each)]
            to = letter.agencies[0] if len(letter.agencies) == 1 else letter.agencies
            sent = await client.send(
                to, letter.service, letter.body, reference=letter.reference, attachments=ids, **letter.head
            )
        except GatewayError as error:
            fail(*_why(error), *_again(error, letter, ids))
        _tell(sent)
        if receipt is not None:
            try:
                await asyncio.to_thread(receipt.write_text, sent.receipt + "\n", "ascii")
            except OSError as error:
                typer.echo(f"Receipt    {sent.receipt}")
                _safe(f"{receipt} cannot be written: {error.strerror}. Keep the receipt that stands above.")
            typer.echo(f"Receipt    {receipt}")
        try:
            await _follow(client, sent.document, wait)
        except GatewayError as error:
            _safe(*_why(error))


def _safe(*lines: str) -> NoReturn:
    for line in (*lines, "The document is safe with the gateway all the same: do not send it again."):
        typer.echo(line, err=True)
    raise typer.Exit(SENT)


async def _attached(client: GatewayClient, named: str) -> str:
    try:
        return str(UUID(named))
    except ValueError:
        made = await client.upload(named)
    typer.echo(f"Attached   {named}: {made.size} bytes, {made.media_type}, {made.id}")
    return made.id


def _tell(sent: Submitted) -> None:
    typer.echo(f"Document   {sent.document}" + (" (sent before; nothing was sent twice)" if sent.replayed else ""))
    typer.echo(f"Reference  {sent.reference}")
    typer.echo(f"State      {sent.state}: {MEANINGS.get(sent.state, sent.state)}")


async def _follow(client: GatewayClient, document: str, wait: int) -> None:
    """Say what changes, until all has ended or the time is over."""
    until, said = time.monotonic() + wait, dict[str, str]()
    while (left := until - time.monotonic()) > 0:
        known = await client.document(document, wait=min(LONGEST_WAIT, math.ceil(left)))
        for each in known.recipients:
            words = _words(each)
            if said.get(each.recipient) != words:
                said[each.recipient] = words
                typer.echo(f"{each.recipient:<10} {words}")
        if _ended(known):
            return
    if wait:
        typer.echo(f"Nothing more within {wait} seconds; it goes on without you.")


def _words(at: Recipient) -> str:
    words = f"{at.state}: {MEANINGS.get(at.state, at.state)}"
    if at.shown == "waiting":
        words += ", and waits: the recipient's system does not take it now"
    if at.number:
        words += f" under the number {at.number}"
    if at.reason:
        words += f" ({at.reason})"
    return words + (", overdue" if at.overdue else "")


def _ended(known: Document) -> bool:
    states = [each.state for each in known.recipients] or [known.state]
    return all(each in ENDS for each in states)


def _why(error: GatewayError) -> Sequence[str]:
    if not isinstance(error, Refused):
        return (str(error),)
    lines = [f"{error.title}. {error.detail}", f"Code       {error.code}"]
    lines += [f"  at {fault.pointer or 'the top'}: {fault.detail}" for fault in error.errors]
    if error.contact is not None:
        lines.append(
            f"Ask        {error.contact.role} of {error.contact.agency or 'the gateway'}: {error.contact.at or ''}"
        )
    return lines if error.exchange is None else [*lines, f"Exchange   {error.exchange}"]


def _again(error: GatewayError, letter: Letter, ids: Sequence[str]) -> Sequence[str]:
    """How the same is sent again, where nobody knows whether it was taken."""
    if isinstance(error, Refused) and not error.temporary:
        return ()
    same = " ".join([f"--reference {letter.reference}", *(f"--attach {each}" for each in ids)])
    return (f"Send it again later with {same}: it will arrive once.",)
