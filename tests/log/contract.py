"""What every :class:`gateway.log.EventLog` promises. ``test_contract`` runs this on the journal and on Kafka.

A subject opens the same log again as a process that was restarted would: whatever was not made durable is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from gateway.log import Entry, EventLog, LogReader, Record
from tests.waiting import until

#: For what must come. Kafka's join of a group and a busy machine are what takes long.
PATIENCE_S = 40.0


class Subject(Protocol):
    """A log that can be opened again."""

    async def open(self) -> EventLog: ...

    async def close(self) -> None:
        """As a process that ends: readers that are open are left behind."""


def entry(number: int, key: str = "", topic: str = "sms.dr", headers: tuple[tuple[str, str], ...] = ()) -> Entry:
    """A small event."""
    id_ = hashlib.md5(f"{topic}/{number}".encode()).hexdigest()
    value = f'{{"specversion":"1.0","id":"{id_}","data":{{"n":{number},"text":"Привет 你好"}}}}'.encode()
    return Entry(topic, key or f"key-{number}", id_, value, headers)


def entries(count: int, keys: int = 10, topic: str = "sms.dr") -> list[Entry]:
    """``count`` events spread over ``keys`` keys."""
    return [entry(number, f"key-{number % keys}", topic) for number in range(count)]


async def read(reader: LogReader, count: int, *, max_records: int = 500) -> list[Record]:
    """Exactly ``count`` records, or a failure that says how many came."""
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < deadline:
        found += await reader.fetch(max_records=max_records, wait_s=1.0)
    assert len(found) == count
    return found


def by_key(records: Sequence[Record | Entry]) -> dict[str, list[str]]:
    """Ids of each key in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        found[record.key].append(record.id)
    return dict(found)


async def a_new_moment(after: float) -> float:
    """A time that is later than ``after`` by more than clocks and time stamps are coarse."""
    return await until(lambda: (now := time.time()) > after + 0.02 and now)


class EventLogContract:
    """Subclass, or parametrise the fixture ``subject``."""

    async def test_what_is_appended_is_read_back_whole(self, subject: Subject) -> None:
        """Topic, key, id, headers and the value's bytes come back as they were given, with a place and a time."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr", "call.event"], start="earliest")
        given = [*entries(40), entry(7, "k", "call.event", (("attempts", "3"), ("reason", "мимо")))]
        before = time.time()
        await log.append(given)
        records = await read(reader, 41)
        assert sorted(record[3:] for record in records) == sorted(tuple(item) for item in given)
        assert all(before - 1 <= record.appended_at <= time.time() + 1 for record in records)
        assert len({(record.partition, record.offset) for record in records}) == 41

    async def test_records_of_one_key_keep_their_order(self, subject: Subject) -> None:
        """Appends made one after another are read in this order, for each key, and offsets of a partition rise."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        given = entries(300, keys=7)
        for start in range(0, 300, 30):
            await log.append(given[start : start + 30])
        records = await read(reader, 300, max_records=37)
        assert by_key(records) == by_key(given)
        last: dict[str, int] = {}
        for record in records:
            assert last.get(record.partition, -1) < record.offset
            last[record.partition] = record.offset

    async def test_appends_at_the_same_time_are_all_stored(self, subject: Subject) -> None:
        """Many tasks may append at once; each returns when its own entries are durable."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        given = entries(200)
        await asyncio.gather(*(log.append(given[start : start + 5]) for start in range(0, 200, 5)))
        assert sorted(record.id for record in await read(reader, 200)) == sorted(item.id for item in given)

    async def test_fetch_is_bounded_by_count_and_time(self, subject: Subject) -> None:
        """No more than ``max_records`` come at once, and nothing comes as an empty answer after ``wait_s``."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        started = time.monotonic()
        assert list(await reader.fetch(max_records=10, wait_s=0.3)) == []
        assert time.monotonic() - started < 10
        await log.append(entries(25))
        sizes = []
        while sum(sizes) < 25:
            sizes.append(len(await reader.fetch(max_records=10, wait_s=1.0)))
        assert max(sizes) <= 10

    async def test_reading_begins_where_it_was_told(self, subject: Subject) -> None:
        """``latest`` sees what is appended after the reader was opened, ``earliest`` sees all."""
        log = await subject.open()
        await log.append(entries(5))
        latest = await log.browse("late", ["sms.dr"], start="latest")
        earliest = await log.browse("early", ["sms.dr"], start="earliest")
        await log.append([entry(100)])
        assert [record.id for record in await read(latest, 1)] == [entry(100).id]
        assert len(await read(earliest, 6)) == 6

    async def test_topics_are_told_apart(self, subject: Subject) -> None:
        """A reader gets the topics it asked for; internal topics are streams of their own."""
        log = await subject.open()
        parked = entry(9, "k", "retry.billing.60", (("attempts", "2"),))
        calls = await log.browse("calls", ["call.event"], start="earliest")
        retries = await log.browse("retries", ["retry.billing.60"], start="earliest")
        await log.append([entry(1), entry(2, topic="call.event"), entry(3)])
        await log.append([parked])
        assert [record.topic for record in await read(calls, 1)] == ["call.event"]
        found = (await read(retries, 1))[0]
        assert Entry(*found[3:]) == parked

    async def test_a_paused_partition_gives_nothing_until_resumed(self, subject: Subject) -> None:
        """Pausing loses no position: after it the next record follows the last one read."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        await log.append(entries(10, keys=1))
        first = await read(reader, 4, max_records=4)
        partition = first[0].partition
        reader.pause([partition])
        assert list(await reader.fetch(max_records=10, wait_s=0.5)) == []
        reader.resume([partition])
        assert [record.offset for record in await read(reader, 6)] == [first[-1].offset + n for n in range(1, 7)]

    async def test_seek_goes_back_and_forward(self, subject: Subject) -> None:
        """After a seek the record at that offset is the next one."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        await log.append(entries(10, keys=1))
        records = await read(reader, 10)
        place = records[3]
        await reader.seek(place.partition, place.offset)
        assert [record.id for record in await read(reader, 7)] == [record.id for record in records[3:]]
        await reader.seek(place.partition, records[8].offset)
        assert [record.id for record in await read(reader, 2)] == [record.id for record in records[8:]]

    async def test_seek_beyond_what_is_there_loses_nothing(self, subject: Subject) -> None:
        """An offset past the end means the end: what is appended next is read next, and nothing else."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        await log.append(entries(5, keys=1))
        records = await read(reader, 5)
        await reader.seek(records[0].partition, records[-1].offset + 1000)
        await log.append([entry(100, "key-0")])
        assert [record.id for record in await read(reader, 1)] == [entry(100).id]

    async def test_seek_to_time_finds_the_first_record_of_that_time(self, subject: Subject) -> None:
        """A time in between starts at what was appended after it; a time to come at what is yet to be appended."""
        log = await subject.open()
        reader = await log.browse("g", ["sms.dr"], start="earliest")
        await log.append(entries(8))
        early = await read(reader, 8)
        between = await a_new_moment(max(record.appended_at for record in early))
        await a_new_moment(between)
        await log.append([entry(100), entry(101)])
        await read(reader, 2)
        await reader.seek_to_time(between)
        assert sorted(record.id for record in await read(reader, 2)) == sorted([entry(100).id, entry(101).id])
        await reader.seek_to_time(early[0].appended_at - 5)
        assert len(await read(reader, 10)) == 10
        await reader.seek_to_time(time.time() + 60)
        await log.append([entry(102)])
        assert [record.id for record in await read(reader, 1)] == [entry(102).id]

    async def test_browsers_of_one_name_each_have_everything(self, subject: Subject) -> None:
        """Any number of them read all partitions at a time, and leave nothing behind that the next one would meet."""
        log = await subject.open()
        await log.append(entries(20))
        one = await log.browse("look", ["sms.dr"], start="earliest")
        two = await log.browse("look", ["sms.dr"], start="earliest")
        late = await log.browse("look", ["sms.dr"], start="latest")
        assert len(await read(one, 20)) == len(await read(two, 20)) == 20
        await log.append([entry(100)])
        for reader in (one, two, late):
            assert [record.id for record in await read(reader, 1)] == [entry(100).id]
        await one.close()
        await one.close()
        again = await log.browse("look", ["sms.dr"], start="earliest")
        assert len(await read(again, 21)) == 21

    async def test_positions_reach_the_ends_when_all_is_read(self, subject: Subject) -> None:
        """Ends and positions count in offsets; what is of another topic is passed over and counts as read."""
        log = await subject.open()
        await log.append([*entries(12), *entries(5, topic="call.event")])
        reader = await log.browse("look", ["sms.dr"], start="earliest")
        ends = await reader.ends()
        before = await reader.positions()
        assert before.keys() == ends.keys()
        assert sum(ends.values()) - sum(before.values()) >= 12
        await read(reader, 12)
        await reader.fetch(max_records=1, wait_s=0.1)
        assert await reader.positions() == ends == await reader.ends()
        await reader.seek_to_time(0.0)
        assert await reader.positions() == before
