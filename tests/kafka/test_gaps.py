"""Records that are gone before a group has read them, and topics that were deleted and created again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import EventDict

from gateway.log import Begin, Record
from gateway.log.kafka import KafkaLog, KafkaOptions, KafkaReader, ReaderPolicy
from gateway.log.kafka.gaps import Committed, Gap, Origin, origin, proceed
from gateway.log.kafka.incarnation import mark, marked
from gateway.log.kafka.partitioner import partition_of
from gateway.log.kafka.positions import Positions
from gateway.telemetry.metrics import METRICS
from tests.kafka.surgery import create, delete, delete_records, recreate
from tests.kafka.traffic import TOPIC, event
from tests.log.contract import a_new_moment, commit_all, read

_QUICK = ReaderPolicy(session_s=6.0, heartbeat_s=0.5, commit_interval_s=0.1, probe_s=0.5, request_s=5.0)
_OLD, _NEW, _ELSEWHERE = "cluster/one", "cluster/two", "other/three"


def _options(bootstrap: str, prefix: str, partitions: int = 1) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=partitions)


def _skipped(group: str) -> float:
    return METRICS.counter("gateway_kafka_skipped_offsets").labels(group)._value.get()


def _recreations(group: str) -> float:
    return METRICS.counter("gateway_kafka_recreated_topics").labels(group)._value.get()


def _told(lines: list[EventDict], name: str) -> list[tuple[Any, ...]]:
    return [
        tuple(line[field] for field in ("group", "topic", "partition", "first", "last", "count") if field in line)
        for line in lines
        if line["event"] == name
    ]


async def _appended(log: KafkaLog, first: int, count: int, topic: str = TOPIC) -> list[str]:
    entries = [event(number, f"key-{number % 7}", topic) for number in range(first, first + count)]
    await log.append(entries)
    return [entry.id for entry in entries]


async def _opened(options: KafkaOptions, group: str, topic: str = TOPIC) -> tuple[KafkaLog, KafkaReader]:
    log = KafkaLog(options, reader_policy=_QUICK)
    return log, await log.reader(group, [topic], start="earliest")


# -- the decision ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from(["", _OLD, _NEW, _ELSEWHERE]), st.booleans())
def test_nothing_is_passed_over_in_silence(position: int, beginning: int, was: str, is_out: bool) -> None:
    """Reading goes on at the position, or at the beginning with a word on why; never further on than both."""
    offset, gap = proceed("sms.dr-0", position, beginning=beginning, was=was, now=_NEW, is_out_of_range=is_out)
    assert offset in {position, beginning}
    assert (offset == position) or (gap is not None)
    assert offset <= max(position, beginning)
    if gap is not None and gap.reason == "expired":
        assert (gap.first, gap.last) == (position, beginning - 1)
    assert (gap is not None and gap.reason == "deleted") == (
        was == _OLD or (is_out and position >= beginning and was != _NEW)
    )


def test_a_position_that_is_there_is_kept() -> None:
    """A position in range is kept, also one that another cluster or another program committed."""
    for was in ("", _NEW, _ELSEWHERE):
        assert proceed("p-0", 7, beginning=7, was=was, now=_NEW) == (7, None)
    assert proceed("p-0", 7, beginning=0, was=_OLD, now="") == (7, None)


def test_a_partition_that_lost_its_end_is_read_again() -> None:
    """Beyond the end of the same topic: again from the beginning, as what was appended since may stand below."""
    assert proceed("p-0", 9, beginning=2, was=_NEW, now=_NEW, is_out_of_range=True) == (
        2,
        Gap("p-0", 9, None, "truncated"),
    )


@pytest.mark.parametrize(
    ("others", "was", "expected"),
    [
        ([None, None], "", Origin()),  # a new group
        ([None, Committed(3, _NEW)], _NEW, Origin()),  # another process of the new group was quicker
        ([None, Committed(3, None)], "", Origin(is_at_start=True)),  # a partition that was added
        ([None, None], _OLD, Origin(is_recreated=True, is_at_start=True)),
        ([None, Committed(3, _OLD)], "", Origin(is_recreated=True, is_at_start=True)),
        ([None, None], _NEW, Origin(is_gone=True)),
        ([None, None], _ELSEWHERE, Origin(is_gone=True)),
    ],
)
def test_where_partitions_without_a_position_begin(others: list[Committed | None], was: str, expected: Origin) -> None:
    """At the group's time, or at the start of what is new to everybody."""
    assert origin(others, was=was, now=_NEW) == expected


def test_the_mark_of_a_commit_is_read_back() -> None:
    """Metadata of other programs is no incarnation; ours is, also the one of a broker that has none."""
    assert (marked(mark(_OLD)), marked(mark("")), marked(""), marked(None), marked("by hand")) == (
        _OLD,
        "",
        None,
        None,
        None,
    )


def test_a_commit_passes_a_gap_as_it_passes_a_record() -> None:
    """What is in flight before a gap holds the position; done, the position stands behind the gap."""
    positions = Positions(KafkaOptions(("x:1",)))
    positions.put("t-0", 0, None, is_kept=False)
    positions.read("t-0", 9)
    positions.commit("t-0", 4)
    positions.put("t-0", 30, Gap("t-0", 10, 29, "expired"), is_kept=False)
    assert (positions.committed("t-0"), positions.place("t-0")) == (4, 30)
    positions.commit("t-0", 9)
    assert positions.committed("t-0") == 9
    positions.commit("t-0", 10)
    assert positions.committed("t-0") == 30


# -- on Kafka -------------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.parametrize("topic", [TOPIC, "retry.billing.60s"])
async def test_what_expired_while_nobody_read_is_named(kafka: str, prefix: str, topic: str) -> None:
    """Records deleted before a stopped group had read them are counted and named with their offsets, once."""
    options, group = _options(kafka, prefix), f"{prefix}stopped.{topic}"
    log, reader = await _opened(options, group, topic)
    await log.start()
    await _appended(log, 0, 30, topic)
    commit_all(reader, await read(reader, 10, max_records=10))
    await log.stop()
    await delete_records(options, topic, 0, 25)
    with structlog.testing.capture_logs() as lines:
        log, reader = await _opened(options, group, topic)
        found = await read(reader, 5)
        assert [record.offset for record in found] == [25, 26, 27, 28, 29]
        commit_all(reader, found)
        await log.stop()
        log, reader = await _opened(options, group, topic)
        assert sum((await reader.lag()).values()) == 0
        await log.stop()
    assert _told(lines, "kafka.expired") == [(group, topic, f"{topic}-0", 10, 24, 15)]
    assert _skipped(group) == 15


@pytest.mark.kafka
async def test_what_expired_to_the_last_record_is_no_lag(kafka: str, prefix: str) -> None:
    """Everything gone: it is named, and the group's lag is 0 without a further record."""
    options, group = _options(kafka, prefix), f"{prefix}all"
    log, reader = await _opened(options, group)
    await log.start()
    await _appended(log, 0, 20)
    commit_all(reader, await read(reader, 5, max_records=5))
    await log.stop()
    await delete_records(options, TOPIC, 0, 20)
    with structlog.testing.capture_logs() as lines:
        log, reader = await _opened(options, group)
        assert list(await reader.fetch(max_records=10, wait_s=0.5)) == []
        assert sum((await reader.lag()).values()) == 0
        await log.stop()
    assert _told(lines, "kafka.expired") == [(group, TOPIC, f"{TOPIC}-0", 5, 19, 15)]


@pytest.mark.kafka
async def test_what_expired_while_a_reader_was_behind_is_named(kafka: str, prefix: str) -> None:
    """Records that go in front of a running reader are named; what it held in flight is still committed by itself."""
    options, group = _options(kafka, prefix), f"{prefix}running"
    writer = KafkaLog(options)
    await writer.start()
    ids = await _appended(writer, 0, 6)
    policy = ReaderPolicy(session_s=6.0, heartbeat_s=0.5, commit_interval_s=0.1, max_partition_fetch_bytes=600)
    log = KafkaLog(options, reader_policy=policy)
    reader = await log.reader(group, [TOPIC], start="earliest")
    held = await read(reader, 1, max_records=1)
    ids += await _appended(writer, 6, 94)
    await delete_records(options, TOPIC, 0, 90)
    with structlog.testing.capture_logs() as lines:
        rest: list[Record] = []
        while not rest or rest[-1].offset < 99:
            rest += await reader.fetch(max_records=500, wait_s=1.0)
    offsets = [record.offset for record in [*held, *rest]]
    [(_, _, _, first, last, count)] = _told(lines, "kafka.expired")
    assert offsets == [*range(first), *range(last + 1, 100)]
    assert (last, count) == (89, last - first + 1)
    assert _skipped(group) == count
    commit_all(reader, [*held, *rest])
    await reader.flush()
    assert sum((await reader.lag()).values()) == 0
    await log.stop()
    await writer.stop()


@pytest.mark.kafka
async def test_a_browsing_reader_names_what_it_missed(kafka: str, prefix: str) -> None:
    """A reader that belongs to no group names a gap too, and reads on behind it."""
    options, name = _options(kafka, prefix), f"{prefix}look"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    await _appended(log, 0, 20)
    reader = await log.browse(name, [TOPIC], start="earliest")
    await reader.seek(f"{TOPIC}-0", 3)
    await delete_records(options, TOPIC, 0, 15)
    with structlog.testing.capture_logs() as lines:
        # What aiokafka had fetched ahead of the deletion may still come.
        records: list[Record] = []
        while not records or records[-1].offset < 19:
            records += await reader.fetch(max_records=100, wait_s=0.5)
    missing = 17 - len(records)
    told = _told(lines, "kafka.expired")
    assert [count for *_, count in told] == ([missing] if missing else [])
    await log.stop()


@pytest.mark.kafka
async def test_a_client_that_comes_back_late_is_named_what_it_missed(kafka: str, prefix: str) -> None:
    """A seek to an offset that is gone goes to the first one kept, and names the records between."""
    options, name = _options(kafka, prefix), f"{prefix}stream"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    await _appended(log, 0, 20)
    await delete_records(options, TOPIC, 0, 15)
    reader = await log.browse(name, [TOPIC], start="latest")
    with structlog.testing.capture_logs() as lines:
        await reader.seek(f"{TOPIC}-0", 3)
        assert [record.offset for record in await read(reader, 5)] == [15, 16, 17, 18, 19]
    assert _told(lines, "kafka.expired") == [(name, TOPIC, f"{TOPIC}-0", 3, 14, 12)]
    await log.stop()


@pytest.mark.kafka
@pytest.mark.parametrize("again", [3, 10, 25])
async def test_a_topic_recreated_while_nobody_read_is_read_whole(kafka: str, prefix: str, again: int) -> None:
    """With fewer, as many, or more records than were read of the old one: all of the new one comes, and it is said."""
    options, group = _options(kafka, prefix), f"{prefix}gone-{again}"
    log, reader = await _opened(options, group)
    await log.start()
    await _appended(log, 0, 20)
    commit_all(reader, await read(reader, 10, max_records=10))
    await reader.flush()
    known = reader.incarnations()
    await log.stop()
    await recreate(options, TOPIC, 1)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    ids = await _appended(log, 100, again)
    with structlog.testing.capture_logs() as lines:
        reader = await log.reader(group, [TOPIC], start={TOPIC: Begin(1.0, known[TOPIC])})
        assert [record.id for record in await read(reader, again)] == ids
    assert reader.incarnations() != known
    assert _told(lines, "kafka.recreated") == [(group, TOPIC)]
    assert _recreations(group) == 1
    await log.stop()


@pytest.mark.kafka
@pytest.mark.parametrize(("before", "after"), [(1, 1), (3, 1), (1, 3)])
async def test_a_topic_recreated_under_a_reader_is_read_whole(kafka: str, prefix: str, before: int, after: int) -> None:
    """With as many, fewer or more partitions: the running reader gives up what it held and reads the new one whole."""
    options, group = _options(kafka, prefix, before), f"{prefix}under-{before}-{after}"
    log, reader = await _opened(options, group)
    await log.start()
    await _appended(log, 0, 30)
    commit_all(reader, await read(reader, 30))
    await reader.flush()
    with structlog.testing.capture_logs() as lines:
        await recreate(options, TOPIC, after)
        other = KafkaLog(options)
        await other.start()
        ids = await _appended(other, 100, 90)
        found = set()
        for _ in range(200):
            found |= {record.id for record in await reader.fetch(max_records=500, wait_s=0.5)}
            if found >= set(ids):
                break
        assert found == set(ids)
    assert _told(lines, "kafka.recreated") == [(group, TOPIC)]
    assert _recreations(group) == 1
    await other.stop()
    await log.stop()


@pytest.mark.kafka
async def test_positions_that_kafka_forgot_are_no_reason_to_skip(kafka: str, prefix: str) -> None:
    """A group that was deleted reads again from the time at which it began, and says so; an ordinary start does not."""
    options, group = _options(kafka, prefix, 2), f"{prefix}forgotten"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    await _appended(log, 0, 20)
    since = await a_new_moment(time.time())
    ids = await _appended(log, 100, 20)
    with structlog.testing.capture_logs() as lines:
        reader = await log.reader(group, [TOPIC], start={TOPIC: Begin(since)})
        commit_all(reader, await read(reader, 20))
        known = reader.incarnations()[TOPIC]
        await reader.close()
        reader = await log.reader(group, [TOPIC], start={TOPIC: Begin(since, known)})
        await reader.close()
        assert _told(lines, "kafka.positions_gone") == []
        assert len(_told(lines, "kafka.group_begins")) == 1
        admin = AdminClient({"bootstrap.servers": kafka})
        await asyncio.to_thread(admin.delete_consumer_groups([prefix + group])[prefix + group].result, 20)
        reader = await log.reader(group, [TOPIC], start={TOPIC: Begin(since, known)})
        assert {record.id for record in await read(reader, 20)} == set(ids)
    assert _told(lines, "kafka.positions_gone") == [(group, TOPIC)]
    assert _told(lines, "kafka.recreated") == []
    await log.stop()


@pytest.mark.kafka
async def test_the_start_of_a_group_is_durable_when_it_is_open(kafka: str, prefix: str) -> None:
    """Every partition has a committed position, with the topic's incarnation, before the first record is read."""
    options, group = _options(kafka, prefix, 3), f"{prefix}durable"
    log = KafkaLog(options)
    await log.start()
    await _appended(log, 0, 10)
    reader = await log.reader(group, [TOPIC], start={TOPIC: Begin(time.time() + 3600)})
    admin = AdminClient({"bootstrap.servers": kafka})
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(prefix + group)])
    kept = (await asyncio.to_thread(found[prefix + group].result, 20)).topic_partitions
    assert sum(item.offset for item in kept) == 10
    assert {item.metadata for item in kept} == {mark(reader.incarnations()[TOPIC])}
    assert len(kept) == 3
    await log.stop()


@pytest.mark.kafka
@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_reader_with_old_metadata_notices_a_recreated_topic(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Also where its client sees no change, and whether the broker refuses the old offset or has records there."""
    options, group = _options(kafka, prefix), f"{prefix}stale-{is_refused}"
    log, reader = await _opened(options, group)
    await log.start()
    await _appended(log, 0, 30)
    held = await read(reader, 30)
    monkeypatch.setattr(reader._member.consumer._client.cluster, "update_metadata", lambda _: None)
    await recreate(options, TOPIC, 1)
    other = KafkaLog(options)
    await other.start()
    ids = await _appended(other, 100, 10 if is_refused else 90)
    commit_all(reader, held)
    with structlog.testing.capture_logs() as lines:
        found = set()
        for _ in range(100):
            found |= {record.id for record in await reader.fetch(max_records=500, wait_s=0.5)}
            if found >= set(ids):
                break
    assert found == set(ids)
    assert _told(lines, "kafka.recreated") == [(group, TOPIC)]
    await other.stop()
    await log.stop()


@pytest.mark.kafka
@pytest.mark.parametrize("is_shared", [True, False])
async def test_one_refused_partition_tells_of_all(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    """Of two partitions of a recreated topic one is refused and one has records at the old offset: both come whole."""
    options, name = _options(kafka, prefix, 2), f"{prefix}two-{is_shared}"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    of_first = [event(n, f"k{n}") for n in range(300) if partition_of(f"k{n}".encode(), 2) == 0]
    of_second = [event(n, f"k{n}") for n in range(300) if partition_of(f"k{n}".encode(), 2) == 1]
    await log.append([*of_first[:30], *of_second[:30]])
    opening = log.reader if is_shared else log.browse
    reader = await opening(name, [TOPIC], start="earliest")
    await read(reader, 60)
    consumer = reader._member.consumer if isinstance(reader, KafkaReader) else reader.consumer
    monkeypatch.setattr(consumer._client.cluster, "update_metadata", lambda _: None)
    await recreate(options, TOPIC, 2)
    other = KafkaLog(options)
    await other.start()
    given = [*of_first[40:50], *of_second[40:120]]
    await other.append(given)
    with structlog.testing.capture_logs() as lines:
        found: set[str] = set()
        for _ in range(60):
            found |= {record.id for record in await reader.fetch(max_records=500, wait_s=0.5)}
            if found >= {entry.id for entry in given}:
                break
    assert found == {entry.id for entry in given}
    assert _told(lines, "kafka.recreated") == [(name, TOPIC)]
    await other.stop()
    await log.stop()


@pytest.mark.kafka
async def test_a_topic_recreated_under_a_browsing_reader_is_read_whole(kafka: str, prefix: str) -> None:
    """A reader without a group reads the new topic from its beginning too, with more partitions as well."""
    options, name = _options(kafka, prefix), f"{prefix}tail"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    await _appended(log, 0, 10)
    reader = await log.browse(name, [TOPIC], start="earliest")
    await read(reader, 10)
    await delete(options, TOPIC)
    await create(options, TOPIC, 3)
    other = KafkaLog(options)
    await other.start()
    ids = await _appended(other, 100, 60)
    assert {record.id for record in await read(reader, 60)} == set(ids)
    await other.stop()
    await log.stop()
