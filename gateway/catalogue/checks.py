"""What can be wrong with agreements: references that lead nowhere, grants without what the law asks for."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from gateway.catalogue import manifests
from gateway.catalogue.agreements import GROUP, Draft, approval, providers, resolved
from gateway.catalogue.bundling import member_names
from gateway.catalogue.reading import Spot, near
from gateway.catalogue.shelf import Shelf
from gateway.catalogue.signatures import BadSignature, Claim, canonical, verify
from gateway.core.life import Approval
from gateway.core.minimise import can_contain, parts
from gateway.core.model import AgencyId, Kind, Service, ServiceId, SystemId, agency_of

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


_LACKING = {
    Kind.EXCHANGE: ("has no endpoint for", "an endpoint for it"),
    Kind.DOCUMENT: ("has no way for", "a way that takes it, under deliveries,"),
    Kind.EVENT: ("does not publish", "it, under publishes,"),
}


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
        service = self.shelf.service(self.written.service, self._at("service"))
        self._provider(service)
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
        _Terms(self.shelf, self.draft, self.number, self.written, service).hold()
        if not service.personal_data:
            return set()
        parties = frozenset(map(AgencyId, self.draft.written.parties))
        needed = set(providers(self.written, self.shelf.agencies.all()))
        self._all_parties(needed, self._at("provider"))
        for number, consumer in enumerate(self.written.consumers):
            agencies = {agency_of(system) for system in resolved(consumer, self.shelf.agencies.all())}
            self._all_parties(agencies, self._at("consumers", number))
            needed |= agencies
        return needed & parties

    def _all_parties(self, agencies: Collection[AgencyId], spot: Spot) -> None:
        parties = frozenset(map(AgencyId, self.draft.written.parties))
        for agency in sorted(set(agencies) & self.shelf.agencies.good.keys() - parties):
            if agency != self.written.provider:  # which was reported already
                message = f"{agency} would get personal data and is no party of the agreement"
                self._error(spot, message, f"Add {agency} to parties and have it sign.")

    def _at(self, *place: str | int) -> Spot:
        return self.draft.source.at("grants", self.number, *place)

    def _error(self, spot: Spot, message: str, remedy: str) -> None:
        self.shelf.reading.error(spot, message, remedy)

    def _provider(self, service: Service | None) -> None:
        if self.written.provider.startswith(GROUP):
            self._providers(self.written.provider, service)
            return
        name, said = self.written.provider, ServiceId(self.written.service)
        provider = self.shelf.agency(name, self._at("provider"))
        if name not in self.draft.written.parties:
            message = f"the provider {name} is no party of the agreement"
            self._error(self._at("provider"), message, f"Add {name} to parties, or correct the provider.")
        if provider is None or said in provider.agency.endpoints:
            return
        if service is not None or (said in self.shelf.services.broken and not provider.agency.deliveries):
            what, where = _LACKING[service.kind if service is not None else Kind.EXCHANGE]
            known = near(said, provider.agency.endpoints)
            remedy = f"{known}Add {where} to adapters/{name}/agency.yaml."
            self._error(self._at("service"), f"{name} {what} {said}", remedy)

    def _providers(self, group: str, service: Service | None) -> None:
        spot = self._at("provider")
        if service is not None and service.kind is not Kind.DOCUMENT:
            message = f"{service.id} is no document, and only documents are sent to a group"
            self._error(spot, message, "Name one agency.")
        elif self._group(group, spot) and service is not None and not self.shelf.agencies.broken:
            self._taken(group, service, spot)

    def _taken(self, group: str, service: Service, spot: Spot) -> None:
        if not providers(self.written, self.shelf.agencies.all()):
            remedy = "Add a way for it under deliveries of the agencies in the group."
            self._error(spot, f"no agency of {group} takes {service.id}", remedy)

    def _group(self, name: str, spot: Spot) -> bool:
        """Whether there is such a group; if not, that is reported."""
        group = name.removeprefix(GROUP)
        known = {each for agency in self.shelf.agencies.all() for each in agency.groups}
        if group not in known and not self.shelf.agencies.broken:
            remedy = f"{near(group, known)}List the group under groups in an agency.yaml, or correct the name."
            self._error(spot, f'unknown group "{group}"', remedy)
        return group in known

    def _consumer(self, consumer: str, spot: Spot) -> None:
        if not consumer.startswith(GROUP):
            self.shelf.system(consumer, spot)
            self._scope(SystemId(consumer), spot)
            return
        self._group(consumer, spot)

    def _scope(self, name: SystemId, spot: Spot) -> None:
        system = self.shelf.agencies.systems.get(name)
        if system is not None and self.written.scope is not None and self.written.scope not in system.scopes:
            remedy = f"Add it to the scopes of {name} in adapters/{system.agency}/agency.yaml, or take it out here."
            message = f'{name} can get no token with the scope "{self.written.scope}"'
            self.shelf.reading.warning(spot, message, remedy)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What one grant asks for, held against the kind of its service."""

    shelf: Shelf
    draft: Draft
    number: int
    written: manifests.Grant
    service: Service

    def hold(self) -> None:
        self._disclose()
        self._approval()
        if self.service.kind is Kind.EVENT:
            unlimited = self.written.limits == manifests.Limits()
            for key, given in (("require", self.written.require), ("limits", not unlimited)):
                if given:
                    message = f"{key} is for calls, and of an event a subscriber is told without one"
                    self._error(self._at(key), message, "Take it out.")

    def _at(self, *place: str | int) -> Spot:
        return self.draft.source.at("grants", self.number, *place)

    def _error(self, spot: Spot, message: str, remedy: str) -> None:
        self.shelf.reading.error(spot, message, remedy)

    def _disclose(self) -> None:
        service = self.service
        if service.kind is Kind.DOCUMENT:
            if self.written.disclose is not None:
                message = "a document goes as it was sent, and disclose cannot cut it"
                self._error(self._at("disclose"), message, "Take disclose out, or describe a smaller document.")
            return
        if self.written.disclose is None:
            if service.personal_data:
                remedy = "Name what may leave, as JSON Pointers: disclose: [/identifier, /name]."
                self._error(self._at("service"), "personal data is granted without disclose", remedy)
            return
        if service.life is not None and service.life.attachments is not None:
            message = f"disclose cuts {service.id}, and its attachments go whole: they may say what is cut away"
            remedy = (
                "Take attachments out of its service.yaml, or disclose out of the grant if it has no personal data."
            )
            self._error(self._at("disclose"), message, remedy)
        part, shape = ("document", service.request) if service.kind is Kind.EVENT else ("response", service.response)
        for number, pointer in enumerate(self.written.disclose):
            if not can_contain(shape.schema, pointer):
                meant = near(parts(pointer)[-1], member_names(shape.schema))
                message = f"the {part} of {service.id} can have nothing at {pointer}"
                remedy = f"{meant}Write a JSON Pointer to a member that its {part}.json describes."
                self._error(self._at("disclose", number), message, remedy)

    def _approval(self) -> None:
        found = [number for number, each in enumerate(self.written.require) if isinstance(each, Approval)]
        for number in found[1:]:
            self._error(self._at("require", number), "approval stands twice", "Name one second person.")
        if found and self.service.kind is not Kind.DOCUMENT:
            message = f"approval holds documents back, and {self.service.id} is none"
            self._error(self._at("require", found[0]), message, "Take it out, or send the change as a document.")
        elif found:
            self._approvers(self._at("require", found[0]))

    def _approvers(self, spot: Spot) -> None:
        """Warn where nobody could ask or approve: persons are known by assertions of their agency's own issuer."""
        agencies, asked = self.shelf.agencies, approval(self.written)
        senders = {agency_of(name) for each in self.written.consumers for name in resolved(each, agencies.all())}
        receivers = providers(self.written, agencies.all()) if asked is not None and asked.by == "provider" else ()
        for name in sorted({*receivers, *senders}):
            declared = agencies.good.get(name)
            if declared is not None and not any(each.persons for each in declared.agency.issuers):
                message = f"{name} has no issuer of persons, so that nobody of it can ask or approve"
                remedy = f"Add one under issuers in adapters/{name}/agency.yaml: issues: [persons]."
                self.shelf.reading.warning(spot, message, remedy)


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
