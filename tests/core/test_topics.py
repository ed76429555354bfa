"""What a Kafka cluster must have, and the difference to what it has: values in, values out."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.core import kafka
from gateway.core.comparison import POSITIONS, difference
from gateway.core.kafka import Cluster, Connection, Layout, Sasl, Share
from gateway.core.model import Agency, AgencyId, Standing, Way
from gateway.core.topics import (
    BROKERS,
    GROUP,
    TOPIC,
    Acl,
    Allow,
    Bound,
    Difference,
    Found,
    Make,
    Revoke,
    Set,
    Wanted,
    in_words,
    wanted,
)
from gateway.core.topics import Standing as TopicStanding
from tests.fakes.catalogues import agency, of

SASL = Sasl("SCRAM-SHA-512", "gateway", "gateway.kafka")
LAYOUT = Layout(partitions=12, replication=3, min_insync=2, retention=30 * 86400.0, max_bytes=1_048_576)
CLUSTER = Cluster(
    Connection(("127.0.0.1:9092",), sasl=SASL), "User:gateway", LAYOUT, {"tax": Share("User:CN=tax", 24, 1_000_000)}
)
OPEN = replace(CLUSTER, connection=Connection(("127.0.0.1:9092",)))
LETTERS = "TEST.agency.letters"
TAX, COURT = "TEST.agency.tax", "TEST.agency.tax_court"
BROKER = {"auto.create.topics.enable": "false", "offsets.retention.minutes": "129600"}


def reading(name: str, *services: str, receipts: bool = False) -> Agency:
    """An agency with one way by Kafka."""
    way = Way(AgencyId(name), "kafka", "kafka", services, receipts, None, {}, 5.0, 4, 100, Standing.ACTIVE)
    return replace(agency(name), deliveries=(way,))


def needed(cluster: Cluster = CLUSTER) -> Wanted:
    agencies = (agency("plain"), reading("tax", "*", receipts=True), reading("tax_court", "*"))
    return wanted(of(*agencies, instance="TEST"), cluster)


def sound(right: Wanted) -> Found:
    """A cluster that has everything."""
    topics = {
        name: TopicStanding(each.partitions, each.replication, 3, 0, each.settings)
        for name, each in right.topics.items()
    }
    quotas = {each: float(rate) for each, rate in right.quotas.items()}
    return Found(dict.fromkeys((1, 2, 3), BROKER), topics, right.acls, quotas)


def between(change: Callable[[Found], Found], cluster: Cluster = CLUSTER) -> Difference:
    right = needed(cluster)
    return difference(right, change(sound(right)))


def only(found: Found, name: str, **changed: object) -> Found:
    """The same with one topic changed."""
    topic = replace(found.topics[name], **changed)  # type: ignore[arg-type] # names of its fields
    return replace(found, topics={**found.topics, name: topic})


def test_nothing_lies_between_a_cluster_and_itself() -> None:
    """A sound cluster needs no change, and nothing is said about it."""
    assert between(lambda found: found) == Difference((), (), (), ())
    assert between(lambda found: found).sound


def test_only_agencies_that_read_kafka_have_topics() -> None:
    """Documents for whoever takes any, receipts for whoever wants them; an agency may have partitions of its own."""
    right = needed()
    assert {name: (each.agency, each.partitions) for name, each in right.topics.items()} == {
        TAX: ("tax", 24),
        "TEST.receipts.tax": ("tax", 24),
        COURT: ("tax_court", 12),
    }
    assert right.topics[TAX].settings == {
        "cleanup.policy": "delete",
        "retention.ms": "2592000000",
        "retention.bytes": "-1",
        "max.message.bytes": "1048576",
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "compression.type": "uncompressed",
    }
    assert right.quotas == {"User:CN=tax": 1_000_000}


def test_whoever_wants_receipts_alone_has_no_topic_for_documents() -> None:
    """Nothing would ever come there."""
    assert list(wanted(of(reading("tax", receipts=True)), CLUSTER).topics) == ["DEMO.receipts.tax"]


def test_access_is_as_narrow_as_can_be() -> None:
    """The gateway writes, the agency reads, each on that agency's topics; nobody else does anything."""
    lines = {each.words for each in needed().acls if "tax_court" in each.words}
    assert lines == {
        "User:gateway may Write topic TEST.agency.tax_court",
        "User:gateway may Describe topic TEST.agency.tax_court",
        "User:tax_court may Read topic TEST.agency.tax_court",
        "User:tax_court may Describe topic TEST.agency.tax_court",
        "User:tax_court may Read group TEST.agent.tax_court",
        "User:tax_court may Read groups that begin with TEST.agent.tax_court.",
    }


def test_no_agency_may_join_the_group_of_one_whose_name_begins_like_its_own() -> None:
    """``tax`` could take partitions from the agents of ``tax_court``, and move its positions."""
    mine = [each for each in needed().acls if each.principal == "User:CN=tax" and each.kind == GROUP]
    assert len(mine) == 2
    assert not any(each.covers(GROUP, kafka.group("TEST", "tax_court")) for each in mine)
    assert any(each.covers(GROUP, "TEST.agent.tax.archive") for each in mine)


def test_what_is_missing_is_made() -> None:
    """On an empty cluster everything is: topics first, then access, then quotas."""
    found = between(lambda found: Found(found.brokers, {}, frozenset(), {}))
    kinds = [type(each) for each in found.changes]
    assert kinds == [Make] * 3 + [Allow] * len(needed().acls) + [Bound]
    assert not any(each.takes for each in found.changes)
    sign, words = in_words(found.changes[2])
    assert (sign, words.partition(",")[0]) == ("+", "create topic TEST.agency.tax_court: 12 partitions")


@pytest.mark.parametrize(
    ("setting", "value", "takes"),
    [
        ("min.insync.replicas", "1", False),
        ("unclean.leader.election.enable", "true", False),
        ("compression.type", "producer", False),
        ("cleanup.policy", "compact", False),
        ("retention.ms", "86400000", False),
        ("retention.ms", "2592000001", True),
        ("retention.ms", "-1", True),
        ("retention.bytes", "1", False),
    ],
)
def test_a_setting_that_differs_is_set(setting: str, value: str, takes: bool) -> None:  # noqa: FBT001 - a case's column
    """That one alone; where records that are kept now would go, only when somebody asks for it."""
    right = needed().topics[TAX].settings
    found = between(lambda found: only(found, TAX, settings={**right, "segment.ms": "1", setting: value}))
    assert found.changes == (Set(TAX, setting, value, right[setting]),)
    assert found.changes[0].takes is takes
    assert ("records older than that go" in in_words(found.changes[0])[1]) is takes


def test_partitions_and_copies_are_never_changed() -> None:
    """It says what to do instead."""
    found = between(lambda found: only(found, COURT, partitions=6, replication=1, in_sync=1))
    assert found.changes == ()
    assert [each.partition(":")[0] for each in found.refused] == [
        "topic TEST.agency.tax_court has 6 partitions, not 12, and keeps them for life",
        "topic TEST.agency.tax_court has 1 copy, not 3",
    ]
    assert "Write tax_court: {partitions: 6} under agencies in kafka.yaml" in found.refused[0]
    assert not found.sound


STRANGER = Acl(TOPIC, TAX, prefixed=False, principal="User:other", operation="Read")


@pytest.mark.parametrize(
    "acl",
    [
        STRANGER,
        replace(STRANGER, principal="User:tax_court"),
        replace(STRANGER, principal="User:CN=tax", operation="Write"),
        replace(STRANGER, name="TEST.agency.", prefixed=True),
        replace(STRANGER, name="TEST.agency.gone", principal="User:gateway", operation="Write"),
        Acl(GROUP, "TEST.agent.tax", prefixed=True, principal="User:CN=tax", operation="Read"),
    ],
)
def test_access_that_nobody_needs_is_taken_away_when_asked(acl: Acl) -> None:
    """To what is this instance's alone; it is a finding either way."""
    found = between(lambda found: replace(found, acls=(found.acls or frozenset()) | {acl}))
    assert (found.changes, found.amiss) == ((Revoke(acl),), ())
    assert found.changes[0].takes
    assert in_words(found.changes[0])[0] == "-"


@pytest.mark.parametrize(
    "acl",
    [
        replace(STRANGER, name="*"),
        replace(STRANGER, name="TEST.", prefixed=True),
        replace(STRANGER, name="*", principal="User:*", operation="All"),
        Acl(GROUP, "*", prefixed=False, principal="User:other", operation="Read"),
        replace(STRANGER, allowed=False, principal="User:CN=tax"),
        replace(STRANGER, allowed=False, name="*", principal="User:gateway", operation="Write"),
    ],
)
def test_access_that_speaks_of_more_is_for_people(acl: Acl) -> None:
    """Others may need the line for what is theirs: it is told, and no program takes it away."""
    found = between(lambda found: replace(found, acls=(found.acls or frozenset()) | {acl}))
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith(acl.words)


@pytest.mark.parametrize(
    "acl",
    [
        replace(STRANGER, operation="Describe"),
        replace(STRANGER, name="*", operation="DescribeConfigs"),
        replace(STRANGER, name="OTHER.agency.tax"),
        replace(STRANGER, name="TEST.agency", prefixed=False),
        replace(STRANGER, name="*", principal="User:gateway", operation="Write"),
        Acl(GROUP, "monitoring", prefixed=False, principal="User:other", operation="Read"),
        Acl(BROKERS, "kafka-cluster", prefixed=False, principal="User:somebodys-administrator", operation="Alter"),
        Acl(BROKERS, "kafka-cluster", prefixed=False, principal="User:gateway", operation="IdempotentWrite"),
        Acl(BROKERS, "kafka-cluster", prefixed=False, principal="User:CN=tax", operation="Alter", allowed=False),
    ],
)
def test_what_harms_nobody_is_left_alone(acl: Acl) -> None:
    """Whoever only looks, and whoever reads something else."""
    assert between(lambda found: replace(found, acls=(found.acls or frozenset()) | {acl})).sound


@pytest.mark.parametrize("principal", ["User:CN=tax", "User:tax_court", "User:gateway", "User:*"])
@pytest.mark.parametrize("operation", ["All", "Alter", "AlterConfigs", "ClusterAction", "Create"])
def test_nobody_who_reads_or_writes_rules_the_cluster(principal: str, operation: str) -> None:
    """Whoever may alter it gives himself any access; a program takes away none of it."""
    acl = Acl(BROKERS, "kafka-cluster", prefixed=False, principal=principal, operation=operation)
    found = between(lambda found: replace(found, acls=(found.acls or frozenset()) | {acl}))
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith(f"{principal} may {operation} cluster kafka-cluster: ")


def test_brokers_that_ask_nobody_are_amiss_where_the_gateway_logs_in() -> None:
    """Where it does not, which is for a desk alone, it is told, and no access is asked for."""
    found = between(lambda found: replace(found, acls=None))
    assert (found.changes, "authorizer.class.name" in found.amiss[0]) == ((), True)
    found = between(lambda found: replace(found, acls=None), OPEN)
    assert (found.sound, found.notes[0].partition(":")[0]) == (True, "nobody logs in to this cluster")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"auto.create.topics.enable": "true"}, "broker 2 creates topics by itself"),
        ({"auto.create.topics.enable": None}, "broker 2 creates topics by itself"),
        ({"offsets.retention.minutes": "10080"}, "broker 2 forgets after 7 days how far an agency has read"),
        ({"socket.request.max.bytes": "1048575"}, "broker 2 takes no request over 1048575 bytes"),
    ],
)
def test_a_broker_that_endangers_documents_is_named(settings: dict[str, str | None], why: str) -> None:
    """With the setting and its reason, whichever of them it is."""
    one = {name: value for name, value in {**BROKER, **settings}.items() if value is not None}
    found = between(lambda found: replace(found, brokers={**found.brokers, 2: one}))
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith(why)


def test_too_few_brokers_are_told() -> None:
    """No topic with three copies can be created on two."""
    found = between(lambda found: replace(found, brokers={1: BROKER, 2: BROKER}))
    assert found.amiss[0].startswith("2 brokers are there, and each record is to be on 3")


def test_a_broker_that_does_not_answer_is_named() -> None:
    """Also where enough others are there."""
    found = between(lambda found: replace(found, away=(4,)))
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith("broker 4 is in the list and does not answer")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"in_sync": 1}, "topic TEST.agency.tax: a partition has 1 copy up to date and needs 2"),
        ({"in_sync": 0, "leaderless": 2}, "topic TEST.agency.tax: nobody leads 2 of its partitions"),
    ],
)
def test_a_topic_whose_documents_wait_is_named(changed: dict[str, int], why: str) -> None:
    """Brokers are away: nothing is to be changed about the topic."""
    found = between(lambda found: only(found, TAX, **changed))
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith(why)


def test_positions_that_one_broker_alone_keeps_are_told() -> None:
    """An agency would forget how far it has read."""
    kept = TopicStanding(50, 1, 1, 0, {})
    found = between(lambda found: replace(found, topics={**found.topics, POSITIONS: kept}))
    assert found.amiss[0].startswith("__consumer_offsets has 1 copy, not 3")


def test_groups_that_are_not_the_agencys_are_named() -> None:
    """Its agents' group, and those that begin with it and a dot, are its own; one of a like name is a stranger."""
    groups = frozenset({"TEST.agent.tax", "TEST.agent.tax.archive", "TEST.agent.tax_court", "console-consumer-1"})
    found = between(lambda found: replace(found, groups={TAX: groups, "elsewhere": frozenset({"x"})}))
    assert [each.partition(" and is not")[0] for each in found.amiss] == [
        "the group TEST.agent.tax_court reads topic TEST.agency.tax",
        "the group console-consumer-1 reads topic TEST.agency.tax",
    ]


def test_topics_of_agencies_that_left_are_told() -> None:
    """They are neither deleted nor an error: what is in them may yet be read. Other instances' are not looked at."""
    old = TopicStanding(12, 3, 3, 0, {})
    found = between(lambda found: replace(found, topics={**found.topics, LETTERS: old, "OTHER.agency.letters": old}))
    assert (found.sound, len(found.notes)) == (True, 1)
    assert "kafka-topics.sh --delete --topic TEST.agency.letters" in found.notes[0]


def test_quotas_are_set_and_strange_ones_are_told() -> None:
    """Of agencies that read here: whoever else has one is not looked at."""
    found = between(lambda found: replace(found, quotas={"User:tax_court": 5.0, "User:other": 5.0}))
    assert found.changes == (Bound("User:CN=tax", 1_000_000), Bound("User:tax_court", None))
    assert [each.takes for each in found.changes] == [False, True]
    assert [in_words(each)[0] for each in found.changes] == ["+", "-"]


def test_a_catalogue_without_readers_needs_nothing() -> None:
    """And says so."""
    found = difference(wanted(of(agency("plain")), CLUSTER), Found({1: BROKER}, {}, None, {}))
    assert (found.sound, found.notes) == (True, ("no agency of the catalogue comes by Kafka: nothing is needed",))
