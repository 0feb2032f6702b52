"""Our murmur2 against aiokafka's, which is tested against Java's."""

from __future__ import annotations

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from gateway.log.kafka.partitioner import hash_of, hashes_of, partition_of


@given(st.lists(st.binary(max_size=70), max_size=60))
def test_many_keys_at_once_are_hashed_as_kafka_does(keys: list[bytes]) -> None:
    """Any keys, of any lengths together, hash as Kafka's default partitioner hashes each."""
    assert hashes_of(keys) == [murmur2(key) & 0x7FFFFFFF for key in keys]


@given(st.integers(0, 40).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), max_size=50)))
def test_keys_of_one_length_are_hashed_as_kafka_does(keys: list[bytes]) -> None:
    """The fast way for keys of one length gives the same numbers as the way for one key."""
    assert hashes_of(keys) == [hash_of(key) for key in keys]


def test_partitions_are_those_of_java() -> None:
    """Numbers of Kafka's own test, ``UtilsTest.testMurmur2``."""
    cases = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: hash_of(key) for key in cases} == {key: number & 0x7FFFFFFF for key, number in cases.items()}
    assert partition_of(b"foobar", 6) == (-790332482 & 0x7FFFFFFF) % 6
