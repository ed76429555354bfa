"""Each change to a Kafka cluster, as one question to a broker: made, or a sentence that says why not."""

from typing import assert_never

from kafka.admin import ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourceType
from kafka.protocol.admin import (
    AlterClientQuotasRequest,
    CreateAclsRequest,
    CreateTopicsRequest,
    DeleteAclsRequest,
    IncrementalAlterConfigsRequest,
)

from gateway.core.topics import BROKERS, GROUP, TOPIC, Acl, Allow, Bound, Change, Make, Revoke, Set
from gateway.edge.kafka_line import Line

KINDS = {TOPIC: ResourceType.TOPIC, GROUP: ResourceType.GROUP, BROKERS: ResourceType.CLUSTER}
OF_TOPIC = 2
"""A resource that has settings."""
RATE, USER = "consumer_byte_rate", "user"
"""What is bounded, and for whom."""
_SET = 0


def carry_out(line: Line, change: Change) -> None:
    """Make one change. Raises ClusterFailed."""
    match change:
        case Make():
            _make(line, change)
        case Set():
            _set(line, change)
        case Allow():
            _allow(line, change.acl)
        case Revoke():
            _revoke(line, change.acl)
        case Bound():
            _bound(line, change)
        case _:
            assert_never(change)


def written(operation: int) -> str:
    """``DESCRIBE_CONFIGS`` as Apache Kafka's own commands write it: ``DescribeConfigs``."""
    return "".join(word.capitalize() for word in ACLOperation(operation).name.split("_"))


_OPERATIONS = {written(each): each for each in ACLOperation}


def _make(line: Line, change: Make) -> None:
    topic = CreateTopicsRequest.CreatableTopic
    made = topic(
        name=change.topic.name,
        num_partitions=change.topic.partitions,
        replication_factor=change.topic.replication,
        assignments=[],
        configs=[topic.CreatableTopicConfig(name=key, value=value) for key, value in change.topic.settings.items()],
    )
    request = CreateTopicsRequest(topics=[made], timeout_ms=int(line.seconds * 1000), validate_only=False)
    what = f"create topic {change.topic.name}"
    for each in line.ask(request, what).topics:
        line.hold(each, what)


def _set(line: Line, change: Set) -> None:
    """That one setting: all others stay as whoever set them wants them (KIP-339)."""
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource
    entry = resource.AlterableConfig(name=change.name, config_operation=_SET, value=change.value)
    of = resource(resource_type=OF_TOPIC, resource_name=change.topic, configs=[entry])
    what = f"set {change.name} of topic {change.topic}"
    for each in line.ask(IncrementalAlterConfigsRequest(resources=[of], validate_only=False), what).responses:
        line.hold(each, what)


def _allow(line: Line, acl: Acl) -> None:
    made = CreateAclsRequest.AclCreation(
        resource_type=KINDS[acl.kind],
        resource_name=acl.name,
        resource_pattern_type=_pattern(acl),
        principal=acl.principal,
        host=acl.host,
        operation=_OPERATIONS[acl.operation],
        permission_type=ACLPermissionType.ALLOW,
    )
    what = f"write down that {acl.words}"
    for each in line.ask(CreateAclsRequest(creations=[made]), what).results:
        line.hold(each, what)


def _revoke(line: Line, acl: Acl) -> None:
    """Exactly that line."""
    exactly = DeleteAclsRequest.DeleteAclsFilter(
        resource_type_filter=KINDS[acl.kind],
        resource_name_filter=acl.name,
        pattern_type_filter=_pattern(acl),
        principal_filter=acl.principal,
        host_filter=acl.host,
        operation=_OPERATIONS[acl.operation],
        permission_type=ACLPermissionType.ALLOW,
    )
    what = f"take away that {acl.words}"
    for each in line.ask(DeleteAclsRequest(filters=[exactly]), what).filter_results:
        line.hold(each, what)


def _bound(line: Line, change: Bound) -> None:
    entry = AlterClientQuotasRequest.EntryData
    altered = entry(
        entity=[entry.EntityData(entity_type=USER, entity_name=change.principal.removeprefix("User:"))],
        ops=[entry.OpData(key=RATE, value=float(change.rate or 0), remove=change.rate is None)],
    )
    what = f"change the quota of {change.principal}"
    for each in line.ask(AlterClientQuotasRequest(entries=[altered], validate_only=False), what).entries:
        line.hold(each, what)


def _pattern(acl: Acl) -> ACLResourcePatternType:
    return ACLResourcePatternType.PREFIXED if acl.prefixed else ACLResourcePatternType.LITERAL
