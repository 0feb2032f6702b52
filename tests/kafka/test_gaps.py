"""Records that are gone before a group has read them, and topics that were deleted and created again."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import EventDict

from gateway.log import Gap, Record
from gateway.log.kafka import KafkaLog, KafkaOptions, ReaderPolicy
from gateway.log.kafka.offsets import Committed
from gateway.log.kafka.placement import Origin, origin, proceed
from gateway.log.kafka.record_format import partition_of
from gateway.log.kafka.topics import mark, marked
from tests.kafka.joined import commit, joined
from tests.kafka.surgery import create, delete, delete_records, recreate
from tests.kafka.traffic import TOPIC, event
from tests.log.contract import read

_QUICK = ReaderPolicy(session_s=6.0, probe_s=0.5, request_s=5.0)
_OLD, _NEW, _ELSEWHERE = "cluster/one", "cluster/two", "other/three"


def _options(bootstrap: str, prefix: str, partitions: int = 1) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=partitions)


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


# -- on Kafka -------------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_reader_with_old_metadata_notices_a_recreated_topic(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Also where its client sees no change, and whether the broker refuses the old offset or has records there."""
    options = _options(kafka, prefix)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    reader = await joined(log, [TOPIC])
    await _appended(log, 0, 30)
    while log.cursors.committed("gateway.billing") != {f"{TOPIC}-0": 30}:
        commit(log, await reader.fetch(max_records=30, wait_s=1.0))
    monkeypatch.setattr(reader.consumer._client.cluster, "update_metadata", lambda _: None)
    await recreate(options, TOPIC, 1)
    other = KafkaLog(options)
    await other.start()
    ids = await _appended(other, 100, 10 if is_refused else 90)
    found: set[str] = set()
    for _ in range(100):
        found |= {record.id for record in await reader.fetch(max_records=500, wait_s=0.5)}
        if found >= set(ids):
            break
    assert found == set(ids)
    await other.stop()
    await log.stop()


@pytest.mark.kafka
async def test_one_refused_partition_tells_of_all(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two partitions of a recreated topic one is refused and one has records at the old offset: both come whole."""
    options, name = _options(kafka, prefix, 2), f"{prefix}two"
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    of_first = [event(n, f"k{n}") for n in range(300) if partition_of(f"k{n}".encode(), 2) == 0]
    of_second = [event(n, f"k{n}") for n in range(300) if partition_of(f"k{n}".encode(), 2) == 1]
    await log.append([*of_first[:30], *of_second[:30]])
    reader = await log.browse(name, [TOPIC], start="earliest")
    await read(reader, 60)
    monkeypatch.setattr(reader.consumer._client.cluster, "update_metadata", lambda _: None)
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
    # The writer sees it too, sooner or later.
    assert [one for one in _told(lines, "kafka.recreated") if one[0] != "writer"] == [(name, TOPIC)]
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
