"""What operators look up of persons in the journal: before they see it, an entry says who, why and in which entries."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gateway.edge.archive import Kept, Spoilt
from gateway.edge.control import Orders, Outcome, hold_fields
from gateway.edge.evidence import ordered
from gateway.edge.journal import Book
from gateway.edge.store import Plan

SHOW = "show_particulars"
ALL = "all"
MAX_NAMED = 20
"""Entries that are named one by one."""

_ABOUT = ("exchange", "document")
"""By which entries may have been asked for; who asks for these finds that they were looked at."""


def orders(instance: str) -> Orders:
    """``show_particulars``"""
    return {SHOW: partial(_show, instance)}


def _show(instance: str, fields: Mapping[str, str]) -> Callable[[Book], Plan[Outcome]]:
    about = {name: fields[name] for name in _ABOUT if name in fields}
    hold_fields(fields, ("entries", "reason", "who", *about))

    def plan(book: Book) -> Plan[Outcome]:
        yield from ()
        book.write(ordered(instance, SHOW, fields["who"], fields["reason"], entries=fields["entries"], **about))
        return Outcome(done=True, text="it is written down")

    return plan


def named(rows: Sequence[Kept | Spoilt]) -> str:
    """Which entries they are; of many, how many and from which to which."""
    names = [f"{row.writer}.{row.n}" for row in rows if isinstance(row, Kept)]
    return ", ".join(names) if len(names) <= MAX_NAMED else f"{len(names)}: {names[0]} to {names[-1]}"
