"""Queries: events by a text, the newest events of a callback, all data of one event.

Results are read from the journal; the index has only their offsets. Each result is compared with the query, so a
collision of hashes cannot produce a wrong result.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.fanout import attempts
from gateway.fanout.attempts import Attempt
from gateway.log import Record
from gateway.log.journal import EVENTS, Journal
from gateway.search.index import EventKind, Index
from gateway.search.indexer import Indexer
from gateway.search.keys import asked, callback_of, keys_of_attempts, keys_of_events, matches, parsed

#: Seconds after which a page ends with what was found so far, and with the offset of the next page.
PATIENCE_S: Final = 1.0
#: Range of offsets of one question to the index, when all events of a topic are read.
_STRETCH: Final = 65_536
#: Records read at once, first and at most: a page of the newest events needs few, a rare condition all of them.
_FIRST, _MOST = 64, 1024
#: Records of attempts read for one page of events; each has up to 500 attempts of one second.
_MOST_ATTEMPT_RECORDS: Final = 2000
_READ_BYTES: Final = 1024 * 1024

#: A further condition, asked for many records at once: returns those that meet it, in their order.
Keep = Callable[[list[Record]], Awaitable[list[Record]]]


@dataclass(frozen=True, slots=True)
class Query:
    """A query; a result matches all given conditions.

    Args:
        text: an id of any kind, or a phone number.
        callback: name of the callback.
        topic: topic of the event.
        type: type of the event.
        since: stored at or after this time, Unix seconds.
        until: stored before this time, Unix seconds.
        key_prefix: beginning of the key (message id, call id, …), without regard to case. No index has it: records are
            read until the page is full.
        before: only offsets below it; for the page of older events.
        after: only offsets above it, the oldest of them; for the page of newer events.
        limit: records on a page.
    """

    text: str = ""
    callback: str = ""
    topic: str = ""
    type: str = ""
    since: float | None = None
    until: float | None = None
    key_prefix: str = ""
    before: int | None = None
    after: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page.

    Args:
        records: newest first.
        next: value of ``before`` for the older events; None if there are none.
        newer: value of ``after`` for the newer events; None if there are none now.
        looked_to: if the page ended because looking took too long: when the last event that was looked at was stored,
            Unix seconds. None if the page is full, or the end is reached.
    """

    records: list[Record]
    next: int | None
    newer: int | None
    looked_to: float | None = None


class Search:
    """Finds events of one journal.

    Args:
        journal: opened before the start.
        folder: the journal's folder.
        with_attempts: whether the journal has the delivery attempts (without Kafka).
    """

    def __init__(self, journal: Journal, folder: Path, *, with_attempts: bool) -> None:
        self._journal = journal
        self.has_attempts = with_attempts
        streams = {EVENTS: keys_of_events}
        if with_attempts:
            streams[attempts.TOPIC] = keys_of_attempts
        self.indexer = Indexer(journal, folder, streams)

    async def start(self) -> None:
        """Start the indexer."""
        await self.indexer.start()

    async def stop(self) -> None:
        """Stop the indexer. May be called twice, or before the start."""
        await self.indexer.stop()

    async def find(self, query: Query, keep: Keep | None = None, *, patience_s: float = PATIENCE_S) -> SearchPage:
        """Return the events that match a query, newest first.

        Args:
            query: what is asked for.
            keep: a further condition.
            patience_s: the page ends with what was found after so many seconds.

        Raises:
            Transient: the index or the journal cannot be read now.
        """
        floor, below = await self._range(query)
        is_upward = query.after is not None
        found: list[Record] = []
        end = below if is_upward else floor
        edge, looked_to = end, None
        deadline = time.monotonic() + patience_s
        async with aclosing(self._groups(query, floor, below, is_upward=is_upward)) as groups:
            async for group_edge, records in groups:
                wanted = [record for record in records if _is_asked(record, query)]
                found += await keep(wanted) if keep is not None and wanted else wanted
                if len(found) >= query.limit:
                    edge = _edge(found, query.limit, group_edge, is_upward=is_upward)
                    break
                if time.monotonic() >= deadline and group_edge != edge:
                    edge, looked_to = group_edge, await self._stored_at(group_edge - is_upward)
                    break
        return self._page(query, found[: query.limit], None if edge == end else edge, looked_to)

    def _page(self, query: Query, found: list[Record], edge: int | None, looked_to: float | None) -> SearchPage:
        """Return a page; its cursors are offsets, so that they mean the same while further events come in.

        Args:
            edge: what is behind it, in the direction of reading, was not looked at; None: everything was.
        """
        if query.after is not None:
            older = query.after + 1 if query.after >= self._journal.floor(EVENTS) else None
            return SearchPage(found[::-1], older, None if edge is None else edge - 1, looked_to)
        has_newer = query.before is not None and query.before < self._journal.head(EVENTS)
        return SearchPage(found, edge, query.before - 1 if has_newer and query.before is not None else None, looked_to)

    async def of_topic(
        self, topic: str, *, since: float | None = None, until: float | None = None, is_newest_first: bool = False
    ) -> AsyncGenerator[Record, None]:
        """Yield all events of a topic in the order of the journal, or in the opposite order, without a limit.

        The events of one commit are read together, and released before the next ones are read.

        Args:
            topic: topic of the events.
            since: stored at or after this time, Unix seconds.
            until: stored before this time, Unix seconds.
            is_newest_first: yield in the opposite order.

        Raises:
            Transient: the index or the journal cannot be read now.
        """
        floor, below = await self._range(Query(since=since, until=until))
        stretches = range(floor, below, _STRETCH)
        for start in reversed(stretches) if is_newest_first else stretches:
            offsets = await self._of_kind(EventKind(topic), start, min(start + _STRETCH, below))
            async for record in self._at(offsets if is_newest_first else reversed(offsets)):
                if record.topic == topic:
                    yield record

    async def event(self, event_id: str) -> Record | None:
        """Return the first stored event with an id; None if the journal does not have it, or has it no longer."""
        offsets = await self.indexer.ask(
            lambda index: index.find(EVENTS, event_id.casefold(), floor=self._journal.floor(EVENTS))
        )
        first: Record | None = None
        for record in [await self._record(offset) for offset in offsets]:
            if record is not None and record.id == event_id.casefold():
                first = record
        return first

    async def attempts_of(self, event_id: str) -> list[Attempt]:
        """Return the recorded attempts of an event, with requests and answers, in the order of time."""
        found: list[Attempt] = []
        for record in await self._attempt_records([event_id], self._journal.floor(attempts.TOPIC)):
            found += attempts.of_event(record, event_id)
        return sorted(found, key=lambda attempt: attempt.at)

    async def attempts_of_many(self, events: Sequence[Record]) -> dict[str, list[Attempt]]:
        """Return the recorded attempts of several events by their ids, in the order of time."""
        found: dict[str, list[Attempt]] = {record.id: [] for record in events}
        if not events:
            return found
        floor = await self._journal.file.offset_at(attempts.TOPIC, min(record.appended_at for record in events))
        for record in await self._attempt_records(list(found), floor):
            for attempt in attempts.read(record):
                if attempt.event_id in found:
                    found[attempt.event_id].append(attempt)
        return {event_id: sorted(several, key=lambda one: one.at) for event_id, several in found.items()}

    async def _attempt_records(self, event_ids: Sequence[str], floor: int) -> list[Record]:
        """Return the records that have attempts of any of these events."""
        find = partial(Index.find_any, stream=attempts.TOPIC, keys=event_ids, floor=floor, limit=_MOST_ATTEMPT_RECORDS)
        offsets = await self.indexer.ask(find)
        return [record for at in offsets if (record := await self._record(at, attempts.TOPIC)) is not None]

    async def published(self, record: Record) -> tuple[int, int] | None:
        """Return partition and offset in Kafka (-1: not known); None if no position was stored."""
        await self.indexer.note_published()
        return await self.indexer.ask(lambda index: index.published(record.topic, record.offset))

    async def _range(self, query: Query) -> tuple[int, int]:
        floor, below = self._journal.floor(EVENTS), self._journal.head(EVENTS)
        if query.since is not None:
            floor = max(floor, await self._journal.file.offset_at(EVENTS, query.since))
        if query.until is not None:
            below = min(below, await self._journal.file.offset_at(EVENTS, query.until))
        if query.after is not None:
            floor = max(floor, query.after + 1)
        if query.before is not None:
            below = min(below, query.before)
        return floor, below

    async def _groups(
        self, query: Query, floor: int, below: int, *, is_upward: bool
    ) -> AsyncGenerator[tuple[int, list[Record]], None]:
        """Yield the records that may match in the order of reading, some at a time.

        Each group comes with its edge: everything between the beginning and it was looked at.
        """
        kind = EventKind(query.topic, query.type, query.callback)
        has_index = bool(query.text.strip()) or any(kind)
        sizes = (_STRETCH, _STRETCH * 16) if has_index else (_FIRST, _MOST)
        for start, stop in _ranges(floor, below, *sizes, is_upward=is_upward):
            edge = stop if is_upward else start
            if not has_index:
                records = await self._between(start, stop)
                yield edge, records if is_upward else records[::-1]
                continue
            has_text = bool(query.text.strip())
            offsets = self._with_keys(asked(query.text), start, stop) if has_text else self._of_kind(kind, start, stop)
            ordered = sorted(await offsets, reverse=not is_upward)
            size = _FIRST
            while len(ordered) > size:
                group, ordered = ordered[:size], ordered[size:]
                yield group[-1] + is_upward, [record async for record in self._at(group)]
                size = min(2 * size, _MOST)
            yield edge, [record async for record in self._at(ordered)]

    async def _between(self, start: int, stop: int) -> list[Record]:
        """Return the records of a range of offsets."""
        records: list[Record] = []
        at = start
        while at < stop:
            segments = await self._journal.read_file(EVENTS, at, _READ_BYTES)
            if not segments:
                break
            for segment in segments:
                records += [record for record in segment.records or () if at <= record.offset < stop]
                at = segment.end
                if at >= stop:
                    break
        return records

    async def _stored_at(self, offset: int) -> float | None:
        """Return when the record at an offset was stored, or the first one behind it."""
        found = await self._journal.read_file(EVENTS, offset, 1)
        records = found[0].records if found else None
        return records[0].appended_at if records else None

    async def _at(self, offsets: Iterable[int]) -> AsyncGenerator[Record, None]:
        """Yield the records at offsets; the records of one commit are read together."""
        cached: dict[int, Record] = {}
        for offset in offsets:
            if offset not in cached:
                cached = {record.offset: record for record in await self._segment(EVENTS, offset)}
            if offset in cached:
                yield cached[offset]

    async def _with_keys(self, keys: Sequence[str], floor: int, below: int) -> Collection[int]:
        """Return the offsets at which the index has one of the keys."""
        offsets: set[int] = set()
        for key in keys:
            find = partial(Index.find, stream=EVENTS, key=key, floor=floor, below=below, limit=below - floor)
            offsets.update(await self.indexer.ask(find))
        return offsets

    async def _of_kind(self, kind: EventKind, floor: int, below: int) -> Sequence[int]:
        """Return the offsets at which the index has events of a kind, newest first."""
        find = partial(Index.of_kind, stream=EVENTS, kind=kind, floor=floor, below=below, limit=below - floor)
        return await self.indexer.ask(find)

    async def _record(self, offset: int, stream: str = EVENTS) -> Record | None:
        return next((record for record in await self._segment(stream, offset) if record.offset == offset), None)

    async def _segment(self, stream: str, offset: int) -> list[Record]:
        """Return the records of the commit that contains an offset."""
        found = await self._journal.read_file(stream, offset, 1)
        return (found[0].records or []) if found else []


def _ranges(floor: int, below: int, first: int, most: int, *, is_upward: bool) -> Iterator[tuple[int, int]]:
    """Yield ranges of offsets in the order of reading, each twice as large as the one before.

    Args:
        first: size of the first.
        most: size of the largest.
    """
    size = first
    while floor < below:
        if is_upward:
            start, stop = floor, min(below, floor + size)
            floor = stop
        else:
            start, stop = max(floor, below - size), below
            below = start
        yield start, stop
        size = min(size * 2, most)


def _edge(found: Sequence[Record], limit: int, group_edge: int, *, is_upward: bool) -> int:
    """Return the edge of a page that is full: behind its last record, or behind the group if nothing of it is left."""
    return group_edge if len(found) == limit else found[limit - 1].offset + is_upward


def _is_asked(record: Record, query: Query) -> bool:
    if query.topic and record.topic != query.topic:
        return False
    if query.key_prefix and not record.key.casefold().startswith(query.key_prefix.casefold()):
        return False
    if query.text.strip() and not matches(record, query.text):
        return False
    if not query.type and not query.callback:
        return True
    event = parsed(record.value)
    is_of_type = not query.type or event.get("type") == query.type
    return is_of_type and (not query.callback or _is_of_callback(record, query.callback))


def _is_of_callback(record: Record, callback: str) -> bool:
    return callback_of(parsed(record.value)) == callback
