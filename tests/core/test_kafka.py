"""Where a lane's records lie: the partition that every client of Kafka would choose."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.kafka import partition


@given(st.binary(max_size=80), st.integers(1, 1000))
def test_a_key_has_the_partition_that_others_would_choose(key: bytes, partitions: int) -> None:
    """The same as aiokafka's, which is the same as the Java client's."""
    assert partition(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_a_key_never_changes_its_partition() -> None:
    """Nodes of different versions write to one topic: these are fixed for ever."""
    assert [partition(key, 12) for key in (b"", b"a", b"ab" * 32, b"\xff" * 7)] == [9, 4, 9, 7]
