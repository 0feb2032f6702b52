"""Takeover of journals of the old layout, with one for each worker of ``serve``: their records move to the one journal.

``serve --workers N`` had a journal in each folder ``worker-<n>`` below ``journal.dir``. Callbacks in them were
answered with success, so the log process appends their remaining records to its own journal before it serves clients:

* every vendor event that the position of the ``publisher`` has not passed. A journal without that position was never
  published from, and all of its events move;
* the dead letters of the publisher. Events that subscribers have not received are in Kafka and stay there;
* where new subscribers begin, which is stored among the positions.

A crash in the middle is safe. Batches are durable in the journal before the position ``takeover`` of the old one passes
them; the one batch that a crash can leave between the two is recognised, because it is the end of the journal. Events
whose ids the journal knows are stored once. Only when everything is durable, the folder is renamed to
``worker-<n>.taken-over-<Unix time>``. Nothing is deleted: rename the folder back if the older version has to run again;
it then publishes from its own position.

A gateway without Kafka read its one journal from ``worker-0`` if ``ingest.workers`` was more than 1. There the
positions, retries and dead letters of all subscribers matter, so the file itself is moved (:func:`adopt`).
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.errors import JournalDamaged, JournalFull, JournalInUse, JournalUnavailable
from gateway.log import Entry, Gap, Record, gaps
from gateway.log.journal import batch_format, recovery
from gateway.log.journal.lock import FolderLock
from gateway.log.journal.store import FILE_NAME, Store
from gateway.log.journal.streams import EVENTS
from gateway.log.journal.writer import JournalWriter

#: The reader whose position is behind the events that Kafka has acknowledged; :data:`gateway.publisher.GROUP`.
PUBLISHER: Final = "publisher"
_DEAD_LETTERS: Final = f"dlq.{PUBLISHER}"
#: Position in an old journal: everything below is in the one journal.
TAKEOVER: Final = "takeover"
#: Prefix of positions that are times at which subscribers begin; :mod:`gateway.fanout.beginnings`.
_BEGINNINGS: Final = "start."

#: Bytes read and appended at once. Ten times more is in memory several times; ten times less syncs the disk ten times
#: as often.
_BATCH_BYTES: Final = 4 * 1024 * 1024

_NAME: Final = re.compile(r"worker-(\d+)")
_ADVICE: Final = "nothing was deleted: the folder may be deleted once its dead letters were looked at"

_log = structlog.get_logger("gateway.journal")


@dataclass(slots=True)
class Taken:
    """Counts of records of one old journal.

    Args:
        records: records appended to the one journal.
        repeated: vendor events that it had already.
        damaged: records that could not be read.
    """

    records: int = 0
    repeated: int = 0
    damaged: int = 0


def old_folders(base: Path) -> list[Path]:
    """Return the folders of the old layout that contain a journal, ordered by number.

    Args:
        base: ``journal.dir``.
    """
    if not base.is_dir():
        return []
    found = {path: named for path in base.iterdir() if (named := _NAME.fullmatch(path.name))}
    return sorted(
        (path for path in found if (path / FILE_NAME).is_file()), key=lambda path: (int(found[path][1]), path.name)
    )


def adopt(base: Path) -> None:
    """Move the one journal that a gateway without Kafka has in a folder of the old layout to ``base``.

    It does nothing if there is a journal in ``base``, if there are several folders, or if a publisher has read the
    journal. Call it before the journal is opened.

    Args:
        base: ``journal.dir``.

    Raises:
        JournalInUse, JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`; the file is where it was.
    """
    folders = old_folders(base)
    if (base / FILE_NAME).exists() or len(folders) != 1:
        return
    folder = folders[0]
    with ExitStack() as locks, _explained(folder):
        _lock(folder, locks)
        recovery.leftover(folder)
        with closing(Store(folder, is_writer=True)) as store:
            if (PUBLISHER, EVENTS) in store.cursors():
                return
            records = sum(stream.head - stream.floor for stream in store.streams.values())
        if (folder / f"{FILE_NAME}-wal").exists():  # the last connection that closes the file copies and deletes it
            raise JournalUnavailable("another program has the file open: end it (a backup, or an sqlite3 shell)")
        try:
            (folder / FILE_NAME).rename(base / FILE_NAME)
            _sync(folder)
            _sync(base)
        except OSError as exc:
            raise JournalUnavailable(f"the file cannot be moved to {base}: {exc.strerror}") from exc
        _finish(folder, Taken(records))


async def take_over(writer: JournalWriter, base: Path) -> None:
    """Append the remaining records of journals of the old layout to the one journal, and rename their folders.

    Args:
        writer: writer of the one journal, started; no client appends yet.
        base: ``journal.dir``.

    Raises:
        JournalInUse: a process has the lock of one of the folders; nothing was taken over.
        JournalFull: the journal has no room for all of it. The next start continues.
        JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`. The next start continues.
    """
    folders = old_folders(base)
    with ExitStack() as locks:
        for folder in folders:
            with _explained(folder):
                _lock(folder, locks)
        for folder in folders:
            with _explained(folder):
                _finish(folder, await _take(writer, folder))


async def _take(writer: JournalWriter, folder: Path) -> Taken:
    recovery.leftover(folder)
    taken = Taken()
    with closing(Store(folder, is_writer=True)) as old:
        waiting = {
            name: old.streams[name].head - _begin(old, name) for name in (EVENTS, _DEAD_LETTERS) if name in old.streams
        }
        if any(waiting.values()):
            _log.info("journal.taking_over", folder=str(folder), records=sum(waiting.values()))
        try:
            for name in waiting:
                await _copy(writer, old, name, taken)
        except JournalFull as exc:
            raise JournalFull(
                f"the journal has no room for what it still holds: raise journal.max_bytes by {old.used_bytes()} and "
                f"start again, until Kafka has acknowledged it ({exc})"
            ) from exc
        await _copy_beginnings(writer, old)
    return taken


def _begin(old: Store, name: str) -> int:
    """Return the first offset of a stream that is not in the one journal."""
    positions, stream = old.cursors(), old.streams[name]
    passed = max(positions.get((PUBLISHER, name), 0), positions.get((TAKEOVER, name), 0), stream.floor)
    return min(passed, stream.head)


async def _copy(writer: JournalWriter, old: Store, name: str, taken: Taken) -> None:
    """Append the records of one stream in order and in batches, each durable before the position passes it."""
    position, head = _begin(old, name), old.streams[name].head
    is_first = True
    while position < head:
        records, end, damaged = _read(old, name, position, head)
        taken.damaged += damaged
        if records and not (is_first and _ends_with(writer.store, name, records)):
            encoded = [batch_format.encode(Entry(*record[3:])) for record in records]
            appended = await writer.append(b"".join(encoded))
            taken.records += len(records) - len(appended.repeated)
            taken.repeated += len(appended.repeated)
        is_first = False
        old.commit({}, {(TAKEOVER, name): end}, time.time())
        position = end


def _read(old: Store, name: str, position: int, head: int) -> tuple[list[Record], int, int]:
    """Return the next records, the offset behind them, and the number of unreadable ones, which are reported."""
    records: list[Record] = []
    damaged = 0
    segments = old.read(name, position, _BATCH_BYTES)
    end = position if segments else head
    for item in segments:
        info = item[0] if isinstance(item, tuple) else item
        if isinstance(item, tuple):
            records += [record for record in item[1] if record.offset >= position]
        else:
            gaps.report("journal", [TAKEOVER], Gap(name, info.base, info.end - 1, "damaged"))
            damaged += info.end - max(info.base, position)
        end = max(end, info.end)
    return records, end, damaged


def _ends_with(store: Store, name: str, records: Sequence[Record]) -> bool:
    """Return whether these records are the newest of a stream: the process crashed before it stored their position."""
    stream = store.streams.get(name)
    if stream is None or stream.head - stream.floor < len(records):
        return False
    first = stream.head - len(records)
    there = [
        record[3:]
        for item in store.read(name, first, 2 * _BATCH_BYTES)
        if isinstance(item, tuple)
        for record in item[1]
        if record.offset >= first
    ]
    return there == [record[3:] for record in records]


async def _copy_beginnings(writer: JournalWriter, old: Store) -> None:
    """Copy the times at which new subscribers begin; of two times the earlier one counts, and 0 is no time."""
    known = writer.store.cursors()
    begins = {
        place: since
        for place, since in old.cursors().items()
        if place[0].startswith(_BEGINNINGS) and since and not 0 < known.get(place, 0) <= since
    }
    if begins:
        await writer.note(begins)


def _lock(folder: Path, locks: ExitStack) -> None:
    lock = FolderLock(folder)
    lock.acquire()
    locks.callback(lock.release)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Add to errors within what the folder is, and what to do with it."""
    about = f"{folder}, a journal of the layout with one for each worker: "
    try:
        yield
    except JournalInUse as exc:
        holder = re.search(r"process (\w+)", str(exc))
        raise JournalInUse(
            f"{about}in use by process {holder[1] if holder else 'unknown'}, a gateway of an older version: stop it, "
            "then start this one, which takes the journal over"
        ) from exc
    except JournalDamaged as exc:
        raise JournalDamaged(
            f"{about}it cannot be taken over: {exc}. What was not taken over yet stays in it; move it out of "
            f"{folder.parent} to start without its events"
        ) from exc
    except (JournalFull, JournalUnavailable) as exc:
        raise type(exc)(f"{about}{exc}. What was not taken over yet stays in it") from exc


def _finish(folder: Path, taken: Taken) -> None:
    """Rename the folder: everything in it is durable elsewhere."""
    now = int(time.time())
    names = (folder.with_name(f"{folder.name}.taken-over-{number}") for number in itertools.count(now))
    name = next(name for name in names if not name.exists())
    about = {"records": taken.records, "repeated": taken.repeated, "damaged": taken.damaged}
    try:
        folder.rename(name)
        _sync(folder.parent)
    except OSError as exc:  # perhaps a mounted volume; at each start the position shows that nothing is left
        _log.warning("journal.taken_over", folder=str(folder), **about, advice=f"rename it: {exc.strerror}; {_ADVICE}")
    else:
        _log.info("journal.taken_over", folder=str(name), **about, advice=_ADVICE)


def _sync(folder: Path) -> None:
    """Make names in a folder durable.

    Raises:
        OSError: they are not.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
