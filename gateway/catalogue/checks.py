"""What can be wrong with agreements: references that lead nowhere, grants without what the law asks for."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.catalogue import manifests
from gateway.catalogue.agreements import GROUP, Draft, resolved
from gateway.catalogue.bundling import member_names
from gateway.catalogue.reading import Spot, near
from gateway.catalogue.shelf import Shelf
from gateway.catalogue.signatures import BadSignature, Claim, canonical, verify
from gateway.core.minimise import can_contain, parts
from gateway.core.model import AgencyId, Service, ServiceId, SystemId, agency_of

SOON = timedelta(days=30)
"""How long before its end an agreement is warned about."""


def agreement(shelf: Shelf, draft: Draft) -> bool:
    """Everything about one agreement that needs more than its own file.

    False where its grants lead nowhere, so that its decisions would only say so again.
    """
    written, source = draft.written, draft.source
    for number, party in enumerate(written.parties):
        shelf.agency(party, source.at("parties", number))
        if party in written.parties[:number]:
            shelf.reading.error(source.at("parties", number), f"{party} stands twice", "Name each party once.")
    in_order = _term(shelf, draft)
    grants = [_Granted(shelf, draft, number, grant) for number, grant in enumerate(written.grants)]
    leads = [grant.leads() for grant in grants]
    personal: set[AgencyId] = set().union(*(grant.protected() for grant in grants))
    if personal and written.legal_basis is None:
        remedy = "Name the law that permits it: legal_basis: …"
        shelf.reading.error(source.at("agreement"), "personal data is granted without a legal basis", remedy)
    _signatures(shelf, draft, personal)
    return in_order and all(leads)


def _term(shelf: Shelf, draft: Draft) -> bool:
    start, until = draft.written.valid.start, draft.written.valid.until
    spot = draft.source.at("valid", "until")
    if until < start:
        shelf.reading.error(spot, f"the agreement ends on {until}, before it begins on {start}", "Correct the days.")
    elif until < shelf.today:
        remedy = "Renew it, or remove its files; calls under it are refused with policy.expired."
        shelf.reading.warning(spot, f"the agreement expired on {until}", remedy)
    elif until - shelf.today <= SOON:
        remedy = "Renew it in time; from the next day calls under it are refused with policy.expired."
        shelf.reading.warning(spot, f"the agreement expires on {until}", remedy)
    return start <= until


@dataclass(frozen=True, slots=True)
class _Granted:
    """One grant in its agreement."""

    shelf: Shelf
    draft: Draft
    number: int
    written: manifests.Grant

    def leads(self) -> bool:
        """Whether everything that it names exists and is provided; what does not is reported."""
        before = self.shelf.reading.errors()
        self.shelf.service(self.written.service, self._at("service"))
        self._provider()
        for number, consumer in enumerate(self.written.consumers):
            self._consumer(consumer, self._at("consumers", number))
        for number, code in enumerate(self.written.purposes):
            self.shelf.purpose(code, self._at("purposes", number))
        return self.shelf.reading.errors() == before

    def protected(self) -> set[AgencyId]:
        """Hold what is disclosed. Gives the agencies that must sign: none where no personal data is granted."""
        service = self.shelf.services.good.get(ServiceId(self.written.service))
        if service is None:
            return set()
        self._disclose(service)
        if not service.personal_data:
            return set()
        needed = {AgencyId(self.written.provider)}
        parties = frozenset(map(AgencyId, self.draft.written.parties))
        for number, consumer in enumerate(self.written.consumers):
            agencies = {agency_of(system) for system in resolved(consumer, self.shelf.agencies.all())}
            for agency in sorted(agencies & self.shelf.agencies.good.keys() - parties):
                message = f"{agency} would get personal data and is no party of the agreement"
                self._error(self._at("consumers", number), message, f"Add {agency} to parties and have it sign.")
            needed |= agencies & parties
        return needed & parties

    def _at(self, *place: str | int) -> Spot:
        return self.draft.source.at("grants", self.number, *place)

    def _error(self, spot: Spot, message: str, remedy: str) -> None:
        self.shelf.reading.error(spot, message, remedy)

    def _provider(self) -> None:
        name, service = self.written.provider, ServiceId(self.written.service)
        provider = self.shelf.agency(name, self._at("provider"))
        if name not in self.draft.written.parties:
            message = f"the provider {name} is no party of the agreement"
            self._error(self._at("provider"), message, f"Add {name} to parties, or correct the provider.")
        described = service in self.shelf.services.good or service in self.shelf.services.broken
        if provider is not None and described and service not in provider.endpoints:
            remedy = f"{near(service, provider.endpoints)}Add an endpoint for it to adapters/{name}/agency.yaml."
            self._error(self._at("service"), f"{name} has no endpoint for {service}", remedy)

    def _consumer(self, consumer: str, spot: Spot) -> None:
        if not consumer.startswith(GROUP):
            self.shelf.system(consumer, spot)
            self._scope(SystemId(consumer), spot)
            return
        group = consumer.removeprefix(GROUP)
        known = {name for agency in self.shelf.agencies.all() for name in agency.groups}
        if group not in known and not self.shelf.agencies.broken:
            remedy = f"{near(group, known)}List the group under groups in an agency.yaml, or correct the name."
            self._error(spot, f'unknown group "{group}"', remedy)

    def _scope(self, name: SystemId, spot: Spot) -> None:
        system = self.shelf.agencies.systems.get(name)
        if system is not None and self.written.scope is not None and self.written.scope not in system.scopes:
            remedy = f"Add it to the scopes of {name} in adapters/{system.agency}/agency.yaml, or take it out here."
            message = f'{name} can get no token with the scope "{self.written.scope}"'
            self.shelf.reading.warning(spot, message, remedy)

    def _disclose(self, service: Service) -> None:
        if self.written.disclose is None:
            if service.personal_data:
                remedy = "Name what may leave, as JSON Pointers: disclose: [/identifier, /name]."
                self._error(self._at("service"), "personal data is granted without disclose", remedy)
            return
        for number, pointer in enumerate(self.written.disclose):
            if not can_contain(service.response.schema, pointer):
                meant = near(parts(pointer)[-1], member_names(service.response.schema))
                message = f"the response of {service.id} can have nothing at {pointer}"
                remedy = f"{meant}Write a JSON Pointer to a member that its response.json describes."
                self._error(self._at("disclose", number), message, remedy)


def _signatures(shelf: Shelf, draft: Draft, needed: set[AgencyId]) -> None:
    """Every signature that is given, and that every one which is needed is given.

    A file with other mistakes will change, so that what is signed today is worth nothing afterwards.
    """
    file = draft.source.file
    if any(each.file == file and each.level == "error" for each in shelf.reading.findings):
        return
    text = canonical(draft.source.value)
    for number, signature in enumerate(draft.written.signatures):
        _signature(shelf, draft, number, text)
        if signature.on > shelf.today:
            message = f"the signature of {signature.agency} is dated {signature.on}, which lies in the future"
            remedy = "Ask whether the day was mistyped; if so, have it signed anew."
            shelf.reading.warning(draft.source.at("signatures", number), message, remedy)
    for agency in sorted(needed - {AgencyId(each.agency) for each in draft.written.signatures}):
        message = f"personal data is granted without the signature of {agency}"
        shelf.reading.error(draft.source.at("signatures"), message, f"Have {agency} sign: gateway agreement sign.")


def _signature(shelf: Shelf, draft: Draft, number: int, text: bytes) -> None:
    signature, spot = draft.written.signatures[number], draft.source.at("signatures", number)
    lines = draft.source.span("signatures", number)
    if signature.agency not in draft.written.parties:
        message = f"{signature.agency} signed and is no party of the agreement"
        shelf.reading.error(spot, message, f"Remove {lines}, or add the party.")
        return
    declared = shelf.agency(signature.agency, spot)
    if declared is None:
        return
    posts = [each for each in declared.agency.signatories.values() if each.title == signature.by]
    if not posts:
        known = near(signature.by, (each.title for each in declared.agency.signatories.values()))
        remedy = f"{known}Name a title under signatories in adapters/{signature.agency}/agency.yaml."
        shelf.reading.error(spot, f'{signature.agency} has no signatory "{signature.by}"', remedy)
        return
    keys = tuple(key for post in posts for key in post.keys)
    if not keys:  # its key file is broken, which was reported
        return
    try:
        verify(signature.jws, text, keys, Claim(shelf.instance, signature.by, signature.on))
    except BadSignature as error:
        message = f"the signature of {signature.agency} does not verify: {error}"
        remedy = f"Remove {lines}, and have {signature.agency} sign the agreement as it is now: gateway agreement sign."
        shelf.reading.error(spot, message, remedy)
