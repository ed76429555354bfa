"""A Kafka cluster as whoever looks after it sees it: what it has, and each change, one at a time.

No process that serves imports this module, or the client it needs: ``gateway topics`` does, by name.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, assert_never

from kafka.admin import ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourceType
from kafka.protocol.admin import (
    AlterClientQuotasRequest,
    CreateAclsRequest,
    CreateTopicsRequest,
    DeleteAclsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    IncrementalAlterConfigsRequest,
    ListGroupsRequest,
)
from kafka.protocol.consumer import ConsumerProtocolAssignment, OffsetFetchRequest
from kafka.protocol.metadata import MetadataRequest

from gateway.catalogue.files import Files
from gateway.core.comparison import POSITIONS
from gateway.core.kafka import Connection
from gateway.core.topics import GROUP, TOPIC, Acl, Allow, Bound, Change, Found, Make, Revoke, Set, Standing, Wanted
from gateway.edge.kafka_line import Line
from gateway.protocols.kafka_link import ClusterFailed

AT_ONCE = 200
"""Topics, or groups, that one question asks for."""
MAX_GROUPS = 20_000
"""Groups that are looked at."""

T = TypeVar("T")

_CONFIGS_OF_TOPIC, _CONFIGS_OF_BROKER, _SET = 2, 4, 0
_UNKNOWN_TOPIC, _NO_AUTHORIZER = 3, 54
_KINDS = {TOPIC: ResourceType.TOPIC, GROUP: ResourceType.GROUP}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}
_OF_BROKERS = (
    "auto.create.topics.enable",
    "allow.everyone.if.no.acl.found",
    "offsets.retention.minutes",
    "socket.request.max.bytes",
)
_RATE, _USER, _ANY_NAME = "consumer_byte_rate", "user", 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is asked and told over a line."""

    line: Line

    def found(self, wanted: Wanted) -> Found:
        """What the cluster has of what is wanted, and what else it has of this instance. Raises ClusterFailed."""
        brokers = self._brokers()
        topics = self._topics(wanted)
        return Found(
            brokers={each: self._settings(_CONFIGS_OF_BROKER, [str(each)], each)[str(each)] for each in brokers},
            topics=topics,
            acls=self._acls(),
            quotas=self._quotas(),
            groups=self._groups(brokers, wanted.topics.keys() & topics.keys()),
        )

    def carry_out(self, change: Change) -> None:
        """Make one change. Raises ClusterFailed."""
        match change:
            case Make():
                self._make(change)
            case Set():
                self._set(change)
            case Allow():
                self._allow(change.acl)
            case Revoke():
                self._revoke(change.acl)
            case Bound():
                self._bound(change)
            case _:
                assert_never(change)

    def _brokers(self) -> Sequence[int]:
        answer = self.line.ask(DescribeClusterRequest(), "list the brokers")
        return [each.broker_id for each in answer.brokers]

    def _topics(self, wanted: Wanted) -> dict[str, Standing]:
        beginnings = tuple(beginning for kind, beginning in wanted.ours if kind == TOPIC)
        listed = self.line.ask(_about(None), "list topics")
        others = [each.name for each in listed.topics if each.name.startswith(beginnings)]
        asked = sorted({*others, *wanted.topics})
        described = {}
        for some in _cut([*asked, POSITIONS]):
            for each in self.line.ask(_about(some), "describe topics").topics:
                if each.error_code != _UNKNOWN_TOPIC:
                    self.line.hold(each, f"describe topic {each.name}")
                    described[each.name] = each
        settings: dict[str, Mapping[str, str]] = {}
        for some in _cut([name for name in asked if name in described]):
            settings |= self._settings(_CONFIGS_OF_TOPIC, some)
        return {name: _standing(each, settings.get(name, {})) for name, each in described.items()}

    def _settings(self, kind: int, names: Sequence[str], node: int | None = None) -> dict[str, Mapping[str, str]]:
        keys = _OF_BROKERS if kind == _CONFIGS_OF_BROKER else None
        resource = DescribeConfigsRequest.DescribeConfigsResource
        request = DescribeConfigsRequest(
            resources=[resource(resource_type=kind, resource_name=name, configuration_keys=keys) for name in names]
        )
        what = "read the settings of brokers" if kind == _CONFIGS_OF_BROKER else "read the settings of topics"
        found: dict[str, Mapping[str, str]] = {}
        for each in self.line.ask(request, what, node=node).results:
            self.line.hold(each, what)
            found[each.resource_name] = {entry.name: entry.value for entry in each.configs if entry.value is not None}
        return found

    def _acls(self) -> frozenset[Acl] | None:
        found: set[Acl] = set()
        for kind in _KIND_NAMES:
            request = DescribeAclsRequest(
                resource_type_filter=kind,
                resource_name_filter=None,
                pattern_type_filter=ACLResourcePatternType.ANY,
                principal_filter=None,
                host_filter=None,
                operation=ACLOperation.ANY,
                permission_type=ACLPermissionType.ANY,
            )
            answer = self.line.ask(request, "list access", passing=_NO_AUTHORIZER)
            if answer.error_code == _NO_AUTHORIZER:
                return None
            found.update(_acl(resource, each) for resource in answer.resources for each in resource.acls)
        return frozenset(found)

    def _quotas(self) -> dict[str, float]:
        component = DescribeClientQuotasRequest.ComponentData
        asked = component(entity_type=_USER, match_type=_ANY_NAME, match=None)
        answer = self.line.ask(DescribeClientQuotasRequest(components=[asked], strict=True), "list quotas")
        return {
            f"User:{entry.entity[0].entity_name}": value.value
            for entry in answer.entries or ()
            for value in entry.values
            if value.key == _RATE
        }

    def _groups(self, brokers: Iterable[int], topics: Iterable[str]) -> dict[str, frozenset[str]]:
        """Which groups read the topics: have written down how far, or have a member that reads now."""
        looked_at = frozenset(topics)
        found: defaultdict[str, set[str]] = defaultdict(set)
        seen = 0
        for node in brokers:  # each lists the groups that it looks after
            listed = self.line.ask(ListGroupsRequest(), "list groups", node=node).groups
            seen += len(listed)
            if seen > MAX_GROUPS:
                raise ClusterFailed(f"The cluster has more than {MAX_GROUPS} groups, more than can be looked at.")
            for some in _cut([each.group_id for each in listed]):
                for reader, topic in (*self._positions(some, node), *self._members(some, node)):
                    if topic in looked_at:
                        found[topic].add(reader)
        return {topic: frozenset(groups) for topic, groups in found.items()}

    def _positions(self, groups: Sequence[str], node: int) -> Iterator[tuple[str, str]]:
        one = OffsetFetchRequest.OffsetFetchRequestGroup
        request = OffsetFetchRequest(
            groups=[one(group_id=each, topics=None) for each in groups], min_version=8, max_version=8
        )
        for each in self.line.ask(request, "read the positions of groups", node=node).groups:
            self.line.hold(each, f"read the positions of group {each.group_id}")
            for topic in each.topics:
                yield each.group_id, topic.name

    def _members(self, groups: Sequence[str], node: int) -> Iterator[tuple[str, str]]:
        """Of groups whose members share partitions out among themselves; the brokers' own keep positions."""
        request = DescribeGroupsRequest(groups=list(groups))
        for each in self.line.ask(request, "describe groups", node=node).groups:
            for member in each.members if not each.error_code and each.protocol_type == "consumer" else ():
                if member.member_assignment:
                    assigned = ConsumerProtocolAssignment.decode(member.member_assignment)
                    for topic in assigned.assigned_partitions:
                        yield each.group_id, topic.topic

    def _make(self, change: Make) -> None:
        topic = CreateTopicsRequest.CreatableTopic
        made = topic(
            name=change.topic.name,
            num_partitions=change.topic.partitions,
            replication_factor=change.topic.replication,
            assignments=[],
            configs=[topic.CreatableTopicConfig(name=key, value=value) for key, value in change.topic.settings.items()],
        )
        request = CreateTopicsRequest(topics=[made], timeout_ms=int(self.line.seconds * 1000), validate_only=False)
        what = f"create topic {change.topic.name}"
        for each in self.line.ask(request, what).topics:
            self.line.hold(each, what)

    def _set(self, change: Set) -> None:
        """That one setting: all others stay as whoever set them wants them (KIP-339)."""
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource
        entry = resource.AlterableConfig(name=change.name, config_operation=_SET, value=change.value)
        of = resource(resource_type=_CONFIGS_OF_TOPIC, resource_name=change.topic, configs=[entry])
        what = f"set {change.name} of topic {change.topic}"
        for each in self.line.ask(IncrementalAlterConfigsRequest(resources=[of], validate_only=False), what).responses:
            self.line.hold(each, what)

    def _allow(self, acl: Acl) -> None:
        made = CreateAclsRequest.AclCreation(
            resource_type=_KINDS[acl.kind],
            resource_name=acl.name,
            resource_pattern_type=_pattern(acl),
            principal=acl.principal,
            host=acl.host,
            operation=_operation(acl),
            permission_type=ACLPermissionType.ALLOW,
        )
        what = f"write down that {acl.words}"
        for each in self.line.ask(CreateAclsRequest(creations=[made]), what).results:
            self.line.hold(each, what)

    def _revoke(self, acl: Acl) -> None:
        """Exactly that line."""
        line = DeleteAclsRequest.DeleteAclsFilter(
            resource_type_filter=_KINDS[acl.kind],
            resource_name_filter=acl.name,
            pattern_type_filter=_pattern(acl),
            principal_filter=acl.principal,
            host_filter=acl.host,
            operation=_operation(acl),
            permission_type=ACLPermissionType.ALLOW,
        )
        what = f"take away that {acl.words}"
        for each in self.line.ask(DeleteAclsRequest(filters=[line]), what).filter_results:
            self.line.hold(each, what)

    def _bound(self, change: Bound) -> None:
        entry = AlterClientQuotasRequest.EntryData
        altered = entry(
            entity=[entry.EntityData(entity_type=_USER, entity_name=change.principal.removeprefix("User:"))],
            ops=[entry.OpData(key=_RATE, value=float(change.rate or 0), remove=change.rate is None)],
        )
        what = f"change the quota of {change.principal}"
        for each in self.line.ask(AlterClientQuotasRequest(entries=[altered], validate_only=False), what).entries:
            self.line.hold(each, what)


@contextmanager
def opened(connection: Connection, files: Files) -> Iterator[Cluster]:
    """The cluster. Raises ClusterFailed; ValueError where a secret or a certificate cannot be used."""
    with Line(connection, files) as line:
        yield Cluster(line)


def _about(names: Sequence[str] | None) -> Any:
    """A question for these topics, or all; asking creates none."""
    topics = None if names is None else [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=False)


def _standing(topic: Any, settings: Mapping[str, str]) -> Standing:
    parts = topic.partitions
    return Standing(
        partitions=len(parts),
        replication=min((len(each.replica_nodes) for each in parts), default=0),
        in_sync=min((len(each.isr_nodes) for each in parts), default=0),
        leaderless=sum(each.leader_id < 0 for each in parts),
        settings=settings,
    )


def _acl(resource: Any, line: Any) -> Acl:
    return Acl(
        kind=_KIND_NAMES[ResourceType(resource.resource_type)],
        name=resource.resource_name,
        prefixed=resource.pattern_type == ACLResourcePatternType.PREFIXED,
        principal=line.principal,
        operation=_written(line.operation),
        allowed=line.permission_type == ACLPermissionType.ALLOW,
        host=line.host,
    )


def _written(operation: int) -> str:
    """``DESCRIBE_CONFIGS`` as Apache Kafka's own commands write it: ``DescribeConfigs``."""
    return "".join(word.capitalize() for word in ACLOperation(operation).name.split("_"))


_OPERATIONS = {_written(each): each for each in ACLOperation}


def _operation(acl: Acl) -> ACLOperation:
    return _OPERATIONS[acl.operation]


def _pattern(acl: Acl) -> ACLResourcePatternType:
    return ACLResourcePatternType.PREFIXED if acl.prefixed else ACLResourcePatternType.LITERAL


def _cut(names: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]
