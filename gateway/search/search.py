"""Queries: events by a text, the newest events of a callback, all data of one event.

Results are read from the journal; the index has only their offsets. Each result is compared with the query, so a
collision of hashes cannot produce a wrong result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.fanout import attempts
from gateway.fanout.attempts import Attempt
from gateway.log import Record
from gateway.log.journal import EVENTS, Journal
from gateway.search.index import Index
from gateway.search.indexer import Indexer
from gateway.search.keys import asked, callback_of, keys_of_attempts, keys_of_events, matches, parsed
from gateway.search.run import Kind

#: Records examined for one result page; a page that ends here has the offset of the next one.
_MAX_LOOKED_AT: Final = 5000
#: Range of offsets of one question to the index, when all events of a topic are read.
_STRETCH: Final = 65_536
_READ_BYTES: Final = 1024 * 1024


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
        before: only offsets below it; for the next page.
        limit: records on a page.
    """

    text: str = ""
    callback: str = ""
    topic: str = ""
    type: str = ""
    since: float | None = None
    until: float | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Records, newest first.

    Args:
        records: newest first.
        next: value of ``before`` for the next page; None on the last page.
    """

    records: list[Record]
    next: int | None


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

    async def find(self, query: Query) -> Found:
        """Return the events that match a query, newest first.

        Raises:
            Transient: the index or the journal cannot be read now.
        """
        floor, below = await self._range(query)
        found: list[Record] = []
        looked_at = 0
        async with aclosing(self._candidates(query, floor, below)) as candidates:
            async for record in candidates:
                if len(found) == query.limit:
                    return Found(found, found[-1].offset)
                if looked_at == _MAX_LOOKED_AT:
                    return Found(found, record.offset + 1)
                looked_at += 1
                if _is_asked(record, query):
                    found.append(record)
        return Found(found, None)

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
            offsets = await self._of_kind(Kind(topic), start, min(start + _STRETCH, below), _STRETCH)
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
        """Return the recorded attempts of an event, in the order of time."""
        found: list[Attempt] = []
        floor = self._journal.floor(attempts.TOPIC)
        for offset in await self.indexer.ask(lambda index: index.find(attempts.TOPIC, event_id, floor=floor)):
            record = await self._record(offset, attempts.TOPIC)
            if record is not None:
                found += [attempt for attempt in attempts.read(record) if attempt.event_id == event_id]
        return sorted(found, key=lambda attempt: attempt.at)

    async def published(self, record: Record) -> tuple[int, int] | None:
        """Return partition and offset in Kafka (-1: not known); None if no position was stored."""
        await self.indexer.note_published()
        return await self.indexer.ask(lambda index: index.published(record.topic, record.offset))

    async def _range(self, query: Query) -> tuple[int, int]:
        floor, below = self._journal.floor(EVENTS), self._journal.head(EVENTS)
        if query.since is not None:
            floor = max(floor, await self._journal.offset_at(EVENTS, query.since))
        if query.until is not None:
            below = min(below, await self._journal.offset_at(EVENTS, query.until))
        return floor, below if query.before is None else min(below, query.before)

    async def _candidates(self, query: Query, floor: int, below: int) -> AsyncGenerator[Record, None]:
        """Yield the records that may match, newest first."""
        kind = Kind(query.topic, query.type, query.callback)
        if query.text.strip():
            offsets = await self._with_keys(asked(query.text), floor, below)
        elif any(kind):
            offsets = await self._of_kind(kind, floor, below, _MAX_LOOKED_AT)
        else:
            async for record in self._backward(floor, below):
                yield record
            return
        async for record in self._at(offsets):
            yield record

    async def _at(self, offsets: Iterable[int]) -> AsyncGenerator[Record, None]:
        """Yield the records at offsets; the records of one commit are read together."""
        cached: dict[int, Record] = {}
        for offset in offsets:
            if offset not in cached:
                cached = {record.offset: record for record in await self._segment(EVENTS, offset)}
            if offset in cached:
                yield cached[offset]

    async def _with_keys(self, keys: Sequence[str], floor: int, below: int) -> Sequence[int]:
        """Return the offsets at which the index has one of the keys, newest first."""
        offsets: set[int] = set()
        for key in keys:
            find = partial(Index.find, stream=EVENTS, key=key, floor=floor, below=below, limit=_MAX_LOOKED_AT)
            offsets.update(await self.indexer.ask(find))
        return sorted(offsets, reverse=True)[:_MAX_LOOKED_AT]

    async def _of_kind(self, kind: Kind, floor: int, below: int, limit: int) -> Sequence[int]:
        """Return the offsets at which the index has events of a kind, newest first."""
        find = partial(Index.of_kind, stream=EVENTS, kind=kind, floor=floor, below=below, limit=limit)
        return await self.indexer.ask(find)

    async def _backward(self, floor: int, below: int) -> AsyncGenerator[Record, None]:
        """Yield all records from the newest to the oldest, one range at a time."""
        step = 64
        while below > floor:
            start = max(floor, below - step)
            records: list[Record] = []
            at = start
            while at < below:
                segments = await self._journal.read_file(EVENTS, at, _READ_BYTES)
                if not segments:
                    break
                for segment in segments:
                    records += [record for record in segment.records or () if at <= record.offset < below]
                    at = segment.end
            for record in reversed(records):
                yield record
            below = start
            step = min(step * 2, 1024)

    async def _record(self, offset: int, stream: str = EVENTS) -> Record | None:
        return next((record for record in await self._segment(stream, offset) if record.offset == offset), None)

    async def _segment(self, stream: str, offset: int) -> list[Record]:
        """Return the records of the commit that contains an offset."""
        found = await self._journal.read_file(stream, offset, 1)
        return (found[0].records or []) if found else []


def _is_asked(record: Record, query: Query) -> bool:
    if query.topic and record.topic != query.topic:
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
