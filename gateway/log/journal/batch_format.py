"""Batches: what waits for one commit, without repeats; its bytes in the file; and the newest ones in memory.

A commit stores one row for each stream, with all of its records, back to back, and a checksum. One row for each commit
instead of each event makes a durable accept cheap: all callbacks that arrived while the previous commit ran share the
cost of one commit.

A record is a head of 30 bytes, big-endian, and its parts in the order of the head:

    u16 topic length · u32 key length · u32 headers length · u32 value length · 16 bytes id
    topic (UTF-8) · key (UTF-8) · headers (JSON list of pairs, empty when none) · value (as given)

The checksum is CRC-32 over the records and over the other columns of the row. SQLite does not verify its pages, so
a flipped bit in a value would otherwise be published as if the platform had sent it.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from gateway.errors import JournalDamaged
from gateway.log import ALL_NEW, Appended, Entry, Record

#: The stream of all vendor events, whatever their topic: they share one order and one commit.
EVENTS: Final = "events"
#: Topics that get a stream of their own; ``internal.`` are those that :mod:`.check` names.
_INTERNAL: Final = ("retry.", "dlq.", "replay.", "fanout.", "internal.")
#: Another such topic, shared by all subscribers.
_REPLAY: Final = "replay"
#: The key of a row is ``stream << SHIFT | offset``. 2^44 records in one stream is 500 years at a thousand a second;
#: 2^19 streams are left.
SHIFT: Final = 44
MASK: Final = (1 << SHIFT) - 1

_HEAD = struct.Struct(">HIII16s")
#: A count that no other count confirms is rejected above this. No commit has so many records; the offsets that a wrong
#: count skips are reported as damaged, and ten times more would be ten times more of them.
_MOST_BLIND = 1_000_000

#: Some thousand events. Ten times less and a subscriber that pauses for a tenth of a second reads from disk; ten times
#: more is memory without use: reading from the file costs two microseconds an event, from the page cache.
_CACHE_BYTES: Final = 4 * 1024 * 1024
#: Memory of a decoded record in addition to its bytes: the tuple, its texts, the time.
_DECODED_BYTES: Final = 500


def stream_of(topic: str) -> str:
    """Return the stream that holds a topic: internal topics have one each, vendor events share one."""
    return topic if topic.startswith(_INTERNAL) or topic == _REPLAY else EVENTS


def encode(entry: Entry) -> bytes:
    """Return the bytes of one record.

    Raises:
        ValueError: the id is not 32 hex digits, or a text cannot be UTF-8.
    """
    topic, key, event_id, value, headers = entry
    raw_id = bytes.fromhex(event_id)
    if len(raw_id) != 16:
        raise ValueError(f"an event id has 32 hex digits, not {len(event_id)}")
    topic_bytes, key_bytes = topic.encode(), key.encode()
    headers_bytes = orjson.dumps(headers) if headers else b""
    head = _HEAD.pack(len(topic_bytes), len(key_bytes), len(headers_bytes), len(value), raw_id)
    return b"".join((head, topic_bytes, key_bytes, headers_bytes, value))


def scan(blob: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """Return for each record its first byte, the byte behind its last, its topic (UTF-8) and its id (16 bytes).

    Other fields are not parsed: the log process calls this for every event.

    Raises:
        ValueError: the bytes are not whole records.
    """
    found: list[tuple[int, int, bytes, bytes]] = []
    unpack, head_size = _HEAD.unpack_from, _HEAD.size
    at, size = 0, len(blob)
    try:
        while at < size:
            topic_len, key_len, headers_len, value_len, raw_id = unpack(blob, at)
            topic_end = at + head_size + topic_len
            end = topic_end + key_len + headers_len + value_len
            found.append((at, end, blob[topic_end - topic_len : topic_end], raw_id))
            at = end
    except struct.error as exc:
        raise ValueError("the bytes end within a record's head") from exc
    if at != size:
        raise ValueError("the bytes end within a record")
    return found


@lru_cache(4096)
def _place(topic: bytes) -> tuple[str, str]:
    """Return a topic as text, and the stream that holds it."""
    text = topic.decode()
    return text, stream_of(text)


class KnownIds:
    """Remembers at least the newest ``size`` ids of 16 bytes; 0 remembers none.

    Two generations: new ids are added to the young one; when it is full, it replaces the old one. So the window has
    between ``size`` and twice ``size`` ids, of about 90 bytes each, and needs no bookkeeping for single ids.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._young or event_id in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def update(self, event_ids: Iterable[bytes]) -> None:
        """Add ids, oldest first."""
        if not self.size:
            return
        for event_id in event_ids:
            self._young.add(event_id)
            if len(self._young) >= self.size:
                self._old, self._young = self._young, set()


@dataclass(slots=True)
class Draft:
    """A segment that is being collected: encoded records of one stream that wait for their commit."""

    parts: list[bytes] = field(default_factory=list)
    count: int = 0
    size: int = 0
    topics: dict[str, int] = field(default_factory=dict)

    def add(self, topic: str, encoded: bytes) -> None:
        """Append one encoded record.

        Args:
            topic: its topic.
            encoded: its bytes, see :func:`encode`.
        """
        self.parts.append(encoded)
        self.count += 1
        self.size += len(encoded)
        self.topics[topic] = self.topics.get(topic, 0) + 1


@dataclass(slots=True)
class CommitBatch:
    """The records and positions of one commit.

    Args:
        drafts: the records, by stream.
        ids: ids of its vendor events.
        appends: the future of each append, and its result.
        positions: positions to be stored, by (group, stream).
        notes: futures that are done when the positions are durable.
        size: bytes of the records.
    """

    drafts: dict[str, Draft] = field(default_factory=dict)
    ids: dict[bytes, None] = field(default_factory=dict)
    appends: list[tuple[asyncio.Future[Appended], Appended]] = field(default_factory=list)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0

    def add(self, records: bytes, known: KnownIds) -> Appended:
        """Add the records that are not repeats of vendor events, and return which are.

        Args:
            records: see :func:`encode`.
            known: ids of stored events.

        Raises:
            ValueError: see :func:`scan`; no record was added.
        """
        # All records are checked before any record is added.
        placed = [(start, end, raw_id, *_place(topic)) for start, end, topic, raw_id in scan(records)]
        repeated: list[int] = []
        for number, (start, end, raw_id, topic, stream) in enumerate(placed):
            if stream == EVENTS and known.size:
                if raw_id in self.ids or raw_id in known:
                    repeated.append(number)
                    continue
                self.ids[raw_id] = None
            draft = self.drafts.get(stream)
            if draft is None:
                draft = self.drafts[stream] = Draft()
            draft.add(topic, records[start:end])
        self.size += len(records)
        return Appended(frozenset(repeated)) if repeated else ALL_NEW


def checksum(blob: bytes, row_id: int, count: int, appended_at: float, topics: str) -> int:
    """Return the CRC-32 of a segment's bytes and of the other columns of its row.

    Args:
        blob: the records' bytes.
        row_id: key of the row.
        count: number of records.
        appended_at: Unix seconds.
        topics: the column as text.
    """
    return zlib.crc32(f"{row_id} {count} {appended_at!r} {topics}".encode(), zlib.crc32(blob))


def likely_count(count: object, topics: Mapping[str, int], blob: object) -> int:
    """Return the number of records that a damaged row probably had, at least one: two of its three counts agree on it.

    Args:
        count: value of the column.
        topics: records by topic, empty when they cannot be read.
        blob: the records' bytes, or None when they cannot be read.
    """
    found: list[object] = [count, sum(topics.values())]
    most = _MOST_BLIND
    if isinstance(blob, bytes):
        most = len(blob) // _HEAD.size
        with suppress(ValueError):
            found.append(len(scan(blob)))
    likely = [one for one in found if isinstance(one, int) and 0 < one <= most]
    return max([one for one in likely if likely.count(one) > 1] or likely, default=1)


def decode(blob: bytes, *, partition: str, base: int, count: int, appended_at: float) -> list[Record]:
    """Return the records of a segment whose checksum was right.

    Args:
        blob: the bytes, as stored.
        partition: name of the stream.
        base: offset of the first record.
        count: number of records that the segment was written with.
        appended_at: Unix seconds of the commit.

    Raises:
        JournalDamaged: the bytes are not what was written.
    """
    records: list[Record] = []
    at = 0
    try:
        while at < len(blob):
            topic_len, key_len, headers_len, value_len, raw_id = _HEAD.unpack_from(blob, at)
            at += _HEAD.size
            key_at = at + topic_len
            headers_at = key_at + key_len
            value_at = headers_at + headers_len
            end = value_at + value_len
            records.append(
                Record(
                    partition,
                    base + len(records),
                    appended_at,
                    blob[at:key_at].decode(),
                    blob[key_at:headers_at].decode(),
                    raw_id.hex(),
                    blob[value_at:end],
                    tuple((name, text) for name, text in orjson.loads(blob[headers_at:value_at]))
                    if headers_len
                    else (),
                )
            )
            at = end
    except (struct.error, ValueError, TypeError) as exc:  # TypeError: headers that are no list of pairs
        raise JournalDamaged(f"{partition} offset {base + len(records)}: the record cannot be parsed") from exc
    if at != len(blob) or len(records) != count:
        raise JournalDamaged(
            f"{partition} offsets {base} to {base + count - 1}: {len(records)} of {count} records found"
        )
    return records


class Commit(NamedTuple):
    """Records of one stream that have become durable together.

    Args:
        stream: its name.
        base: offset of the first record.
        length: number of records.
        appended_at: Unix seconds.
        records: their bytes, see :func:`encode`.
    """

    stream: str
    base: int
    length: int
    appended_at: float
    records: bytes


class _Held:
    """One commit, decoded when the first reader needs it."""

    __slots__ = ("_commit", "_records", "size")

    def __init__(self, commit: Commit) -> None:
        self._commit: Commit | None = commit
        self._records: list[Record] = []
        self.size = len(commit.records) + commit.length * _DECODED_BYTES

    def records(self) -> list[Record]:
        if self._commit is not None:
            stream, base, count, appended_at, records = self._commit
            self._records = decode(records, partition=stream, base=base, count=count, appended_at=appended_at)
            self._commit = None
        return self._records


class StreamCache:
    """Records of one stream from ``first`` up to the head, oldest dropped past ``max_bytes``.

    Args:
        first: offset that the next record gets.
        max_bytes: bound on the records together.
    """

    def __init__(self, first: int, max_bytes: int = _CACHE_BYTES) -> None:
        self.first = first
        self.head = first
        self._bases: list[int] = []
        self._held: list[_Held] = []
        self._bytes = 0
        self._max_bytes = max_bytes

    def extend(self, commit: Commit) -> None:
        """Add the records of one commit. A gap before it empties the cache: its offsets are contiguous."""
        if commit.base != self.head:
            self.skip(commit.base)
        held = _Held(commit)
        self._bases.append(commit.base)
        self._held.append(held)
        self.head = commit.base + commit.length
        self._bytes += held.size
        while self._bytes > self._max_bytes:
            self._drop_oldest_half()

    def skip(self, head: int) -> None:
        """Drop all records: the next record has offset ``head``, which does not follow them."""
        self._bases.clear()
        self._held.clear()
        self._bytes = 0
        self.first = self.head = head

    def slice(self, position: int, limit: int) -> list[Record]:
        """Return records from an offset on.

        Args:
            position: the first offset, which must be in the cache.
            limit: at most so many records.
        """
        if position >= self.head:
            return []
        number = bisect_right(self._bases, position) - 1
        start = position - self._bases[number]
        found = self._held[number].records()[start : start + limit]
        while len(found) < limit and (number := number + 1) < len(self._held):
            found += self._held[number].records()[: limit - len(found)]
        return found

    def _drop_oldest_half(self) -> None:
        """Drop half of the commits at once, so that the lists are rarely copied."""
        count = max(1, len(self._held) // 2)
        self._bytes -= sum(held.size for held in self._held[:count])
        del self._held[:count], self._bases[:count]
        self.first = self._bases[0] if self._bases else self.head
