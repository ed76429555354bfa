"""What people at the agency look at: what waits for their word, and what never came."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from gateway.agent.memory import Ledger
from gateway.agent.ports import Upstream

MAX_SHOWN = 100
"""Lines of one kind."""
MAX_PAGES = 2_000
"""Of the gateway's list, 50 documents each, that are held against the memory."""


async def shown(ledger: Ledger) -> tuple[Sequence[str], bool]:
    """Lines of ``gateway agent show``, and whether anything waits for a person."""
    counts = await ledger.counts()
    unknown, refused = await ledger.memory.unsettled(), await ledger.dues.refused()
    foreign, gaps = await ledger.places.foreign(), await ledger.places.gaps()
    lines = [f"{counts.seen} documents known here, {counts.unreported} outcomes not yet told to the gateway"]
    lines += _few(
        f"UNKNOWN {each.document} {each.service} at {each.partition}/{each.position}: settle it" for each in unknown
    )
    lines += _few(f"refused by the gateway: {report.document} {report.outcome} ({code})" for report, code in refused)
    lines += _few(f"not taken: record {each.partition}/{each.position}, {each.why}: {each.detail}" for each in foreign)
    lines += [
        f"UNREAD partition {each.partition}: records {each.expected} to {each.begins - 1} went before they were read; "
        "see gateway agent missing"
        for each in gaps
    ]
    lines += _few(
        f"settled: {each.document} {each.verdict} by {each.by} at {_at(each.at)}: {each.why}"
        for each in await ledger.memory.decisions(MAX_SHOWN)
    )
    return lines, bool(unknown or gaps or counts.foreign)


async def missed(ledger: Ledger, upstream: Upstream) -> list[str]:
    """Documents that are ``arrived`` at the gateway, and of which nothing is known here. Raises Unreachable."""
    found: list[str] = []
    after: str | None = None
    for _ in range(MAX_PAGES):
        page, after = await upstream.arrived(after)
        found += await ledger.memory.unknown(page)
        if after is None:
            break
    return found


def _few(lines: Iterator[str]) -> list[str]:
    every = list(lines)
    more = [f"… and {len(every) - MAX_SHOWN} more"] if len(every) > MAX_SHOWN else []
    return every[:MAX_SHOWN] + more


def _at(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="seconds")
