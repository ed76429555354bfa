"""Every system of the agencies, those that answer exchanges and those that take documents: connected as one."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.catalogue.files import Files
from gateway.core.model import AgencyId, Catalogue
from gateway.edge.documents.takers import Takers, Ways
from gateway.edge.providers import Connected, NotConnected, Providers


@dataclass(frozen=True, slots=True)
class Joined:
    """What serves a catalogue, ready to be adopted."""

    catalogue: Catalogue
    endpoints: Connected
    ways: Ways


@dataclass(frozen=True, slots=True)
class Systems:
    """Providers and takers."""

    providers: Providers
    takers: Takers

    async def connect(self, catalogue: Catalogue, files: Files, *, whole: bool = True) -> Joined:
        """Make both ready. Raises NotConnected with everything that is wrong in either, and then nothing changed."""
        wrong: dict[tuple[AgencyId, str], str] = {}
        endpoints = ways = None
        try:
            endpoints = await self.providers.connect(catalogue, files, whole=whole)
        except NotConnected as error:
            wrong |= error.wrong
        try:
            ways = await self.takers.connect(catalogue, files, whole=whole)
        except NotConnected as error:
            wrong |= error.wrong
        if endpoints is not None and ways is not None:
            return Joined(catalogue, endpoints, ways)
        if endpoints is not None:
            self.providers.discard(endpoints)
        if ways is not None:
            self.takers.discard(ways)
        raise NotConnected(wrong)

    def adopt(self, joined: Joined) -> None:
        """Serve its catalogue from now on."""
        self.providers.adopt(joined.endpoints)
        self.takers.adopt(joined.ways)

    def lacking(self) -> Mapping[tuple[AgencyId, str], str]:
        """Endpoints and ways of the catalogue in use that are not connected, and why."""
        return {**self.providers.lacking(), **self.takers.lacking()}
