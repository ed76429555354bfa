"""Everything that was read, on one shelf: looked up by name, and what is not there is reported."""

from dataclasses import dataclass
from datetime import date

from gateway.catalogue.agencies import Agencies, Declared
from gateway.catalogue.reading import Reading, Spot, near
from gateway.catalogue.services import Services
from gateway.core.model import AgencyId, Service, ServiceId, SystemId, agency_of


@dataclass(frozen=True, slots=True)
class Shelf:
    """Everything that was read, and where to report what does not fit together."""

    reading: Reading
    services: Services
    agencies: Agencies
    instance: str
    today: date

    def service(self, name: str, spot: Spot) -> Service | None:
        """The service; None where there is none (reported) or a broken one (reported where it is broken)."""
        known = self.services.good
        if name not in known and name not in self.services.broken:
            folder = "/".join(["schemas", *name.split(".", 1)])
            remedy = f"{near(name, known)}Describe it in {folder}/, or correct the name."
            self.reading.error(spot, f'unknown service "{name}"', remedy)
        return known.get(ServiceId(name))

    def agency(self, name: str, spot: Spot) -> Declared | None:
        """The agency; None as for services."""
        known = self.agencies.good
        if name not in known and name not in self.agencies.broken:
            remedy = f"{near(name, known)}Describe it in adapters/{name}/agency.yaml, or correct the name."
            self.reading.error(spot, f'unknown agency "{name}"', remedy)
        return known.get(AgencyId(name))

    def amiss(self, name: str) -> bool:
        """Whether the agency's own manifest has errors."""
        declared = self.agencies.good.get(AgencyId(name))
        wrong = (each.file for each in self.reading.findings if each.level == "error")
        return declared is None or declared.source.file in wrong

    def system(self, name: str, spot: Spot) -> None:
        """Report a system that is not there; not one of an agency that was reported itself."""
        owner = agency_of(SystemId(name))
        known = self.agencies.systems
        if name not in known and owner not in self.agencies.broken:
            remedy = (
                f"{near(name, known)}Describe it under systems in adapters/{owner}/agency.yaml, or correct the name."
            )
            self.reading.error(spot, f'unknown system "{name}"', remedy)

    def purpose(self, code: str, spot: Spot) -> None:
        """Report a purpose that the code list does not have."""
        known = self.services.purposes
        if known is not None and code not in known:
            remedy = f"{near(code, known)}Add it to schemas/common/purposes.yaml, or correct the code."
            self.reading.error(spot, f'unknown purpose "{code}"', remedy)
