"""The page on refusals, made of the one table: ``docs/reference/refusals.md``, and HTML at ``/docs/refusals``."""

import html
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby

from gateway.core.refusal import TABLE, Kind

_TITLE = "Refusals and faults"
_MADE = """\
Made by `gateway check --write` from the table in `gateway/core/refusal.py`; do not edit it. A running gateway serves
the same at `/docs/refusals`, where the `type` of every problem leads.
"""
_ABOUT = """\
Every refusal and fault of an exchange, of the catalogue and of an address that does not exist is an
`application/problem+json` document (RFC 9457) with one of these codes. Programs look at `code`, which keeps its
meaning; `title`, `detail` and `remedy` are for people and may be worded anew.

Three answers that are no success have no such code. `POST /oauth/token` says no in the words of RFC 6749, as
`application/json` with `error` and `error_description`. What is no HTTP, or has too many or too long lines in its head,
gets 400 and plain text. The operations listener answers with plain JSON or text.

*Retry later* says that the same call may succeed later; `Retry-After` says when, where the gateway knows. *Contact*
is the role to ask; where one agency is concerned, the problem's `contact` names it with its address.
"""
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
    "h3{font:600 1.1rem ui-monospace,monospace;overflow-wrap:anywhere}h3 a{color:inherit;text-decoration:none}"
    "h3 a:hover,h3 a:focus{text-decoration:underline}"
    "section{border-top:1px solid #ccc}section:target{background:#fff6d6}"
)

_MARKS = ((re.compile(r"`([^`]+)`"), r"<code>\1</code>"), (re.compile(r"\*([^*]+)\*"), r"<em>\1</em>"))


def markdown() -> str:
    """The page of the documents."""
    return "\n".join([f"# {_TITLE}\n", _MADE, _ABOUT, *(_chapter(*each) for each in _chapters())])


def page() -> str:
    """The page that a gateway serves: the same words in the same order."""
    about = "".join(f"<p>{_marked(paragraph)}</p>" for paragraph in _ABOUT.split("\n\n"))
    rows = "".join(
        f"<h2>{heading}</h2>" + "".join(f'<section id="{code}">{_served(code, kind)}</section>' for code, kind in rows)
        for heading, rows in _chapters()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_TITLE}</title><style>{_STYLE}</style><h1>{_TITLE}</h1>{about}{rows}</html>"
    )


def _chapters() -> Iterator[tuple[str, tuple[tuple[str, Kind], ...]]]:
    rows = sorted(TABLE.items(), key=lambda row: row[1].status)
    for status, each in groupby(rows, key=lambda row: row[1].status):
        yield f"{status} {HTTPStatus(status).phrase}", tuple(each)


def _chapter(heading: str, rows: tuple[tuple[str, Kind], ...]) -> str:
    sections = (f"### {code}\n\n" + "\n\n".join(_told(kind)) + "\n" for code, kind in rows)
    return "\n".join([f"## {heading}\n", *sections])


def _served(code: str, kind: Kind) -> str:
    paragraphs = "".join(f"<p>{_marked(paragraph)}</p>" for paragraph in _told(kind))
    return f'<h3><a href="#{code}">{code}</a></h3>{paragraphs}'


def _told(kind: Kind) -> Iterator[str]:
    yield f"{kind.title}. {kind.remedy}"
    beside = " ".join(_beside(kind))
    if beside:
        yield beside


def _beside(kind: Kind) -> Iterator[str]:
    if kind.retry:
        yield "*Retry later.*"
    if kind.contact:
        yield f"*Contact: {kind.contact.replace('_', ' ')}.*"


def _marked(text: str) -> str:
    text = html.escape(text, quote=False)
    for pattern, instead in _MARKS:
        text = pattern.sub(instead, text)
    return text
