"""How documents and events reach an agency, what it publishes, and who acts for it: read from its folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.catalogue import members
from gateway.catalogue.folders import Folder, secrets
from gateway.catalogue.reading import Place, near
from gateway.core.model import (
    EVENT,
    AgencyId,
    Endpoint,
    Kind,
    Mandate,
    Service,
    ServiceId,
    Standing,
    Subscription,
    SystemId,
    Way,
)

Written = (
    members.MailboxDelivery
    | members.WebhookDelivery
    | members.HttpDelivery
    | members.PythonDelivery
    | members.KafkaDelivery
)


def documents(services: Iterable[Service]) -> Mapping[str, Sequence[ServiceId]]:
    """The documents that each pattern means, made once: thousands of agencies name the same few."""
    found: dict[str, list[ServiceId]] = {}
    for each in services:
        if each.kind is Kind.DOCUMENT:
            for pattern in (each.id, f"{each.id.partition('.')[0]}.*", "*"):
                found.setdefault(pattern, []).append(each.id)
    return found


@dataclass(frozen=True, slots=True)
class Post:
    """Makes what an agency says of documents and events, and reports what does not hold by itself."""

    folder: Folder
    agency: AgencyId
    written: members.Agency
    documents: Mapping[str, Sequence[ServiceId]]
    """By the patterns that mean them."""

    def ways(self) -> tuple[Way, ...]:
        """Its ways, in the order in which they are looked at."""
        names: dict[str, int] = {}
        made = []
        for number, each in enumerate(self.written.deliveries):
            place: Place = ("deliveries", number)
            name = each.name or each.protocol
            if name in names:
                first = self.folder.source.at("deliveries", names[name]).line
                message = f'the way "{name}" stands already in line {first}'
                self._error((*place, "name"), message, f"Give each a name of its own, such as name: {name}_2.")
            names.setdefault(name, number)
            self._held(each, place)
            made.append(self._way(each, name, place))
        if sum(each.receipts for each in made) > 1:
            last = max(number for number, each in enumerate(made) if each.receipts)
            message = "two ways take receipts"
            self._error(("deliveries", last, "receipts"), message, "Write receipts: true for one of them.")
        return tuple(made)

    def _held(self, written: Written, place: Place) -> None:
        if not written.services and not written.receipts:
            self._error((*place, "services"), "nothing comes by this way", 'Name services: services: ["permits.*"].')
        if written.unit is not None and written.unit not in self.written.units:
            known = near(written.unit, self.written.units)
            remedy = f"{known}List it under units, or correct the name."
            self._error((*place, "unit"), f'the agency has no unit "{written.unit}"', remedy)

    def _way(self, written: Written, name: str, place: Place) -> Way:
        options = written.model_dump(by_alias=True, exclude_none=True, exclude={*members.DELIVERY_KEYS, "systems"})
        expanded = {key: self.folder.expanded(option, (*place, key)) for key, option in options.items()}
        match written:
            case members.PythonDelivery():
                self.folder.python_class(written.class_name, place)
            case members.WebhookDelivery():
                self.folder.own_secrets({(*place, "secret"): written.secret})
            case members.HttpDelivery():
                self.folder.own_secrets(secrets(written.secret_headers, written.tls, place))
        if isinstance(written, members.WebhookDelivery | members.HttpDelivery):
            self.folder.delivery_address(str(expanded["url"]), place, loopback="loopback" in written.allow)
        return Way(
            agency=self.agency,
            name=name,
            protocol=written.protocol,
            services=tuple(written.services),
            receipts=written.receipts,
            unit=written.unit,
            options=expanded,
            deadline=written.deadline,
            concurrency=written.concurrency,
            max_waiting=written.max_waiting,
            standing=Standing(written.standing),
            systems=self._fetching(written, place),
        )

    def _fetching(self, written: Written, place: Place) -> frozenset[SystemId]:
        """Who alone may fetch; nobody where everybody may."""
        named = (written.systems or []) if isinstance(written, members.MailboxDelivery) else []
        for count, system in enumerate(named):
            self._system(system, (*place, "systems", count))
        return frozenset(SystemId(f"{self.agency}.{system}") for system in named)

    def taken(self, ways: Iterable[Way]) -> dict[ServiceId, Endpoint]:
        """An endpoint for each document that comes by one of the ways, the first that takes it."""
        found: dict[ServiceId, Endpoint] = {}
        for way in ways:
            for name in (name for pattern in way.services for name in self.documents.get(pattern, ())):
                if name not in found:
                    found[name] = _endpoint(self.agency, name, way.protocol, way.standing, {})
        return found

    def published(self) -> dict[ServiceId, Endpoint]:
        """An endpoint for each event that the agency publishes."""
        found: dict[ServiceId, Endpoint] = {}
        for number, each in enumerate(self.written.publishes):
            name = ServiceId(each.service)
            if name in found:
                self._error(("publishes", number, "service"), f"{name} stands twice", "Name each event once.")
            for count, system in enumerate(each.systems):
                self._system(system, ("publishes", number, "systems", count))
            systems = tuple(SystemId(f"{self.agency}.{system}") for system in each.systems)
            found[name] = _endpoint(self.agency, name, EVENT, Standing(each.standing), {"systems": systems})
        return found

    def subscriptions(self) -> tuple[Subscription, ...]:
        """What its systems are told of."""
        made: list[Subscription] = []
        for number, each in enumerate(self.written.subscriptions):
            self._system(each.system, ("subscriptions", number, "system"))
            system = SystemId(f"{self.agency}.{each.system}")
            one = Subscription(ServiceId(each.service), AgencyId(each.publisher), system, each.purpose)
            if any(one.service == other.service and one.publisher == other.publisher for other in made):
                message = f"{each.service} of {each.publisher} is subscribed to already"
                remedy = "Keep one subscription: an agency gets each event once."
                self._error(("subscriptions", number, "service"), message, remedy)
            made.append(one)
        return tuple(made)

    def mandates(self) -> tuple[Mandate, ...]:
        """Who may act for it."""
        return tuple(
            Mandate(
                agency=self.agency,
                to=AgencyId(each.to),
                services=frozenset(map(ServiceId, each.services)),
                valid_from=each.valid.start,
                valid_until=each.valid.until,
            )
            for each in self.written.mandates
        )

    def _system(self, name: str, place: Place) -> None:
        if name not in self.written.systems:
            remedy = f"{near(name, self.written.systems)}Name a system under systems of this file."
            self._error(place, f'the agency has no system "{name}"', remedy)

    def _error(self, place: Place, message: str, remedy: str) -> None:
        self.folder.reading.error(self.folder.source.at(*place), message, remedy)


def _endpoint(
    agency: AgencyId, service: ServiceId, protocol: str, standing: Standing, options: Mapping[str, object]
) -> Endpoint:
    """What can be permitted and suspended; nobody calls it, so that it has neither a deadline nor places."""
    return Endpoint(
        provider=agency,
        service=service,
        protocol=protocol,
        options=options,
        deadline=0.0,
        concurrency=0,
        report_until=None,
        takes_key=False,
        standing=standing,
        maintenance=(),
    )
