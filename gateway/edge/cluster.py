"""A Kafka cluster as whoever looks after it sees it: what it has, and each change, one at a time.

No process that serves imports this module, or the client it needs: ``gateway topics`` does, by name.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka.admin import ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourceType
from kafka.protocol.admin import (
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
)
from kafka.protocol.consumer import ConsumerProtocolAssignment, OffsetFetchRequest
from kafka.protocol.metadata import MetadataRequest

from gateway.catalogue.files import Files
from gateway.core.comparison import POSITIONS, difference
from gateway.core.kafka import Connection
from gateway.core.topics import TOPIC, Acl, Change, Found, Standing, Wanted
from gateway.edge.cluster_changes import KINDS, OF_TOPIC, RATE, USER, carry_out, written
from gateway.edge.kafka_line import Line, Silent
from gateway.protocols.kafka_link import ClusterFailed

AT_ONCE = 200
"""Topics, or groups, that one question asks for."""
MAX_GROUPS = 20_000
"""Groups that are looked at."""
BREATH_SECONDS = 0.1
"""Between two looks at whether a change has come to the brokers."""

T = TypeVar("T")

_OF_BROKER = 4
_UNKNOWN_TOPIC, _NO_AUTHORIZER = 3, 54
_KIND_NAMES = {kind: name for name, kind in KINDS.items()}
_OF_BROKERS = ("auto.create.topics.enable", "offsets.retention.minutes", "socket.request.max.bytes")
"""What an authorizer lets in where no line speaks is its own affair, and brokers tell nobody."""
_ANY_NAME = 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is asked and told over a line."""

    line: Line

    def carry_out(self, change: Change) -> None:
        """Make one change. Raises ClusterFailed."""
        carry_out(self.line, change)

    def settled(self, wanted: Wanted, made: Collection[Change]) -> bool:
        """Whether the brokers tell of them, within a line's patience: they hear of changes one after the other."""
        until = time.monotonic() + self.line.seconds
        while any(each in made for each in difference(wanted, self.found(wanted)).changes):
            if time.monotonic() > until:
                return False
            time.sleep(BREATH_SECONDS)
        return True

    def found(self, wanted: Wanted) -> Found:
        """What the cluster has of what is wanted, and what else it has of this instance. Raises ClusterFailed."""
        acls = self._acls()  # first: whoever may see them may see the rest
        brokers, away = self._brokers()
        topics = self._topics(wanted)
        return Found(
            brokers=brokers,
            topics=topics,
            acls=acls,
            quotas=self._quotas(),
            groups=self._groups(brokers, wanted.topics.keys() & topics.keys()),
            away=away,
        )

    def _brokers(self) -> tuple[Mapping[int, Mapping[str, str]], tuple[int, ...]]:
        """Those that answer, with their settings; and those that are in the list alone."""
        found: dict[int, Mapping[str, str]] = {}
        away = []
        for each in self.line.ask(DescribeClusterRequest(), "list the brokers").brokers:
            name = str(each.broker_id)
            try:
                found[each.broker_id] = self._settings(_OF_BROKER, [name], each.broker_id)[name]
            except Silent:
                away.append(each.broker_id)
        return found, tuple(away)

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
            settings |= self._settings(OF_TOPIC, some)
        return {name: _standing(each, settings.get(name, {})) for name, each in described.items()}

    def _settings(self, kind: int, names: Sequence[str], node: int | None = None) -> dict[str, Mapping[str, str]]:
        keys = _OF_BROKERS if kind == _OF_BROKER else None
        resource = DescribeConfigsRequest.DescribeConfigsResource
        request = DescribeConfigsRequest(
            resources=[resource(resource_type=kind, resource_name=name, configuration_keys=keys) for name in names]
        )
        what = "read the settings of brokers" if kind == _OF_BROKER else "read the settings of topics"
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
        asked = component(entity_type=USER, match_type=_ANY_NAME, match=None)
        answer = self.line.ask(DescribeClientQuotasRequest(components=[asked], strict=True), "list quotas")
        return {
            f"User:{entry.entity[0].entity_name}": value.value
            for entry in answer.entries or ()
            for value in entry.values
            if value.key == RATE
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
        operation=written(line.operation),
        allowed=line.permission_type == ACLPermissionType.ALLOW,
        host=line.host,
    )


def _cut(names: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]
