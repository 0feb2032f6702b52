"""Fill the index from the journal, after the answer to the platform: a reader in a thread, with pauses.

Its cost for other work is bounded. Computing the keys of a slice locks the interpreter for a third of a millisecond.
While the indexer is behind, it works a quarter of the time; otherwise it waits for a thousand records, or for a second.
A query does not wait for this pause: records that are not indexed yet are indexed first. The index stores its position
in the same transaction as the keys, so both agree after any crash, and records that were not stored are read from the
journal again. An index that is missing, broken or of another version is deleted and built again while the gateway
runs; the lag has the number of records that are not indexed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from gateway.errors import GatewayError, Transient
from gateway.log import Entry, Record, gaps
from gateway.log.journal import EVENTS, Journal, JournalReader
from gateway.search import index as files
from gateway.search.index import Index, KeysOf, Published
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Records indexed without a pause. A pause lasts until about half as many arrive. With ten times as many, the journal's
#: memory would not have them any more, and reading them from the file costs as much as indexing them.
_BATCH: Final = 2048
#: Shortest pause, seconds.
_REST_S: Final = 0.01
#: Longest pause, seconds: the delay after which an event is in the index.
_LINGER_S: Final = 1.0
#: Largest lag, in records, for which a query waits. With a larger lag it answers from the indexed records.
_WORTH_WAITING: Final = 20_000
#: Pause as a multiple of the work before it, while behind: at most a quarter of one core.
_REST: Final = 3.0
_WAIT_S: Final = 1.0
_RETRY_S: Final = 5.0
_TRIM_S: Final = 30.0
#: Published records whose positions are not stored yet. Positions of further records are not stored.
_MAX_PUBLISHED: Final = 200_000

_T = TypeVar("_T")
_log = structlog.get_logger("gateway.search")


class Indexer:
    """Keeps the index up to date with the journal.

    Args:
        journal: opened before the start, and closed after the stop.
        folder: the journal's folder, in which the index lies.
        streams: indexed streams of the journal → function that computes the keys of records.
    """

    def __init__(self, journal: Journal, folder: Path, streams: Mapping[str, KeysOf]) -> None:
        self._journal = journal
        self._folder = folder
        self._streams = streams
        self._pool = ThreadPoolExecutor(1, "search")
        self._index: Index | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: dict[str, JournalReader] = {}
        #: By stream that is read: everything below can be found.
        self._done: dict[str, int] = {}
        self._published: list[Published] = []
        self._published_records = 0
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        self._started_at = time.time()
        #: Called with each indexed batch of a stream, on the event loop. It must be quick.
        self.on_batch: Callable[[str, Sequence[Record]], None] = lambda stream, records: None

    async def start(self) -> None:
        """Open or create the index, and start to fill it. Call it once. An unavailable index is not an error here."""
        try:
            self._index = await self._in_pool(partial(_opened, self._folder))
        except (Transient, sqlite3.Error) as exc:
            _log.warning("search.not_now", error=str(exc))
        self._tasks = [
            asyncio.create_task(self._run(stream, keys_of), name=f"search-{stream}")
            for stream, keys_of in self._streams.items()
        ]
        self._tasks.append(asyncio.create_task(self._housekeep(), name="search-housekeeping"))

    async def stop(self) -> None:
        """Stop, and close the index. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.close()
        opened, self._index = self._index, None
        if opened is not None:
            await self._in_pool(opened.close)
        self._pool.shutdown(wait=True)

    @property
    def lag(self) -> int:
        """Number of records in the journal that are not indexed yet."""
        return sum(max(0, self._journal.head(stream) - self._indexed(stream)) for stream in self._streams)

    def _indexed(self, stream: str) -> int:
        """Return the position below which all records can be found."""
        reader = self._readers.get(stream)
        return self._journal.floor(stream) if reader is None else self._done[stream]

    async def caught_up(self, timeout_s: float = 10.0) -> bool:
        """Wait until the present records of the journal are indexed; return False after ``timeout_s`` seconds."""
        heads = {stream: self._journal.head(stream) for stream in self._streams}
        try:
            async with asyncio.timeout(timeout_s):
                while any(stream not in self._readers or self._indexed(stream) < heads[stream] for stream in heads):
                    self._moved.clear()
                    self._hurry.set()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def ask(self, question: Callable[[Index], _T]) -> _T:
        """Return the result of a query, which runs in the index's thread after the newest events are indexed.

        Raises:
            Transient: the index cannot be read now, or is being built again.
        """
        if 0 < self.lag <= _WORTH_WAITING:
            await self.caught_up(_LINGER_S)
        try:
            return await self._do(question)
        except sqlite3.Error as exc:
            raise Transient(f"the search index cannot be read: {exc}") from exc

    def published(self, topic: str, partition: int, kafka_offset: int, records: Sequence[Entry | Record]) -> None:
        """Note the position of a batch in Kafka. The publisher calls it; it never blocks.

        Args:
            topic: of the batch.
            partition: of the batch.
            kafka_offset: of its first record; -1 if not known.
            records: of the batch; those without an offset in the journal are skipped.
        """
        places = [record.offset for record in records if isinstance(record, Record)]
        if places and self._published_records + len(places) <= _MAX_PUBLISHED:
            self._published.append(Published(topic, partition, kafka_offset, places))
            self._published_records += len(places)

    # -- one stream ---------------------------------------------------------------------------------------------

    async def _run(self, stream: str, keys_of: KeysOf) -> None:
        gauge = METRICS.gauge("gateway_search_lag_records")
        linger_s = _LINGER_S
        while True:
            try:
                reader = self._readers.get(stream) or await self._open(stream)
                records = await reader.fetch(max_records=_BATCH, wait_s=_WAIT_S)
                gauge.set(self.lag)
                for gap in records.gaps:
                    if gap.reason == "damaged":  # no other reader may report it; expired records are not reported
                        gaps.report("journal", ["search"], gap)
                if records:
                    took_s = await self._take(stream, reader, records, keys_of)
                    linger_s = min(_LINGER_S, max(_REST_S, linger_s) * _BATCH / 2 / len(records))
                    await self._rest(took_s * _REST if len(records) == _BATCH else linger_s)
                else:
                    self._done[stream] = reader.position  # what could not be read at the end was passed over
                    self._moved.set()
            except Exception as exc:  # the top of a task
                if isinstance(exc, (GatewayError, sqlite3.Error)):
                    await self._trouble(exc)
                else:
                    _log.exception("search.broke", stream=stream, error=redaction.fault(exc))
                await self._let_go(stream)
                await asyncio.sleep(_RETRY_S)

    async def _let_go(self, stream: str) -> None:
        """Close the reader; its successor fetches the records that are not indexed again."""
        reader = self._readers.pop(stream, None)
        if reader is not None:
            with suppress(GatewayError):
                await reader.close()

    async def _open(self, stream: str) -> JournalReader:
        """Return a reader at the index's position, which may be older than the journal's oldest record."""
        topics = [] if stream == EVENTS else [stream]
        reader = await self._journal.browse("search", topics, start="earliest")
        position = await self._do(lambda opened: opened.position(stream))
        if position is not None and position > self._journal.head(stream):
            # The index was built from another journal.
            await reader.close()
            raise sqlite3.DatabaseError("the index is ahead of its journal")
        await reader.seek(stream, position or 0)
        self._done[stream] = reader.position
        self._readers[stream] = reader
        self._moved.set()
        return reader

    async def _take(self, stream: str, reader: JournalReader, records: Sequence[Record], keys_of: KeysOf) -> float:
        """Index records; return the time that it took, in seconds."""
        started = time.perf_counter()
        end = reader.position
        await self._do(lambda opened: opened.add(stream, records, keys_of, end))
        took_s = time.perf_counter() - started
        self._done[stream] = end
        self._moved.set()
        if stream == EVENTS:
            self._count(records)
        self.on_batch(stream, records)
        return took_s

    async def _rest(self, seconds: float) -> None:
        """Wait for ``seconds``, or until a query needs the records that are not indexed."""
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def _count(self, records: Sequence[Record]) -> None:
        counter = METRICS.counter("gateway_topic_events")
        for topic, count in Counter(one.topic for one in records if one.appended_at >= self._started_at).items():
            counter.labels(topic).inc(count)

    async def _do(self, work: Callable[[Index], _T]) -> _T:
        if self._index is None:
            raise Transient("the search index is being made again; try in a while")
        return await self._in_pool(partial(work, self._index))

    async def _trouble(self, exc: Exception) -> None:
        """Handle an error: wait for a full or failing disk, and build a broken index again."""
        if self._index is None:
            with suppress(Transient, sqlite3.Error):
                self._index = await self._in_pool(partial(_opened, self._folder))
            return
        if not isinstance(exc, sqlite3.DatabaseError) or isinstance(exc, sqlite3.OperationalError):
            _log.warning("search.not_now", error=str(exc))
            return
        _log.warning("search.rebuilt", reason=str(exc))
        opened, self._index = self._index, None
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await reader.close()
        if opened is not None:
            await self._in_pool(opened.close)
            await self._in_pool(partial(files.remove, self._folder))
        self._index = await self._in_pool(partial(_opened, self._folder))

    # -- everything else ----------------------------------------------------------------------------------------

    async def _housekeep(self) -> None:
        trimmed_at = 0.0
        while True:
            await asyncio.sleep(_LINGER_S)
            try:
                await self.note_published()
                if time.monotonic() - trimmed_at >= _TRIM_S:
                    trimmed_at = time.monotonic()
                    await self.trim()
            except (GatewayError, sqlite3.Error) as exc:
                _log.warning("search.not_now", error=str(exc))
                await asyncio.sleep(_RETRY_S)

    async def note_published(self) -> None:
        """Store the noted positions in Kafka. It runs every second, and before a query for a position."""
        batches, self._published, self._published_records = self._published, [], 0
        try:
            await self._do(lambda opened: opened.add_published(batches))
        except BaseException:
            self._published[:0] = batches
            self._published_records = sum(len(batch.places) for batch in self._published)
            raise

    async def trim(self) -> None:
        """Delete keys of expired records. It runs periodically."""
        for stream in self._streams:
            floor = self._journal.floor(stream)
            await self._do(partial(_trim, stream=stream, floor=floor))

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


def _opened(folder: Path) -> Index:
    try:
        return Index(folder)
    except sqlite3.OperationalError as exc:
        raise Transient(f"the search index cannot be opened: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        _log.warning("search.rebuilt", reason=str(exc))
        files.remove(folder)
        return Index(folder)


def _trim(opened: Index, *, stream: str, floor: int) -> None:
    opened.trim(stream, floor)
    if stream == EVENTS:
        opened.trim_published(floor)
