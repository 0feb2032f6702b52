"""Journals that no worker has any more: found, and drained to Kafka.

``serve --workers 4`` started as ``--workers 2`` leaves ``worker-2`` and ``worker-3`` behind; a single ``serve`` that
became several leaves the journal in ``journal.dir`` itself. Callbacks in them were answered with success, so they
must reach their topics without anybody remembering them.

Whose is a folder? Nobody keeps a list: a process that uses a journal holds its lock (``flock``), and the kernel lets go
of it when the process dies. So an orphan is a folder with a journal that none of the present workers has by its
number, and whose lock can be had. Several processes may look at once; the lock decides, and who comes second goes
on. A worker that comes back while its old journal is being drained waits for the lock like after any crash: it dies
with ``JournalInUse`` and is started again.

Only journals that a publisher has read before are drained: one that only ever was an embedded log has delivered its
events itself. A drained journal stays where it is (its dead letters can be looked up); it is opened once more by each
process that looks, found to hold nothing, and let alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from gateway.errors import Broken, GatewayError, JournalInUse
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.journal.lock import FolderLock
from gateway.log.journal.store import FILE_NAME
from gateway.log.kafka.options import KafkaOptions
from gateway.publisher import GROUP, Publisher
from gateway.telemetry import redaction

#: Between looks for orphans. A process that died minutes ago has its journal drained by then.
LOOK_S: Final = 30.0
#: Between looks at how far a drain has come.
_PROGRESS_S: Final = 0.2

_log = structlog.get_logger("gateway.orphans")


def ownerless(folder: Path, owned: Collection[Path]) -> list[Path]:
    """Folders with a journal that nobody holds: ``folder`` itself, and those directly below it.

    Args:
        folder: ``journal.dir``.
        owned: folders of the present workers, whether they are running now or not.
    """
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())] if folder.is_dir() else []
    mine = {path.resolve() for path in owned}
    return [place for place in places if (place / FILE_NAME).is_file() and place.resolve() not in mine and _free(place)]


def _free(folder: Path) -> bool:
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except GatewayError:
        return False
    lock.release()
    return True


async def drain(folder: Path, options: KafkaOptions, retention: Retention) -> int:
    """Publish what an ownerless journal still holds; how many records that were. Waits out outages of Kafka.

    Raises:
        JournalInUse: somebody was faster.
        JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`.
    """
    journal = Journal(folder, retention)
    await journal.start()
    try:
        position = journal.cursors().get((GROUP, EVENTS))
        waiting = 0 if position is None else journal.head(EVENTS) - position
        if waiting <= 0:
            return 0
        publisher = Publisher(journal, options, name="orphan")
        await publisher.start()
        try:
            while await publisher.lag():  # noqa: ASYNC110  # a cursor has no event to wait for
                await asyncio.sleep(_PROGRESS_S)
        finally:
            await publisher.stop()
        return waiting
    finally:
        await journal.stop()


class Orphanage:
    """Looks for ownerless journals all the time and drains them, one after another. One per machine is enough.

    Args:
        folder: ``journal.dir``.
        owned: folders of the present workers.
        retention: as of the workers' own journals.
    """

    def __init__(
        self,
        folder: Path,
        owned: Collection[Path],
        options: KafkaOptions,
        retention: Retention,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._folder = folder
        self._owned = owned
        self._options = options
        self._retention = retention
        self._look_s = look_s
        self._drained: set[Path] = set()
        self._runner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look, in the background. A second call does nothing."""
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="orphans")

    async def stop(self) -> None:
        """Let go of what is being drained; the next one goes on from its cursor. May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])

    async def _run(self) -> None:
        while True:
            try:
                places = await asyncio.to_thread(ownerless, self._folder, self._owned)
            except OSError as exc:
                _log.warning("journal.orphans_not_now", folder=str(self._folder), error=str(exc))
                places = []
            for place in places:
                if place not in self._drained:
                    await self._drain(place)
            await asyncio.sleep(self._look_s)

    async def _drain(self, place: Path) -> None:
        try:
            count = await drain(place, self._options, self._retention)
        except JournalInUse:
            return
        except Broken as exc:
            _log.error("journal.orphan_damaged", folder=str(place), error=str(exc))
            self._drained.add(place)
            return
        except GatewayError as exc:
            _log.warning("journal.orphan_not_now", folder=str(place), error=str(exc))
            return
        except Exception as exc:  # the top of a task: one that ends would leave all orphans where they are
            _log.exception("journal.orphan_failed", folder=str(place), error=redaction.fault(exc))
            return
        self._drained.add(place)
        if count:
            _log.info("journal.orphan_drained", folder=str(place), records=count)
