"""The case files of the National Social Security Fund: each document is a file in a folder, and has a number."""

import asyncio
import json
import os
from pathlib import Path

from gateway.adapter import Adapter, Broken, Document, TryLater

TAKEN = ("correspondence.letter.v1", "population.death_registered.v1")


class CaseFiles(Adapter):
    """Stands for the Fund's own filing; the folder is named by SOCIAL_SECURITY_FILES."""

    def __init__(self) -> None:
        self._folder = Path(os.environ["SOCIAL_SECURITY_FILES"])
        self._one = asyncio.Lock()  # documents of other cases come meanwhile, and numbers follow each other

    async def take(self, document: Document) -> str | None:
        """File it. A letter gets a number, which is told to its sender; the same id is the same file."""
        if document.service not in TAKEN:
            raise Broken
        async with self._one:
            return await asyncio.to_thread(self._filed, document)

    def _filed(self, document: Document) -> str | None:
        there = self._folder / f"{document.id}.json"
        try:
            if there.exists():
                return _number(json.loads(there.read_bytes()))
            number = sum(path.suffix == ".json" for path in self._folder.iterdir()) + 1
            files = [{"digest": each.digest, "bytes": _size(each.path)} for each in document.attachments]
            kept = {"number": f"NSSF-2026/{number}", "service": document.service, "files": files, "body": document.body}
            partly = there.with_suffix(".part")
            partly.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
            partly.rename(there)
        except OSError as error:
            raise TryLater(2) from error
        return _number(kept)


def _number(kept: dict[str, object]) -> str | None:
    return str(kept["number"]) if kept["service"] == TAKEN[0] else None


def _size(path: str | None) -> int:
    """Of a file that the agent has laid beside the document."""
    return 0 if path is None else Path(path).stat().st_size
