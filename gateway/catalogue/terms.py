"""Under which agreements a system may use a service: its own agency's, and those of agencies that gave it a mandate."""

from collections.abc import Iterator

from gateway.core.model import AgencyId, Agreement, Catalogue, Grant, ServiceId, SystemId, agency_of


def held(
    catalogue: Catalogue, provider: AgencyId, service: ServiceId, consumer: SystemId
) -> Iterator[tuple[Agreement, Grant, AgencyId | None]]:
    """The grants under which the consumer may call: its own, and those of agencies that gave its agency a mandate."""
    for agreement, grant in catalogue.grants.get((provider, service, consumer), ()):
        yield agreement, grant, None
    for mandate in catalogue.mandates.get((agency_of(consumer), service), ()):
        found = {
            (agreement.id, grant.index): (agreement, grant)
            for system in (catalogue.agencies[mandate.agency].systems if mandate.agency in catalogue.agencies else ())
            for agreement, grant in catalogue.grants.get((provider, service, system), ())
        }
        for agreement, grant in found.values():
            yield agreement, grant, mandate.agency
