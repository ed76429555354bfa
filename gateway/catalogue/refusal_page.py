"""The page ``docs/reference/refusals.md``, made of the one table of refusals and faults."""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby

from gateway.core.refusal import TABLE, Kind

_HEAD = """\
# Refusals and faults

Made by `gateway check --write` from the table in `gateway/core/refusal.py`; do not edit it.

Every answer of the gateway that is no success is an `application/problem+json` document (RFC 9457) with one of these
codes. Programs look at `code`, which keeps its meaning; `title`, `detail` and `remedy` are for people and may be worded
anew. A running gateway serves the same table at `/docs/refusals`, where the `type` of every problem leads.

*Retry later* says that the same call may succeed later; `Retry-After` says when, where the gateway knows. *Contact*
is the role to ask; where one agency is concerned, the problem's `contact` names it with its address.
"""


def markdown() -> str:
    """The whole page."""
    rows = sorted(TABLE.items(), key=lambda row: row[1].status)
    chapters = (_chapter(status, tuple(each)) for status, each in groupby(rows, key=lambda row: row[1].status))
    return "\n".join([_HEAD, *chapters])


def _chapter(status: int, rows: tuple[tuple[str, Kind], ...]) -> str:
    return "\n".join([f"## {status} {HTTPStatus(status).phrase}\n", *(_section(*row) for row in rows)])


def _section(code: str, kind: Kind) -> str:
    beside = " ".join(_beside(kind))
    return f"### {code}\n\n{kind.title}. {kind.remedy}\n" + (f"\n{beside}\n" if beside else "")


def _beside(kind: Kind) -> Iterator[str]:
    if kind.retry:
        yield "*Retry later.*"
    if kind.contact:
        yield f"*Contact: {kind.contact.replace('_', ' ')}.*"
